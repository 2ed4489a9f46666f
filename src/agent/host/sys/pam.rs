//! The host's PAM library: loaded when it is needed, as our programs run on hosts without one.

use std::ffi::{CStr, CString, OsStr, OsString, c_char, c_int, c_void};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::ptr;
use std::sync::{Arc, Mutex, PoisonError};

use nix::libc;

/// What PAM's calls give back: 0, or a number that [`Pam::explain`] explains.
pub(in crate::agent::host) type PamStatus = c_int;

/// A step of a login through PAM that takes nothing but flags.
#[derive(Debug, Clone, Copy)]
pub(in crate::agent::host) enum PamStep {
    /// Whether the account may log in now.
    Account,
    /// Credentials and groups of the user.
    Credentials,
    /// What a session begins with.
    Open,
    /// And ends with.
    Close,
    /// Credentials are taken back.
    Forget,
}

/// Something that PAM wants the person to know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::agent::host) struct PamWord {
    /// It says that something is wrong.
    pub(in crate::agent::host) is_error: bool,
    /// The words.
    pub(in crate::agent::host) text: String,
}

/// A login through the host's PAM library, which is loaded when it is needed: our programs run on
/// hosts without one.
pub(in crate::agent::host) struct Pam {
    functions: PamFunctions,
    handle: *mut c_void,
    said: Arc<Mutex<Vec<PamWord>>>,
    status: PamStatus,
}

type Handle = *mut c_void;

struct PamFunctions {
    start: unsafe extern "C" fn(
        *const c_char,
        *const c_char,
        *const PamConversation,
        *mut Handle,
    ) -> PamStatus,
    end: unsafe extern "C" fn(Handle, PamStatus) -> PamStatus,
    set_item: unsafe extern "C" fn(Handle, c_int, *const c_void) -> PamStatus,
    account: unsafe extern "C" fn(Handle, c_int) -> PamStatus,
    credentials: unsafe extern "C" fn(Handle, c_int) -> PamStatus,
    open: unsafe extern "C" fn(Handle, c_int) -> PamStatus,
    close: unsafe extern "C" fn(Handle, c_int) -> PamStatus,
    environment: unsafe extern "C" fn(Handle) -> *mut *mut c_char,
    explain: unsafe extern "C" fn(Handle, PamStatus) -> *const c_char,
}

#[repr(C)]
struct PamConversation {
    converse: extern "C" fn(
        c_int,
        *const *const PamMessage,
        *mut *mut PamResponse,
        *const c_void,
    ) -> PamStatus,
    data: *const c_void,
}

#[repr(C)]
struct PamMessage {
    style: c_int,
    text: *const c_char,
}

#[repr(C)]
struct PamResponse {
    text: *mut c_char,
    code: c_int,
}

impl Pam {
    const SUCCESS: PamStatus = 0;
    const BUFFER_ERROR: PamStatus = 5;
    const CONVERSATION_ERROR: PamStatus = 19;
    const TERMINAL: c_int = 3;
    const ESTABLISH: c_int = 2;
    const DELETE: c_int = 4;
    const ERROR_MESSAGE: c_int = 3;
    const INFORMATION: c_int = 4;

    /// Loads `library` and begins a login of `user` by the rules of `service`; the error is the
    /// loader's text.
    #[expect(unsafe_code, reason = "a library that is loaded when it is needed")]
    pub(in crate::agent::host) fn start(
        library: &CStr,
        service: &CStr,
        user: &CStr,
    ) -> Result<Self, String> {
        // Modules may rely on the library's names.
        // SAFETY: the name outlives the call. What a host's PAM does when it is loaded is the host's.
        let loaded = unsafe { libc::dlopen(library.as_ptr(), libc::RTLD_NOW | libc::RTLD_GLOBAL) };
        if loaded.is_null() {
            return Err(loader_error());
        }
        // SAFETY: the types are those of the functions, which have not changed since Linux-PAM has
        // had this name; the library is never unloaded.
        let functions = unsafe {
            PamFunctions {
                start: symbol(loaded, c"pam_start")?,
                end: symbol(loaded, c"pam_end")?,
                set_item: symbol(loaded, c"pam_set_item")?,
                account: symbol(loaded, c"pam_acct_mgmt")?,
                credentials: symbol(loaded, c"pam_setcred")?,
                open: symbol(loaded, c"pam_open_session")?,
                close: symbol(loaded, c"pam_close_session")?,
                environment: symbol(loaded, c"pam_getenvlist")?,
                explain: symbol(loaded, c"pam_strerror")?,
            }
        };
        let said = Arc::new(Mutex::new(Vec::new()));
        let conversation = PamConversation {
            converse: listen,
            data: Arc::as_ptr(&said).cast(),
        };
        let mut handle = ptr::null_mut();
        // SAFETY: all that is read outlives the call, which copies the conversation. Its data lives
        // as long as the handle: both belong to the value that is made here.
        let status = unsafe {
            (functions.start)(
                service.as_ptr(),
                user.as_ptr(),
                &raw const conversation,
                &raw mut handle,
            )
        };
        let pam = Self {
            functions,
            handle,
            said,
            status,
        };
        match status {
            Self::SUCCESS => Ok(pam),
            status => Err(pam.explain(status)),
        }
    }

    /// Tells the modules which terminal it is.
    #[expect(unsafe_code, reason = "a call of a library that was loaded")]
    pub(in crate::agent::host) fn set_terminal(&mut self, name: &CStr) -> PamStatus {
        // SAFETY: the handle is open, and the call copies the name.
        unsafe { (self.functions.set_item)(self.handle, Self::TERMINAL, name.as_ptr().cast()) }
    }

    /// Takes a step.
    #[expect(unsafe_code, reason = "a call of a library that was loaded")]
    pub(in crate::agent::host) fn take(&mut self, step: PamStep) -> PamStatus {
        let functions = &self.functions;
        let (function, flags) = match step {
            PamStep::Account => (functions.account, 0),
            PamStep::Credentials => (functions.credentials, Self::ESTABLISH),
            PamStep::Open => (functions.open, 0),
            PamStep::Close => (functions.close, 0),
            PamStep::Forget => (functions.credentials, Self::DELETE),
        };
        // SAFETY: the handle is open.
        self.status = unsafe { function(self.handle, flags) };
        self.status
    }

    /// What a status means.
    #[expect(unsafe_code, reason = "a text of a library that was loaded")]
    pub(in crate::agent::host) fn explain(&self, status: PamStatus) -> String {
        // SAFETY: the call takes a handle of any kind, also none.
        let text = unsafe { (self.functions.explain)(self.handle, status) };
        if text.is_null() {
            return format!("status {status}");
        }
        // SAFETY: it is a text of the library's that stays.
        unsafe { CStr::from_ptr(text) }
            .to_string_lossy()
            .into_owned()
    }

    /// What was said since this was asked last.
    pub(in crate::agent::host) fn take_words(&mut self) -> Vec<PamWord> {
        std::mem::take(&mut *self.said.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// The variables that modules have set.
    #[expect(unsafe_code, reason = "a list of a library that was loaded")]
    pub(in crate::agent::host) fn environment(&self) -> Vec<(OsString, OsString)> {
        let mut variables = Vec::new();
        // SAFETY: the handle is open.
        let list = unsafe { (self.functions.environment)(self.handle) };
        if list.is_null() {
            return variables;
        }
        let mut place = list;
        // SAFETY: the list ends with a null pointer. It and its texts were made with malloc for the
        // caller, who frees each once.
        unsafe {
            while !(*place).is_null() {
                let text = OsStr::from_bytes(CStr::from_ptr(*place).to_bytes());
                variables.extend(variable(text));
                libc::free((*place).cast());
                place = place.add(1);
            }
            libc::free(list.cast());
        }
        variables
    }

    /// Leaves the handle open: for a copy of the process, as what is open is the other one's.
    pub(in crate::agent::host) fn leave(self) {
        std::mem::forget(self);
    }
}

impl Drop for Pam {
    #[expect(unsafe_code, reason = "a call of a library that was loaded")]
    fn drop(&mut self) {
        if !self.handle.is_null() {
            // SAFETY: the handle is open, and nobody has it after this.
            unsafe { (self.functions.end)(self.handle, self.status) };
        }
    }
}

/// What the modules call to talk to the person. Nobody is there to answer, so it only listens.
#[expect(unsafe_code, reason = "called by a library, with its structures")]
extern "C" fn listen(
    count: c_int,
    messages: *const *const PamMessage,
    responses: *mut *mut PamResponse,
    said: *const c_void,
) -> PamStatus {
    /// More than any module says, and too little to hurt.
    const MOST: usize = 32;
    let Some(count) = usize::try_from(count).ok().filter(|&count| count <= MOST) else {
        return Pam::CONVERSATION_ERROR;
    };
    // SAFETY: the pointer is that of the value that `Pam::start` has made, which lives as long as the
    // handle that the library calls for.
    let said = unsafe { &*said.cast::<Mutex<Vec<PamWord>>>() };
    let mut said = said.lock().unwrap_or_else(PoisonError::into_inner);
    for number in 0..count {
        // SAFETY: the library gives so many pointers to messages, each with a text or without.
        let (style, text) = unsafe {
            let message = &**messages.add(number);
            let text = (!message.text.is_null()).then(|| CStr::from_ptr(message.text));
            (message.style, text)
        };
        let is_error = match style {
            Pam::ERROR_MESSAGE => true,
            Pam::INFORMATION => false,
            _ => return Pam::CONVERSATION_ERROR,
        };
        if said.len() < MOST {
            let text = text.unwrap_or_default().to_string_lossy().into_owned();
            said.push(PamWord { is_error, text });
        }
    }
    // SAFETY: the library frees what it is given, so it comes from the C library. All zero is a
    // response without a text.
    let given = unsafe { libc::calloc(count.max(1), size_of::<PamResponse>()) };
    if given.is_null() {
        return Pam::BUFFER_ERROR;
    }
    // SAFETY: the library gives a place for a pointer.
    unsafe { *responses = given.cast() };
    Pam::SUCCESS
}

/// A variable of the form `NAME=value`.
fn variable(text: &OsStr) -> Option<(OsString, OsString)> {
    let bytes = text.as_bytes();
    let end = bytes.iter().position(|&byte| byte == b'=')?;
    let part = |bytes: &[u8]| OsString::from_vec(bytes.to_vec());
    (end > 0).then(|| (part(&bytes[..end]), part(&bytes[end + 1..])))
}

/// Finds a function of a library that was loaded.
///
/// # Safety
/// `F` is the type of that function, and a pointer.
#[expect(
    unsafe_code,
    reason = "the loader does not know the types of functions"
)]
unsafe fn symbol<F: Copy>(library: *mut c_void, name: &CStr) -> Result<F, String> {
    const { assert!(size_of::<F>() == size_of::<*mut c_void>()) }
    // SAFETY: the library is loaded, and the name outlives the call.
    let found = unsafe { libc::dlsym(library, name.as_ptr()) };
    if found.is_null() {
        return Err(loader_error());
    }
    // SAFETY: the sizes are the same, and the caller knows the type.
    Ok(unsafe { std::mem::transmute_copy::<*mut c_void, F>(&found) })
}

/// What the loader says of its last failure.
#[expect(unsafe_code, reason = "a text of the C library's")]
fn loader_error() -> String {
    // SAFETY: the text, if there is one, stays until the loader is called again.
    let text = unsafe {
        let text = libc::dlerror();
        (!text.is_null()).then(|| CString::from(CStr::from_ptr(text)))
    };
    text.map_or_else(
        || "it cannot be loaded".into(),
        |text| text.to_string_lossy().into_owned(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn library_that_is_not_there_or_is_another_is_named() {
        for (library, said) in [
            (c"libno-such-library.so.0", "libno-such-library.so.0"),
            (c"libc.so.6", "pam_start"),
        ] {
            let Err(error) = Pam::start(library, c"other", c"nobody") else {
                panic!("it was used");
            };

            assert!(error.contains(said), "{error}");
        }
    }

    #[test]
    fn variables_have_a_name() {
        let of = |text: &str| variable(OsStr::new(text));

        assert_eq!(of("A=b=c"), Some(("A".into(), "b=c".into())));
        assert_eq!(of("A="), Some(("A".into(), "".into())));
        assert_eq!(of("=b"), None);
        assert_eq!(of("A"), None);
    }
}

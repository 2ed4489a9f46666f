//! What the host's own rules say of a login, where sessions go through PAM.
//!
//! Nobody is authenticated here: who opens a session has proven to the service who they are. PAM says
//! whether the account may log in now, and begins and ends what the host begins and ends with a login.

use std::ffi::{CString, OsString};
use std::path::{Path, PathBuf};

use crate::agent::host::sys::{Pam, PamStatus, PamStep};

/// The library's name since it has had one on Linux.
const LIBRARY: &std::ffi::CStr = c"libpam.so.0";
/// Where services are described. Without a file of theirs PAM would go by the rules for all others,
/// which nobody means who names a service.
const FOLDERS: [&str; 3] = ["/etc/pam.d", "/usr/lib/pam.d", "/usr/etc/pam.d"];
/// Where they all are described on hosts without the first of these folders.
const ONE_FILE: &str = "/etc/pam.conf";
/// Most characters of what modules say that go into a reason.
const REASON: usize = 1000;

/// The account may not log in: the numbers of Linux-PAM.
const DENIED: [PamStatus; 5] = [
    AUTHENTICATION_ERROR,
    PERMISSION_DENIED,
    USER_UNKNOWN,
    ACCOUNT_EXPIRED,
    PASSWORD_EXPIRED_FOR_LONG,
];
const SUCCESS: PamStatus = 0;
const PERMISSION_DENIED: PamStatus = 6;
const AUTHENTICATION_ERROR: PamStatus = 7;
const USER_UNKNOWN: PamStatus = 10;
const PASSWORD_TO_BE_CHANGED: PamStatus = 12;
const ACCOUNT_EXPIRED: PamStatus = 13;
const PASSWORD_EXPIRED_FOR_LONG: PamStatus = 27;

/// Why PAM lets nobody in.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PamError {
    /// The host has no PAM, or another than this one.
    #[error("sessions are configured to log in through PAM, which cannot be used: {reason}")]
    Missing {
        /// What the loader said.
        reason: String,
    },
    /// It has no service of that name.
    #[error("sessions are configured to log in through PAM, which has no service {service}: there is no {}", file.display())]
    NoService {
        /// The service.
        service: String,
        /// Where it is expected.
        file: PathBuf,
    },
    /// The rules say no.
    #[error("user {user} may not log in by the rules of PAM's service {service}: {reason}")]
    Denied {
        /// The user.
        user: String,
        /// The service.
        service: String,
        /// What modules said, and what it means.
        reason: String,
    },
    /// The rules do not work.
    #[error("PAM's service {service} does not work ({step}): {reason}")]
    Broken {
        /// The service.
        service: String,
        /// What was to be done.
        step: &'static str,
        /// What modules said, and what it means.
        reason: String,
    },
}

/// A login that PAM has begun and that has to be ended.
pub(super) struct Login {
    pam: Pam,
}

impl Login {
    /// Begins the login of `user` at `terminal`, if there is one; `tell` shows the person what modules
    /// have to say.
    pub(super) fn begin(
        service: &str,
        user: &str,
        terminal: Option<&Path>,
        mut tell: impl FnMut(&str),
    ) -> Result<Self, PamError> {
        let described = FOLDERS
            .iter()
            .any(|folder| Path::new(folder).join(service).exists());
        let in_one_file = !Path::new(FOLDERS[0]).exists() && Path::new(ONE_FILE).exists();
        if !described && !in_one_file {
            return Err(PamError::NoService {
                service: service.to_owned(),
                file: Path::new(FOLDERS[0]).join(service),
            });
        }
        let mut attempt = Attempt {
            pam: start(service, user)?,
            service,
            user,
        };
        if let Some(name) = terminal.and_then(|path| path.to_str()) {
            let set = attempt.pam.set_terminal(&text(name)?);
            attempt.judge(set, "naming the terminal")?;
        }
        match attempt.pam.take(PamStep::Account) {
            // It is not by a password that this session was opened.
            PASSWORD_TO_BE_CHANGED => {
                tell(&format!("warning: the password of user {user} has expired"));
            }
            status => attempt.judge(status, "account")?,
        }
        let credentials = attempt.pam.take(PamStep::Credentials);
        attempt.judge(credentials, "credentials")?;
        let opened = attempt.pam.take(PamStep::Open);
        let judged = attempt.judge(opened, "session");
        if judged.is_err() {
            attempt.pam.take(PamStep::Forget);
        }
        judged?;
        for word in attempt.pam.take_words() {
            tell(&word.text);
        }
        Ok(Self { pam: attempt.pam })
    }

    /// The variables that the user's environment gets.
    pub(super) fn environment(&self) -> Vec<(OsString, OsString)> {
        self.pam.environment()
    }

    /// Ends it; who could hear of a failure is gone.
    pub(super) fn end(mut self) {
        self.pam.take(PamStep::Close);
        self.pam.take(PamStep::Forget);
    }

    /// Forgets it without an end: in the process of the user, as another one ends it.
    pub(super) fn leave(self) {
        self.pam.leave();
    }
}

struct Attempt<'a> {
    pam: Pam,
    service: &'a str,
    user: &'a str,
}

impl Attempt<'_> {
    fn judge(&mut self, status: PamStatus, step: &'static str) -> Result<(), PamError> {
        if status == SUCCESS {
            return Ok(());
        }
        let mut parts: Vec<String> = self
            .pam
            .take_words()
            .into_iter()
            .filter(|word| word.is_error)
            .map(|word| word.text.split_whitespace().collect::<Vec<_>>().join(" "))
            .filter(|text| !text.is_empty())
            .collect();
        parts.push(self.pam.explain(status));
        let reason = parts.join("; ").chars().take(REASON).collect();
        let service = self.service.to_owned();
        Err(if DENIED.contains(&status) {
            let user = self.user.to_owned();
            PamError::Denied {
                user,
                service,
                reason,
            }
        } else {
            PamError::Broken {
                service,
                step,
                reason,
            }
        })
    }
}

fn start(service: &str, user: &str) -> Result<Pam, PamError> {
    Pam::start(LIBRARY, &text(service)?, &text(user)?)
        .map_err(|reason| PamError::Missing { reason })
}

/// Names of users, services and terminals hold no zero; the kernel passes none in arguments.
fn text(name: &str) -> Result<CString, PamError> {
    CString::new(name).map_err(|error| PamError::Missing {
        reason: error.to_string(),
    })
}

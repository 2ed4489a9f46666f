//! Does what a login plan says: becomes the user and executes the shell.

use std::env;
use std::ffi::{CString, OsString};
use std::io::{self, IsTerminal as _};
use std::os::fd::AsFd as _;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use nix::errno::Errno;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::stat::{Mode, fchmod, umask};
use nix::unistd::{
    Uid, fchown, geteuid, getpid, getsid, initgroups, seteuid, setresgid, setresuid, setsid,
    ttyname,
};

use super::admission::{Purpose, Refusal, admit};
use super::attend::leave_behind;
use super::detach::Report;
use super::pam::{Login, PamError};
use super::plan::{Plan, plan};
use super::presence::Presence;
use super::request::Request;
use crate::agent::host::users::{Account, UserError};
use crate::agent::host::{control_group, sys};
use crate::runtime::exit;

/// Exit code of shells for a program that exists and cannot be executed.
const CANNOT_EXECUTE: u8 = 126;
/// Exit code of shells for a program that does not exist.
const NOT_FOUND: u8 = 127;
/// Mode of a user's terminal: others may not write to it, the group may (as login(1) sets it).
const TERMINAL_MODE: Mode = Mode::from_bits_truncate(0o620);
/// The usual mask; the agent's own is stricter.
const FILE_MODE_MASK: Mode = Mode::from_bits_truncate(0o022);

/// Why a login failed.
#[derive(Debug, thiserror::Error)]
pub enum LoginError {
    /// There is no account to log in to.
    #[error(transparent)]
    User(#[from] UserError),
    /// The account cannot run sessions.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The host's PAM lets nobody in, or not this account.
    #[error(transparent)]
    Pam(#[from] PamError),
    /// Nobody could end what PAM had begun.
    #[error("cannot make a process that ends the login")]
    Attend(#[source] io::Error),
    /// Only root can become somebody else.
    #[error("cannot become user {user}: the agent does not run as root")]
    NotRoot {
        /// The user.
        user: String,
    },
    /// There is no session of processes for the shell.
    #[error("cannot begin a session on the terminal")]
    Session(#[source] io::Error),
    /// The kernel refused one of the steps.
    #[error("cannot become user {user}: {step} failed")]
    Become {
        /// The user.
        user: String,
        /// The step.
        step: &'static str,
        /// What the kernel said.
        #[source]
        source: Errno,
    },
    /// The process could become root again. This must not happen.
    #[error("cannot become user {user}: root's rights could be regained")]
    Regained {
        /// The user.
        user: String,
    },
    /// The shell or command cannot be executed.
    #[error("cannot execute {}", program.display())]
    Execute {
        /// The program.
        program: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
}

impl LoginError {
    /// The exit code for this failure, as shells give it.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::User(_)
            | Self::Refused(_)
            | Self::Pam(_)
            | Self::Attend(_)
            | Self::NotRoot { .. }
            | Self::Session(_)
            | Self::Become { .. }
            | Self::Regained { .. } => exit::FAILURE,
            Self::Execute { source, .. } if source.kind() == io::ErrorKind::NotFound => NOT_FOUND,
            Self::Execute { .. } => CANNOT_EXECUTE,
        }
    }
}

/// Logs in; returns only on failure, which `report`, if it is still there, is to be told.
pub(super) fn run(request: &Request, report: &mut Option<Report>) -> LoginError {
    match prepare(request, report) {
        Ok(plan) => execute(plan),
        Err(error) => error,
    }
}

fn prepare(request: &Request, report: &mut Option<Report>) -> Result<Plan, LoginError> {
    if request.pam_service.is_none() {
        enter_group(request.control_group.as_deref());
    }
    begin_session().map_err(LoginError::Session)?;
    let account = match &request.user {
        Some(name) => Account::named(name)?,
        None => Account::current()?,
    };
    let session_id = request.session_id.as_deref();
    let language = env::var_os("LANG").filter(|language| !language.is_empty());
    let purpose = Purpose {
        is_switch: request.user.is_some(),
        is_command: !request.command.is_empty(),
    };
    admit(&account, purpose)?;
    let mut plan = plan(&account, &request.command, session_id, language);
    shed_the_agent(request.open_files);
    let is_switch = account.uid != geteuid();
    if is_switch {
        grant(&account)?;
    }
    if let Some(service) = &request.pam_service {
        plan.add(log_in(service, request, &account, report)?);
    }
    if is_switch {
        become_user(&account)?;
    }
    if let Err(error) = env::set_current_dir(&account.home) {
        let home = account.home.display();
        eprintln!("warning: cannot enter the home folder {home} ({error}), starting in /");
        plan.set_home("/");
    }
    // What PAM's modules have left open, too.
    if let Err(error) = sys::close_others_on_exec() {
        warn("the open descriptors", &error);
    }
    if let Err(error) = sys::default_signals() {
        warn("the signals", &error);
    }
    Ok(plan)
}

/// Logs in by the rules of a service of the host's PAM, and goes on in a process of its own; this one
/// ends the login when that has ended. Gives the variables that PAM has for the user.
fn log_in(
    service: &str,
    request: &Request,
    account: &Account,
    report: &mut Option<Report>,
) -> Result<Vec<(OsString, OsString)>, LoginError> {
    let terminal = ttyname(io::stdin()).ok();
    let has_terminal = terminal.is_some();
    let login = Login::begin(service, &account.name, terminal.as_deref(), |text| {
        // The output of a command is nobody's but the command's.
        if has_terminal {
            eprintln!("{text}");
        }
    })?;
    let environment = login.environment();
    let id = request.session_id.as_deref();
    let begin = |terminal: PathBuf| Presence::begin(&terminal, &account.name, account.uid, id);
    let presence = terminal.and_then(begin);
    leave_behind(login, presence, report).map_err(LoginError::Attend)?;
    enter_group(request.control_group.as_deref());
    Ok(environment)
}

/// Enters the session's control group before there is any other process of it. A host in trouble is
/// when a login is needed most, so whoever cannot enter goes on without.
fn enter_group(group: Option<&Path>) {
    if let Some(group) = group
        && let Err(error) = control_group::enter(group)
    {
        eprintln!("warning: cannot enter a control group of the session's own: {error}");
    }
}

/// Leads a session of processes from here on, with the terminal, if there is one, as its own.
/// Nothing is left to do for somebody who leads one already and calls this step by hand.
fn begin_session() -> io::Result<()> {
    if getsid(None) == Ok(getpid()) {
        return Ok(());
    }
    setsid()?;
    let input = io::stdin();
    if input.is_terminal() {
        sys::take_terminal(input.as_fd())?;
    }
    Ok(())
}

/// Takes off what an agent has and a shell must not have. None of it is worth refusing a login, and
/// a host in trouble is when a login is needed most.
fn shed_the_agent(open_files: Option<u64>) {
    if let Some(soft) = open_files {
        let reset = getrlimit(Resource::RLIMIT_NOFILE)
            .and_then(|(_, hard)| setrlimit(Resource::RLIMIT_NOFILE, soft.min(hard), hard));
        if let Err(error) = reset {
            warn("the limit of open files", &error.into());
        }
    }
    if let Err(error) = sys::default_signals() {
        warn("the signals", &error);
    }
    if let Err(error) = forget_oom_protection() {
        warn("the protection from the OOM killer", &error);
    }
    umask(FILE_MODE_MASK);
}

fn warn(what: &str, error: &io::Error) {
    eprintln!("warning: cannot reset {what}: {error}");
}

/// The agent may be protected from the OOM killer; what people start in a session must not be.
fn forget_oom_protection() -> io::Result<()> {
    const SCORE: &str = "/proc/self/oom_score_adj";
    let protected = std::fs::read_to_string(SCORE).is_ok_and(|score| score.starts_with('-'));
    if protected {
        std::fs::write(SCORE, "0")?;
    }
    Ok(())
}

/// Gives the user what only root can give: the terminal, and the groups.
fn grant(account: &Account) -> Result<(), LoginError> {
    if !geteuid().is_root() {
        let user = account.name.clone();
        return Err(LoginError::NotRoot { user });
    }
    own_terminal(account).map_err(failed(account, "taking the terminal"))?;
    let name = CString::new(account.name.as_str()).map_err(|_| UserError::Unknown {
        name: account.name.clone(),
    })?;
    initgroups(&name, account.gid).map_err(failed(account, "setting the groups"))
}

fn become_user(account: &Account) -> Result<(), LoginError> {
    let (uid, gid) = (account.uid, account.gid);
    setresgid(gid, gid, gid).map_err(failed(account, "setting the primary group"))?;
    setresuid(uid, uid, uid).map_err(failed(account, "setting the user"))?;
    let regained = !uid.is_root() && seteuid(Uid::from_raw(0)).is_ok();
    if regained {
        let user = account.name.clone();
        return Err(LoginError::Regained { user });
    }
    Ok(())
}

fn failed(account: &Account, step: &'static str) -> impl FnOnce(Errno) -> LoginError {
    let user = account.name.clone();
    move |source| LoginError::Become { user, step, source }
}

/// Programs such as tmux and gpg open the terminal by its name, so it has to be the user's.
fn own_terminal(account: &Account) -> nix::Result<()> {
    let terminal = io::stdin();
    if !terminal.is_terminal() {
        return Ok(());
    }
    match fchown(&terminal, Some(account.uid), None) {
        Err(Errno::EROFS) => Ok(()),
        other => other.and_then(|()| fchmod(&terminal, TERMINAL_MODE)),
    }
}

fn execute(plan: Plan) -> LoginError {
    let source = Command::new(&plan.program)
        .arg0(&plan.argv0)
        .args(&plan.args)
        .env_clear()
        .envs(plan.environment)
        .exec();
    LoginError::Execute {
        program: plan.program,
        source,
    }
}

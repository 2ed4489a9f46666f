//! How sessions run.

use std::ffi::OsString;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::encryption::Keys;
use super::port::{DenyList, Networks};
use super::record::Record;
use super::roster::Roster;
use crate::agent::audit::AuditLog;
use crate::agent::host::control_group::Delegated;
use crate::agent::host::users::Sudo;
use crate::agent::parameter_store::ParameterStore;
use crate::protocol::channel::{self, Window};
use crate::protocol::mux;
use crate::protocol::wire::session_document::Preferences;
use crate::transport::PumpSettings;

/// Sessions at once; the reference's default for `Mgs.SessionWorkersLimit`.
const LIMIT: usize = 1000;
/// Longest wait for acknowledgements of a client that is there: a full send window passes at
/// 140 KB/s.
const LINGER: Duration = Duration::from_secs(30);
/// How long processes that were hung up may take to end; enough for a shell to write its history.
const GRACE: Duration = Duration::from_secs(1);
/// Interval of pings, as the reference agent has it.
const PING_INTERVAL: Duration = Duration::from_secs(54);
/// Silence after which a connection counts as dead: one ping and 60 s for its answer, as the
/// reference agent has it.
const READ_TIMEOUT: Duration = Duration::from_secs(114);
/// How long a lost data channel is dialled again, unless the session may be idle for longer. The gateway
/// ends sessions by its own timers and says so when dialled; this bounds a session whose gateway is
/// gone.
const RECONNECT_FOR: Duration = Duration::from_secs(30 * 60);

/// How sessions run.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The node's id, for the record.
    pub node_id: String,
    /// Most sessions at once.
    pub limit: usize,
    /// Absolute path of a program of ours that takes the login step
    /// ([`login::SUBCOMMAND`](crate::agent::host::login::SUBCOMMAND)).
    pub program: PathBuf,
    /// Soft limit of open files that sessions get, where the agent raised its own.
    pub open_files: Option<u64>,
    /// Language of the agent (`LANG`), handed on to sessions.
    pub language: Option<OsString>,
    /// Whose shell it is.
    pub shell_user: ShellUser,
    /// Where encrypted sessions get their data keys; without it they are refused.
    pub keys: Option<Keys>,
    /// Whether `ssm-user` may use sudo.
    pub sudo: Sudo,
    /// The agent runs in a container: its sessions are its own user's, and an interactive command is
    /// run without a shell.
    pub in_container: bool,
    /// Below which group sessions get groups of their own. Without it, what leaves a session's session of
    /// processes stays when it ends.
    pub control_groups: Option<Delegated>,
    /// The service of the host's PAM by whose rules sessions log in, if by any. Only root can do this.
    pub pam_service: Option<String>,
    /// Where values of Parameter Store come from; without it documents that need some are refused.
    pub parameters: Option<Arc<dyn ParameterStore>>,
    /// Longest wait at the end for acknowledgements of a client that is away.
    pub drain: Duration,
    /// The same for a client that is there; the shell's last output is on its way to it.
    pub linger: Duration,
    /// How long hung-up processes may take to end before they are killed.
    pub grace: Duration,
    /// Unacknowledged output kept per session.
    pub send_window: Window,
    /// Input received and not yet taken per session.
    pub receive_window: Window,
    /// Which services get the record of a session.
    pub record: Record,
    /// Where it is told who had which session.
    pub audit: AuditLog,
    /// Where it is seen which sessions run.
    pub roster: Roster,
    /// Where port sessions may not lead.
    pub denied_destinations: DenyList,
    /// The networks of the instance, to whose own addresses they may not lead either.
    pub networks: Networks,
    /// How long a connection of a port session may take nothing while it stops the others.
    pub stall_timeout: Duration,
    /// Liveness of data channels.
    pub pump: PumpSettings,
}

/// Whose shell a session opens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ShellUser {
    /// The user the agent runs as.
    Agent,
    /// `ssm-user`, made when first needed. Only root can do this.
    SsmUser,
}

impl ShellUser {
    /// What the reference does: root's sessions are `ssm-user`'s, others are the agent's own.
    pub fn by_privilege() -> Self {
        if nix::unistd::geteuid().is_root() {
            Self::SsmUser
        } else {
            Self::Agent
        }
    }
}

impl Settings {
    /// Liveness of the data channel of a session that begins now and has these preferences: a session is
    /// not given up before the gateway would end it for being idle, nor kept for longer than it may last.
    pub(super) fn pump_of(&self, preferences: &Preferences) -> PumpSettings {
        let idle = preferences.idle_timeout.unwrap_or_default();
        PumpSettings {
            reconnect_for: self.pump.reconnect_for.max(idle),
            session_ends: preferences.max_duration.map(|most| Instant::now() + most),
            ..self.pump
        }
    }

    /// The defaults, for a node whose login step is taken by `program`.
    pub fn new(node_id: impl Into<String>, program: impl Into<PathBuf>) -> Self {
        Self {
            node_id: node_id.into(),
            limit: LIMIT,
            program: program.into(),
            open_files: None,
            language: None,
            shell_user: ShellUser::by_privilege(),
            keys: None,
            sudo: Sudo::default(),
            in_container: false,
            control_groups: None,
            pam_service: None,
            parameters: None,
            drain: channel::Settings::DRAIN,
            linger: LINGER,
            grace: GRACE,
            send_window: Window::SEND,
            receive_window: Window::RECEIVE,
            record: Record::default(),
            audit: AuditLog::off(),
            roster: Roster::default(),
            denied_destinations: DenyList::default(),
            networks: Networks::default(),
            stall_timeout: mux::Settings::STALL_TIMEOUT,
            pump: PumpSettings {
                ping_interval: PING_INTERVAL,
                read_timeout: READ_TIMEOUT,
                ping_at_open: false,
                reconnect_for: RECONNECT_FOR,
                session_ends: None,
            },
        }
    }
}

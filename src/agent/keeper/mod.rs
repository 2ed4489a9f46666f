//! Sessions that outlive the agent's process: they run in one of their own, the keeper.
//!
//! ```text
//!  control channel --> Sessions, in the agent ==Link==> keeper: Supervisor, data channels, records
//!                           |                                            |
//!                           +--> a Supervisor of its own,                +--> shells, ports
//!                                where there is no keeper
//! ```
//!
//! A keeper is the agent's program again, one for all sessions. It starts with the first session, and
//! ends when it has had none for a while. An agent that is restarted, upgraded or killed finds the
//! keepers of the ones before it by their sockets in the runtime folder. Sessions notice nothing of
//! it: no descriptor and no counter changes hands, as the process that holds them goes on. The sessions
//! of an upgraded agent stay with the keeper of the old program, the next ones go to a new one; so it is
//! after a change of the configuration.
//!
//! Without a runtime folder, which the service manager makes, there are no keepers: the agent carries
//! its sessions itself and they end with it. The same goes for a keeper that cannot be started.

use tokio::time::{Instant, sleep_until};

mod lent;
mod link;
mod message;
mod process;
mod remote;
mod sessions;
mod settings_digest;
mod spawn;

pub use process::{Start, run};
pub use sessions::{Sessions, Settings};
pub use settings_digest::of as digest;
pub use spawn::Program;

/// Until `deadline`, or for ever.
async fn sleep_until_some(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}

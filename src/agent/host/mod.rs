//! What the agent does on its host: pseudo-terminals and pipes and the processes behind them, users,
//! and the step that turns a fresh process into a user's login.
//!
//! Everything here is local. What a session means, and where its bytes go, is `agent::session`.

pub mod control_group;
pub mod login;
pub mod pipes;
pub mod process;
pub mod pty;
mod sys;
pub mod users;
pub mod utf8;

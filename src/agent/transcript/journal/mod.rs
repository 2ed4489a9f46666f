//! The journal of a session: its entries, kept until every service has confirmed them.
//!
//! ```text
//!  writer --batches--> Sink --> Disk (segment files) ---.
//!                        `----> memory, if that refuses -+--> Follower --> Uploader (S3)
//!                                                        `--> Follower --> Uploader (gateway)
//! ```
//!
//! `<spool>/<session id>/` holds `about.json` (whose record it is and where it goes), segments
//! (`frame.rs`), for each service a `position-<n>.json`, and `lock`, which the agent that works on the
//! folder holds locked. Segments go once every service has confirmed them, the folder goes with the
//! last of them. What an agent leaves behind, the next one goes on with (`recovery.rs`).

mod disk;
mod folder;
mod follower;
mod frame;
#[expect(
    clippy::module_inception,
    reason = "the main type lives in a file named after it"
)]
mod journal;
mod laggards;
mod reader;
mod recovery;
mod sink;
mod store;

pub use folder::{Manifest, Position};
pub use follower::Follower;
pub use journal::{Copy, Journal};
pub use recovery::{Left, recover};
pub use sink::JournalSink;
pub use store::{Settings, Store};

use super::remote::Target;
use tokio::time::Instant;

use super::uploader::Uploader;

/// What a journal keeps of each service.
pub fn copies(
    targets: &[Target],
    uploaders: &[Box<dyn Uploader>],
    positions: &[Position],
) -> Vec<Copy> {
    let services = targets.iter().zip(uploaders).zip(positions);
    services
        .map(|((target, uploader), position)| Copy {
            service: uploader.name(),
            place: uploader.place(),
            target: target.clone(),
            position: position.clone(),
            saved: Instant::now(),
            lost: 0,
        })
        .collect()
}

#[cfg(test)]
mod tests;

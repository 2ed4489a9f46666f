//! Inventory: what is installed on this host and what it is made of, told to Systems Manager.
//!
//! ```text
//!  Wanted --> gatherers, one after another --> items --> PutInventory, unchanged ones as a hash
//! ```
//!
//! One file a gatherer. Each is bounded in memory and time; what reads files or asks the kernel runs on
//! threads for that.

mod application;
mod aws_component;
mod billing;
mod custom;
mod detailed;
mod error;
mod files;
mod hashes;
#[expect(
    clippy::module_inception,
    reason = "the main type lives in the file named after it"
)]
mod inventory;
mod item;
mod network;
mod tool;
mod upload;

pub use error::{GatherError, InventoryError};
pub use inventory::{Gathered, Inventory, Wanted};

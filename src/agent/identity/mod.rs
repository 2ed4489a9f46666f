//! Who this host is, and the credentials that prove it.
//!
//! [`open`] takes the first identity that is there: a registration in the vault, then that of the EC2
//! instance, then one that the configuration states. Credentials come by a [`Client`](crate::aws::Client) that already signs
//! with them.

mod custom;
pub mod ec2;
mod fingerprint;
mod hardware;
#[expect(
    clippy::module_inception,
    reason = "the main type lives in the file named after it"
)]
mod identity;
mod onprem;
mod refresh;
pub mod registration;
mod rotation;
mod runtime_config;
pub mod share;
pub mod vault;

pub use custom::CustomIdentity;
pub use identity::{Identity, IdentityError, Kind, Settings, Upkeep, Who, known_region, open, who};
pub use vault::Vault;

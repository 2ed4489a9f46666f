//! Files of packages that the gateway has itself, so that hosts need nothing else to install them.
//!
//! ```text
//!  ssm-gateway attachment add --> <state>/attachments/<sha256>
//!                                          |  GET /v1/attachments/<sha256>/<name>?expires=…&token=…
//!  GetDocument names the URL ------------> +--> the host
//! ```
//!
//! A file goes by the digest of its content. Whoever has a URL may get the file, for a quarter of an
//! hour: the token is a MAC with a key that this process made, so that nothing has to be remembered.

#[expect(
    clippy::module_inception,
    reason = "the main type lives in a file named after it"
)]
mod attachments;
mod folder;

pub use attachments::Attachments;
pub use folder::{AddError, Folder, Stored};

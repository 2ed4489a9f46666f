//! Where records go over the network, by whose leave, and what became of them.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::entry::About;
use super::uploader::Uploader;

/// A service that gets the record of a session, and what follows if it cannot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Target {
    /// The service and its place there.
    pub destination: Destination,
    /// What follows if it cannot be brought there.
    pub policy: Policy,
}

/// A service and a place there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Destination {
    /// An object of a bucket.
    S3 {
        /// The bucket.
        bucket: String,
        /// What the object's key begins with; may be empty.
        key_prefix: String,
        /// The bucket has to be encrypted, or no session starts.
        encrypted: bool,
        /// The cast, in place of the text. Manifests of earlier versions do not say.
        #[serde(default)]
        cast: bool,
    },
    /// A stream of a log group.
    CloudWatch {
        /// The group.
        group: String,
        /// The group has to be encrypted, or no session starts.
        encrypted: bool,
        /// Records go there while the session runs, as JSON.
        streaming: bool,
    },
    /// The gateway.
    Gateway,
}

impl fmt::Display for Destination {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::S3 { bucket, .. } => write!(f, "the bucket {bucket}"),
            Self::CloudWatch { group, .. } => write!(f, "the log group {group}"),
            Self::Gateway => f.write_str("the gateway"),
        }
    }
}

/// What follows if a service does not take the record.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Policy {
    /// The session goes on; the loss is counted, logged and reported.
    #[default]
    FailOpen,
    /// The session does not start, or ends.
    FailClosed,
}

/// Makes the uploaders.
pub trait Services: Send + Sync + 'static {
    /// The uploader for the record of a session; `state` is what an earlier one gave as its
    /// [`Uploader::state`], if it is to go on from there. None if this agent does not have the service.
    fn uploader(
        &self,
        about: &Arc<About>,
        destination: &Destination,
        state: Option<&Value>,
    ) -> Option<Box<dyn Uploader>>;
}

/// The record of a session at a service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RemoteCopy {
    /// The service's name.
    pub service: &'static str,
    /// Which one it is.
    pub destination: Destination,
    /// Where it is.
    pub place: String,
    /// Bytes that it lost because the service was too far behind.
    pub lost_bytes: u64,
    /// How far it got.
    pub standing: Standing,
}

/// How far a service's copy of a record is, for whoever wants to look.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Progress {
    /// The service's name.
    pub service: &'static str,
    /// Where the copy is.
    pub place: String,
    /// Entries of the record so far.
    pub entries: u64,
    /// How many of them the service has confirmed.
    pub confirmed: u64,
    /// Why it was given up, if it was.
    pub problem: Option<String>,
}

/// How far a service's copy of a record got.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Standing {
    /// It is still being uploaded; if the agent stops before its end, the next start goes on.
    Continuing,
    /// Everything is there.
    Complete,
    /// It was given up; this is why.
    GivenUp(String),
}

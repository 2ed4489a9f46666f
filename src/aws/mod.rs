//! AWS-shaped HTTP: endpoints, credentials, signatures that correct the clock's error, signed calls.
//!
//! [`Client`] makes the calls. What a call is about, beyond registering and getting credentials, is
//! its caller's business.

mod chain;
mod client;
mod credentials;
mod delivery;
mod dial;
mod endpoint;
mod error;
mod http;
mod kms;
mod logs;
mod node_key;
mod retry;
mod s3;
mod secret;
mod signer;
mod skew;
mod ssm;
#[cfg(test)]
pub(crate) mod tests;

pub use self::http::{HttpError, RESPONSE_LIMIT};
pub use chain::{ChainCredentials, default_region, service_endpoint};
pub use client::{Client, Download, FetchError, NodeSigner};
pub use credentials::{
    CredentialError, CredentialFuture, CredentialSource, Credentials, NoCredentials,
    StaticCredentials,
};
pub use endpoint::{EndpointError, Endpoints, Overrides, S3Endpoint};
pub use error::CallError;
pub use kms::GeneratedKey;
pub use logs::{LogBatch, LogEvent, LogGroup, LogPage, LogStream, MESSAGE_LIMIT, Made, Put};
pub use node_key::{KEY_TYPE, KeyError, NodeKey};
pub use s3::{Attributes, Bucket, BucketName, Encryption, Listing, ObjectKey, Part, S3NameError};
pub use secret::Secret;
pub use signer::SignError;
pub use ssm::{Activation, RoleToken};

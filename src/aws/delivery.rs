//! Calls to the message delivery service (`ec2messages`).

use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::client::{Authority, Client, Service};
use super::error::CallError;
use super::retry::Attempts;
use crate::protocol::wire::mds::TARGET;

impl Client {
    /// A signed poll of the message delivery service, which may take until `timeout`. Only what a new
    /// signature cures is retried: the caller polls again with a back-off of its own.
    ///
    /// # Errors
    /// [`CallError`].
    pub async fn poll_delivery<Q: Serialize, R: DeserializeOwned>(
        &self,
        operation: &str,
        request: &Q,
        timeout: Duration,
    ) -> Result<R, CallError> {
        let mut draft = self.json_draft(Service::Delivery, TARGET, operation, request)?;
        draft.timeout = timeout;
        self.json_call_with(draft, Authority::Credentials, Attempts::signature_only())
            .await
    }

    /// A signed call to the message delivery service, each attempt of which may take until `timeout`.
    /// Retried like one to Systems Manager: whatever is said there twice counts once.
    ///
    /// # Errors
    /// [`CallError`].
    pub async fn delivery<Q: Serialize, R: DeserializeOwned>(
        &self,
        operation: &str,
        request: &Q,
        timeout: Duration,
    ) -> Result<R, CallError> {
        let mut draft = self.json_draft(Service::Delivery, TARGET, operation, request)?;
        draft.timeout = timeout;
        self.json_call(draft, Authority::Credentials).await
    }
}

//! Data keys of encrypted sessions, gotten while the channel runs on.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Instant;

use crate::protocol::channel::{Channel, DataKey, KeyRequest};

/// Where data keys come from: KMS, or what stands in for it.
pub trait KeySource: Send + Sync + 'static {
    /// Gets the key that a channel asks for, or the reason why there is none: a fragment of a
    /// sentence for the person at the client.
    fn key(&self, request: KeyRequest) -> KeyFuture;
}

/// What [`KeySource::key`] returns.
pub type KeyFuture = Pin<Box<dyn Future<Output = Result<DataKey, String>> + Send>>;

/// Gets what a channel asks for.
pub(super) struct Keys {
    source: Option<Arc<dyn KeySource>>,
    pending: Option<KeyFuture>,
}

impl Keys {
    pub(super) fn new(source: Option<Arc<dyn KeySource>>) -> Self {
        Self {
            source,
            pending: None,
        }
    }

    /// Returns whether the channel was given a key, or the reason why there is none.
    pub(super) fn serve(
        &mut self,
        channel: &mut Channel,
        cx: &mut Context<'_>,
        now: Instant,
    ) -> bool {
        if let Some(request) = channel.poll_key_request() {
            match &self.source {
                Some(source) => self.pending = Some(source.key(request)),
                None => {
                    channel.provide_key(Err("there is no key service here".to_owned()), now);
                    return true;
                }
            }
        }
        let Some(Poll::Ready(key)) = self.pending.as_mut().map(|key| key.as_mut().poll(cx)) else {
            return false;
        };
        self.pending = None;
        channel.provide_key(key, now);
        true
    }
}

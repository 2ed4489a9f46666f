//! Where the output of steps goes besides the reply.

use std::fmt;
use std::pin::Pin;

use super::state::IoConfig;
use super::steps::Streams;

/// An upload that is on its way.
pub(super) type Uploading<'a> = Pin<Box<dyn Future<Output = ()> + Send + 'a>>;

/// A way to bring the output of steps elsewhere.
pub(super) trait OutputSink: fmt::Debug + Send + Sync {
    /// Brings the streams of a step to where its command wants them. What fails is logged.
    fn upload<'a>(
        &'a self,
        config: &'a IoConfig,
        plugin: &'a str,
        step: &'a str,
        streams: &'a Streams,
    ) -> Uploading<'a>;
}

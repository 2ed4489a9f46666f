//! The services that this agent brings records of sessions to.

use std::sync::Arc;

use serde_json::Value;
use tokio::sync::watch;

use super::control::Status;
use super::transcript::{
    About, CloudWatchUploader, Destination, GatewayUploader, S3Place, S3Uploader, Services,
    Uploader,
};
use crate::aws::Client;

/// Makes the uploaders.
pub struct RecordServices {
    /// Signs the calls.
    pub client: Client,
    /// Whether the gateway takes records is known once the control channel is open.
    pub status: watch::Receiver<Status>,
}

impl RecordServices {
    fn gateway_takes_records(&self) -> bool {
        match &*self.status.borrow() {
            Status::Connected { features, .. } => features.recording_upload,
            Status::Connecting | Status::Waiting { .. } | Status::Stopped => false,
        }
    }
}

impl Services for RecordServices {
    fn uploader(
        &self,
        about: &Arc<About>,
        destination: &Destination,
        state: Option<&Value>,
    ) -> Option<Box<dyn Uploader>> {
        match destination {
            Destination::Gateway if self.gateway_takes_records() => {
                let about = Arc::clone(about);
                let uploader = GatewayUploader::new(self.client.clone(), about, state.cloned());
                Some(Box::new(uploader))
            }
            Destination::CloudWatch {
                group,
                encrypted,
                streaming,
            } => Some(Box::new(CloudWatchUploader::new(
                self.client.clone(),
                Arc::clone(about),
                group,
                *encrypted,
                *streaming,
                state.cloned(),
            ))),
            Destination::S3 {
                bucket,
                key_prefix,
                encrypted,
                cast,
            } => Some(Box::new(S3Uploader::new(
                self.client.clone(),
                Arc::clone(about),
                &S3Place {
                    bucket,
                    key_prefix,
                    encrypted: *encrypted,
                    cast: *cast,
                },
                state.cloned(),
            ))),
            Destination::Gateway => None,
        }
    }
}

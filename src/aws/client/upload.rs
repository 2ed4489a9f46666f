//! Uploading recordings to a message gateway that stores them.

use std::time::Duration;

use bytes::Bytes;
use http::{Method, StatusCode};

use super::{Attempts, Authority, CallError, Client, Draft, Service, address, decode};
use crate::protocol::wire::SessionId;
use crate::protocol::wire::recording::{Part, Progress};

/// Time for one attempt: 256 KiB in this time need 9 KB/s.
const TIMEOUT: Duration = Duration::from_secs(30);
/// Asciicast's media type.
const CAST: &str = "application/x-asciicast";
/// What the call is called in errors.
const UPLOAD: &str = "upload of a recording";

impl Client {
    /// A signed PUT of the part `part` of a session's recording to the message gateway; returns how much
    /// of the recording is stored there, with or without this part.
    ///
    /// Only what a new signature cures is retried.
    ///
    /// # Errors
    /// [`CallError`].
    pub async fn upload_recording(
        &self,
        session: &SessionId,
        part: Part,
        bytes: Bytes,
    ) -> Result<Progress, CallError> {
        let mut url = self.shared.base(Service::Messages).clone();
        url.path_segments_mut()
            .map_err(|()| address(UPLOAD, &"the gateway's address can have no path"))?
            .pop_if_empty()
            .extend(["v1", "recordings", session.as_str()]);
        url.set_query(Some(&part.to_string()));
        let draft = Draft {
            operation: UPLOAD,
            service: Service::Messages,
            region: None,
            method: Method::PUT,
            url,
            timeout: TIMEOUT,
            success: &[StatusCode::OK, StatusCode::CONFLICT],
            headers: vec![("content-type", CAST.to_owned())],
            body: bytes,
        };
        let attempts = Attempts::signature_only();
        let answer = self.call(&draft, Authority::Credentials, attempts).await?;
        serde_json::from_slice(answer.body()).map_err(|cause| decode(UPLOAD, "answer", cause))
    }
}

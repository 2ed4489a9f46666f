//! Sessions whose record a service has to take.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;

use super::harness::{World, shell_document};
use crate::agent::session::Record;
use crate::agent::session::end::UNRECORDED;
use crate::agent::transcript::{
    About, Destination, Entry, JournalSettings, Policy, Services, Transcript, Upload, UploadError,
    Uploader, Uploads,
};
use crate::protocol::wire::PeerFeatures;
use crate::protocol::wire::task::TaskStatus;

#[tokio::test]
async fn session_that_must_be_recorded_does_not_start_without_the_service() {
    let mut world = World::with(
        |settings| settings.record = gateway(Policy::FailClosed),
        Transcript::new(None),
    );
    world.start("alice-1", shell_document());

    let outcome = world.outcome().await;

    assert_eq!(outcome.status, TaskStatus::Failed);
    assert_eq!(
        outcome.output,
        "the session has to be recorded by the gateway, which is not available"
    );
}

#[tokio::test]
async fn session_that_must_be_recorded_ends_when_the_service_refuses() {
    let folder = tempfile::tempdir().unwrap();
    let mut world = World::with(
        |settings| settings.record = gateway(Policy::FailClosed),
        refused(folder.path()),
    );
    world.start("alice-1", shell_document());
    let mut client = world.attach(PeerFeatures::ours()).await;

    client.wait_for(UNRECORDED).await;

    let outcome = world.outcome().await;
    assert_eq!(outcome.status, TaskStatus::Failed);
    assert!(outcome.output.starts_with(UNRECORDED), "{}", outcome.output);
}

#[tokio::test]
async fn session_that_need_not_be_recorded_goes_on_when_the_service_refuses() {
    let folder = tempfile::tempdir().unwrap();
    let mut world = World::with(
        |settings| settings.record = gateway(Policy::FailOpen),
        refused(folder.path()),
    );
    let client = world.shell("alice-1").await;

    client.type_text("exit 3\n").await;

    let outcome = world.outcome().await;
    assert_eq!(outcome.exit_code, Some(3));
    assert!(
        outcome.output.contains("recording incomplete") && outcome.output.contains("full"),
        "{}",
        outcome.output
    );
}

fn gateway(policy: Policy) -> Record {
    Record {
        gateway: Some(policy),
        ..Record::default()
    }
}

/// A transcript with a service that refuses every record.
fn refused(folder: &Path) -> Transcript {
    let settings = JournalSettings {
        directory: folder.join("spool"),
        session_bytes: 8 << 20,
        total_bytes: 8 << 20,
    };
    let uploads = Uploads::new(
        settings,
        Arc::new(Refusing),
        tokio::runtime::Handle::current(),
    );
    Transcript::new(None).with_uploads(Arc::new(uploads))
}

struct Refusing;

impl Services for Refusing {
    fn uploader(
        &self,
        _about: &Arc<About>,
        _destination: &Destination,
        _state: Option<&Value>,
    ) -> Option<Box<dyn Uploader>> {
        Some(Box::new(Self))
    }
}

impl Uploader for Refusing {
    fn name(&self) -> &'static str {
        "refusing"
    }

    fn place(&self) -> String {
        "nowhere".to_owned()
    }

    fn interval(&self) -> Duration {
        Duration::ZERO
    }

    fn batch_limit(&self) -> usize {
        1 << 20
    }

    fn upload<'a>(&'a mut self, _entries: &'a [Entry]) -> Upload<'a> {
        Box::pin(async { Err(UploadError::Refused("it is full".into())) })
    }

    fn state(&self) -> Value {
        Value::Null
    }
}

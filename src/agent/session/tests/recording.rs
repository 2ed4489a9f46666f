//! Sessions whose record a service has to take.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;

use super::audit::Audited;
use super::ending::recording;
use super::harness::shell_document;
use crate::agent::session::Record;
use crate::agent::session::end::UNRECORDED;
use crate::agent::transcript::{
    self, About, Destination, Entry, JournalSettings, Policy, Services, Transcript, Upload,
    UploadError, Uploader, Uploads,
};
use crate::protocol::wire::PeerFeatures;
use crate::protocol::wire::task::TaskStatus;

#[tokio::test]
async fn session_that_must_be_recorded_does_not_start_without_the_service() {
    for (record, service) in records(Policy::FailClosed) {
        let mut audited = Audited::new();
        let mut world =
            audited.world_with(|settings| settings.record = record, Transcript::new(None));
        world.start("alice-1", shell_document());

        let outcome = world.outcome().await;

        let refusal =
            format!("the session has to be recorded by {service}, which is not available");
        assert_eq!(outcome.status, TaskStatus::Failed);
        assert_eq!(outcome.output, refusal);
        assert_eq!(audited.lines().await[0]["refusal"], refusal);
    }
}

#[tokio::test]
async fn session_that_must_be_recorded_ends_when_the_service_refuses() {
    for (record, service) in records(Policy::FailClosed) {
        let folder = tempfile::tempdir().unwrap();
        let mut audited = Audited::new();
        let mut world =
            audited.world_with(|settings| settings.record = record, refused(folder.path()));
        world.start("alice-1", shell_document());
        let mut client = world.attach(PeerFeatures::ours()).await;

        client.wait_for(UNRECORDED).await;

        let outcome = world.outcome().await;
        assert_eq!(outcome.status, TaskStatus::Failed, "{service}");
        assert!(outcome.output.starts_with(UNRECORDED), "{}", outcome.output);
        let ended = audited.lines().await.pop().unwrap();
        assert_eq!(ended["reason"], UNRECORDED);
        assert_eq!(ended["copies"][0]["standing"], "given-up");
    }
}

#[tokio::test]
async fn session_that_need_not_be_recorded_goes_on_when_the_service_refuses() {
    for (record, service) in records(Policy::FailOpen) {
        let folder = tempfile::tempdir().unwrap();
        let mut audited = Audited::new();
        let mut world =
            audited.world_with(|settings| settings.record = record, refused(folder.path()));
        let client = world.shell("alice-1").await;

        client.type_text("exit 3\n").await;

        let outcome = world.outcome().await;
        assert_eq!(outcome.exit_code, Some(3), "{service}");
        assert!(
            outcome.output.contains("recording incomplete") && outcome.output.contains("full"),
            "{}",
            outcome.output
        );
        client.ignore_the_rest();
        let ended = audited.lines().await.pop().unwrap();
        assert_eq!(ended["copies"][0]["standing"], "given-up");
        assert!(ended["problem"].as_str().unwrap().contains("full"));
    }
}

#[tokio::test]
async fn session_that_must_be_recorded_on_the_host_does_not_start_where_that_cannot_be() {
    let folder = tempfile::tempdir().unwrap();
    let in_the_way = folder.path().join("file");
    std::fs::write(&in_the_way, "").unwrap();
    let strict = |policy| {
        Transcript::new(Some(transcript::Settings {
            policy,
            ..recording(&in_the_way)
        }))
    };

    for (policy, starts) in [(Policy::FailClosed, false), (Policy::FailOpen, true)] {
        let mut audited = Audited::new();
        let mut world = audited.world(strict(policy));
        if starts {
            let client = world.shell("alice-1").await;
            client.type_text("exit 3\n").await;
            client.ignore_the_rest();
        } else {
            world.start("alice-1", shell_document());
        }

        let outcome = world.outcome().await;

        assert_eq!(outcome.exit_code.is_some(), starts);
        let line = audited.lines().await.pop().unwrap();
        let event = if starts {
            "session-ended"
        } else {
            "session-refused"
        };
        assert_eq!(line["event"], event);
        if !starts {
            let refusal = line["refusal"].as_str().unwrap();
            assert_eq!(refusal, outcome.output);
            assert!(
                refusal.starts_with("the session has to be recorded in ")
                    && refusal.contains("which does not take it: "),
                "{refusal}"
            );
        }
    }
}

/// Each service, with this policy, and what it is called.
fn records(policy: Policy) -> [(Record, &'static str); 3] {
    let s3 = Destination::S3 {
        bucket: "logs".into(),
        key_prefix: String::new(),
        encrypted: false,
        cast: false,
    };
    let cloud_watch = Destination::CloudWatch {
        group: "/grp".into(),
        encrypted: false,
        streaming: true,
    };
    let gateway = Record {
        gateway: Some(policy),
        ..Record::default()
    };
    let s3 = Record {
        s3: Some(s3),
        s3_policy: policy,
        ..Record::default()
    };
    let cloud_watch = Record {
        cloud_watch: Some(cloud_watch),
        cloud_watch_policy: policy,
        ..Record::default()
    };
    [
        (gateway, "the gateway"),
        (s3, "the bucket logs"),
        (cloud_watch, "the log group /grp"),
    ]
}

/// A transcript with a service that refuses every record.
fn refused(folder: &Path) -> Transcript {
    let settings = JournalSettings::new(folder.join("spool"), 8 << 20);
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

//! Records on disks that are full at any write, have no inodes left, or are read-only: the session goes
//! on, what a service can get it gets, and nothing that is there is wrong. Where a session has to be
//! recorded it does not start, or ends.

use std::fs;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use serde_json::Value;
use ssm_agent::agent::audit::{self, AuditLog, Event as Happened};
use ssm_agent::agent::transcript::{
    About, Confirmed, Destination, End, Entry, Event, Format, JournalSettings, Policy, Report,
    Services, Settings, Standing, Target, Transcript, Upload, Uploader, Uploads, Verdict, verify,
};
use ssm_agent::gateway::recordings::{AppendError, Recordings};
use ssm_agent::gateway::store::Store;
use ssm_agent::gateway::store::sessions::SessionRecord;
use ssm_agent::protocol::wire::recording::Part;
use ssm_agent::protocol::wire::task::TaskStatus;
use ssm_agent::protocol::wire::{SessionId, TerminalSize};
use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;

use crate::disk::Disk;
use crate::namespace::alone;
use crate::world::World;

/// Outputs of a session, 2 KiB each.
const OUTPUTS: usize = 16;
/// What a session has to be told that has to be recorded.
const UNRECORDED: &str = "the session has to be recorded, and its record is not taken any more";

#[test]
fn disk_that_is_full_at_any_write_costs_what_it_refused_and_nothing_else() {
    alone(|| async {
        // A session takes 30 blocks in all; from one to more than enough.
        for blocks in (1..24).chain([32, 64, 256]) {
            let disk = Disk::of_blocks(blocks);

            let told = session(&disk, Policy::FailOpen).await;

            told.check(&disk, &format!("{blocks} blocks"));
            match blocks {
                1 => assert!(told.report.lost_bytes > 0),
                256 => assert_eq!(told.report.problem, None),
                _ => {}
            }
        }
    });
}

#[test]
fn disk_without_inodes_costs_the_files_that_it_refused_and_nothing_else() {
    alone(|| async {
        for inodes in (1..16).chain([64]) {
            let disk = Disk::of_inodes(inodes);

            let told = session(&disk, Policy::FailOpen).await;

            told.check(&disk, &format!("{inodes} inodes"));
            match inodes {
                1..=3 => assert!(told.report.lost_bytes > 0, "{inodes}"),
                64 => assert_eq!(told.report.problem, None),
                _ => {}
            }
        }
    });
}

#[test]
fn read_only_disk_costs_the_files_and_nothing_else() {
    alone(|| async {
        let disk = Disk::mount("size=16m");
        let before = session(&disk, Policy::FailOpen).await;
        assert_eq!(before.report.problem, None);
        disk.remount("ro");

        let told = session(&disk, Policy::FailOpen).await;

        told.check(&disk, "read-only");
        let problem = told.report.problem.unwrap();
        assert!(problem.contains("Read-only file system"), "{problem}");
        assert_eq!(told.report.files, []);
    });
}

#[test]
fn recording_goes_on_when_the_disk_has_room_again_and_marks_what_it_lacks() {
    alone(|| async {
        let disk = Disk::of_blocks(3);
        let transcript = Transcript::new(Some(settings(&disk, Policy::FailOpen)));
        let (mut recorder, writer) = transcript.start(about(), &[]);
        let writer = tokio::spawn(writer);
        for _ in 0..400 {
            recorder.output(vec![b'x'; 2048].into()).await;
        }
        // It was tried, and refused.
        let cast = disk.at("sessions/alice-1.cast");
        while !cast.exists() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }

        disk.remount("size=64m");
        // The next attempt comes within two seconds, or with the end.
        tokio::time::sleep(Duration::from_secs(4)).await;
        recorder.output("after".into()).await;
        let report = recorder.finish(end()).await;

        writer.await.unwrap();
        let cast = fs::read_to_string(&cast).unwrap();
        assert!(report.lost_bytes > 0, "{report:?}");
        assert!(cast.contains("bytes are missing here"), "{cast}");
        let after = cast.find("\"after\"").unwrap();
        assert!(cast.find("bytes are missing here").unwrap() < after);
        assert_eq!(
            verify(&report.files[0].path).unwrap().verdict,
            Verdict::Complete
        );
    });
}

#[test]
fn session_that_must_be_recorded_does_not_start_where_that_cannot_be() {
    alone(|| async {
        let mut tried = 0;
        for options in ["size=4096", "nr_inodes=2", "size=16m,ro"] {
            let disk = Disk::mount(options);
            if options == "size=4096" {
                fs::write(disk.at("full"), [0; 4096]).unwrap();
            }
            let transcript = Transcript::new(Some(settings(&disk, Policy::FailClosed)));
            let mut world = World::recording(transcript, |_| {});

            let ran = world.command("echo ran", |_| {}).await;

            let expected =
                "the session has to be recorded in /home/disk/sessions, which does not take it: ";
            assert!(ran.failure().starts_with(expected), "{options}: {ran:?}");
            assert!(!ran.output.contains("ran"), "{options}: {ran:?}");
            tried += 1;
        }
        assert_eq!(tried, 3);
    });
}

#[test]
fn session_that_must_be_recorded_ends_when_its_disk_is_full_and_says_so() {
    alone(|| async {
        let disk = Disk::of_blocks(16);
        let transcript = Transcript::new(Some(settings(&disk, Policy::FailClosed)));
        let mut world = World::recording(transcript, |_| {});

        let ran = world
            .command("while :; do echo on and on and on; done", |_| {})
            .await;

        assert!(ran.failure().starts_with(UNRECORDED), "{ran:?}");
        assert!(ran.errors.contains(UNRECORDED), "{}", ran.errors);
        assert!(ran.output.contains("on and on"));
    });
}

#[test]
fn session_runs_to_its_end_on_a_full_disk_unless_it_must_be_recorded() {
    alone(|| async {
        let disk = Disk::of_blocks(4);
        let transcript = Transcript::new(Some(settings(&disk, Policy::FailOpen)));
        let mut world = World::recording(transcript, |_| {});

        let ran = world.command("seq 20000; echo all of it", |_| {}).await;

        assert_eq!(ran.outcome.status, TaskStatus::Success);
        assert!(
            ran.output.ends_with("20000\nall of it\n"),
            "{}",
            ran.output.len()
        );
        let said = &ran.outcome.output;
        assert!(said.contains("recording incomplete"), "{said}");
        assert!(said.contains("No space left on device"), "{said}");
    });
}

#[test]
fn gateway_on_a_full_disk_stores_a_part_whole_or_not_at_all() {
    alone(|| async {
        let part = [b'x'; 64 << 10];
        for options in ["size=1m", "size=200m,nr_inodes=2", "size=200m,ro"] {
            let disk = Disk::mount(options);
            let store = Store::open_in_memory().unwrap();
            let id = || SessionId::new("alice-1").unwrap();
            let record = SessionRecord::new(id(), "mi-1", "arn:alice");
            store.insert_session(record).await.unwrap();
            let folder = disk.at("recordings");
            let settings = ssm_agent::gateway::recordings::Settings::new(&folder);
            let made = Recordings::new(store, settings, CancellationToken::new());
            let (recordings, _sweeping) = made.await.unwrap();
            let append = async || {
                let first = Part {
                    offset: 0,
                    entries: 1,
                    complete: true,
                };
                let bytes = bytes::Bytes::copy_from_slice(&part);
                recordings.append("mi-1", id(), first, bytes).await
            };

            let refused = append().await.unwrap_err();

            match refused {
                AppendError::Full(why) => assert_eq!(why, "the disk is full"),
                AppendError::Io(_) => {}
                other => panic!("{options}: {other}"),
            }
            let left = fs::read(folder.join("alice-1.cast")).unwrap_or_default();
            assert_eq!(left.len(), 0, "{options}");
            disk.remount("rw,size=400m,nr_inodes=100");
            append().await.unwrap();
            assert_eq!(fs::read(folder.join("alice-1.cast")).unwrap(), part);
        }
    });
}

/// What became of a session with files, a journal and an audit log on one disk, and a service.
struct Told {
    report: Report,
    /// What the service has.
    service: Vec<u8>,
    audited: String,
}

impl Told {
    /// Whatever the disk took, is right.
    fn check(&self, disk: &Disk, when: &str) {
        let whole = whole();
        let has_lost = self.report.lost_bytes > 0;
        assert!(!has_lost || self.report.problem.is_some(), "{when}");
        assert_eq!(self.report.copies[0].standing, Standing::Complete, "{when}");
        assert!(
            self.service == whole,
            "{when}: {} bytes",
            self.service.len()
        );
        for file in &self.report.files {
            let content = fs::read(&file.path).unwrap();
            assert_eq!(content.len() as u64, file.bytes, "{when}: {file:?}");
            if file.path.extension().is_some_and(|ending| ending == "log") {
                assert!(is_part(&whole, &content), "{when}");
                continue;
            }
            let verdict = verify(&file.path).unwrap().verdict;
            let is_right = matches!(verdict, Verdict::Complete | Verdict::Unended { .. });
            // An empty file has no header yet.
            assert!(is_right || content.is_empty(), "{when}: {verdict:?}");
        }
        for line in self.audited.lines() {
            let line: Value = serde_json::from_str(line).unwrap();
            assert!(line["event"].is_string(), "{when}: {line}");
        }
        // Nothing waits any more.
        let spool = fs::read_dir(disk.at("spool"));
        assert_eq!(spool.map_or(0, Iterator::count), 0, "{when}");
    }
}

/// Whether the outputs in `content` are some of those of the whole, in order.
fn is_part(whole: &[u8], content: &[u8]) -> bool {
    let mut outputs = whole.chunks(2048);
    content
        .chunks(2048)
        .all(|output| outputs.any(|sent| sent == output))
}

fn whole() -> Vec<u8> {
    (0..OUTPUTS).flat_map(output).collect()
}

fn output(number: usize) -> Vec<u8> {
    let mut bytes = format!("output {number} ").into_bytes();
    bytes.resize(2048, b'a' + u8::try_from(number).unwrap());
    bytes
}

/// Runs a session with everything on this disk.
async fn session(disk: &Disk, policy: Policy) -> Told {
    let (log, write) = AuditLog::open(audit::Settings {
        path: disk.at("audit.log"),
        limit: 1 << 20,
        files: 2,
    });
    let auditing = tokio::spawn(write);
    let service = Service::default();
    let journal = JournalSettings::new(disk.at("spool"), 8 << 20);
    let uploads = Uploads::new(journal, Arc::new(service.clone()), Handle::current());
    let transcript = Transcript::new(Some(settings(disk, policy))).with_uploads(Arc::new(uploads));
    let target = Target {
        destination: Destination::Gateway,
        policy: Policy::FailOpen,
    };
    let (mut recorder, writer) = transcript.start(about(), &[target]);
    let writer = tokio::spawn(writer);
    for number in 0..OUTPUTS {
        log.record(&Happened::AgentStopped);
        recorder.output(output(number).into()).await;
        if number % 4 == 0 {
            // A write of its own, now and then.
            tokio::time::sleep(Duration::from_millis(60)).await;
        }
    }
    let report = recorder.finish(end()).await;
    writer.await.unwrap();
    log.close();
    auditing.await.unwrap();
    Told {
        report,
        service: service.bytes(),
        audited: fs::read_to_string(disk.at("audit.log")).unwrap_or_default(),
    }
}

fn settings(disk: &Disk, policy: Policy) -> Settings {
    assert!(Path::exists(disk.path()));
    Settings {
        directory: disk.at("sessions"),
        formats: Format::ALL.to_vec(),
        retention: Duration::from_hours(1),
        quota: 64 << 20,
        record_input: false,
        spool: 64 << 10,
        policy,
    }
}

fn about() -> About {
    About {
        session_id: SessionId::new("alice-1").unwrap(),
        node_id: "mi-0123".into(),
        user: "ssm-user".into(),
        owner: "arn:aws:iam::1:user/alice".into(),
        document: "SSM-SessionManagerRunShell".into(),
        reason: String::new(),
        size: TerminalSize { cols: 80, rows: 24 },
        started: SystemTime::now(),
        command: "/bin/sh".into(),
    }
}

fn end() -> End {
    End {
        reason: "the shell exited".into(),
        exit_code: Some(0),
    }
}

/// A service that keeps the output in memory.
#[derive(Clone, Default)]
struct Service(Arc<Mutex<Vec<u8>>>);

impl Service {
    fn bytes(&self) -> Vec<u8> {
        self.0.lock().unwrap().clone()
    }
}

impl Services for Service {
    fn uploader(
        &self,
        _about: &Arc<About>,
        _destination: &Destination,
        _state: Option<&Value>,
    ) -> Option<Box<dyn Uploader>> {
        Some(Box::new(self.clone()))
    }
}

impl Uploader for Service {
    fn name(&self) -> &'static str {
        "memory"
    }

    fn place(&self) -> String {
        "memory".into()
    }

    fn interval(&self) -> Duration {
        Duration::from_millis(10)
    }

    fn batch_limit(&self) -> usize {
        1 << 20
    }

    fn upload<'a>(&'a mut self, entries: &'a [Entry]) -> Upload<'a> {
        let mut kept = self.0.lock().unwrap();
        for entry in entries {
            if let Event::Output(bytes) = &entry.event {
                kept.extend_from_slice(bytes);
            }
        }
        let entries = entries.len();
        Box::pin(async move { Ok(Confirmed { entries }) })
    }

    fn state(&self) -> Value {
        Value::Null
    }
}

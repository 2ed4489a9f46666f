use std::fs::{self, OpenOptions};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::{Duration, SystemTime};

use bytes::Bytes;

use super::*;
use crate::agent::transcript::{End, Report, Settings, Transcript, Verdict, verify};
use crate::protocol::wire::{SessionId, TerminalSize};
use crate::runtime::cause::in_one_line;

#[tokio::test]
async fn files_hold_the_bytes_that_were_sent() {
    let folder = tempfile::tempdir().unwrap();
    let sent: Vec<Bytes> = vec![
        "hello \u{1b}[31mred\u{1b}[0m\r\n".into(),
        Bytes::from_static(b"cut \xe2\x82"),
        Bytes::from_static(b"\xac \xff\x00\x07"),
        Bytes::from(vec![b'"'; 300_000]),
    ];

    let report = record(settings(folder.path()), &sent).await;

    assert_eq!((report.lost_bytes, &report.problem), (0, &None));
    let [cast, log] = &report.files[..] else {
        panic!("two files in {:?}", report.files);
    };
    assert_eq!(cast.path, folder.path().join("new/alice-1.cast"));
    assert_eq!(log.path, folder.path().join("new/alice-1.log"));
    assert_eq!(fs::read(&log.path).unwrap(), sent.concat());
    assert_eq!(replay(&cast.path), String::from_utf8_lossy(&sent.concat()));
}

#[tokio::test]
async fn cast_has_times_that_never_go_back_and_the_size_changes() {
    let folder = tempfile::tempdir().unwrap();
    let transcript = Transcript::new(Some(settings(folder.path())));
    let (mut recorder, writer) = transcript.start(about("alice-1"), &[]);
    let writer = tokio::spawn(writer);

    for cols in 80..90 {
        recorder.output("x".into()).await;
        recorder.resize(TerminalSize { cols, rows: 24 }).await;
    }
    let report = recorder.finish(end()).await;
    writer.await.unwrap();

    let events = events(&report.files[0].path);
    assert!(events.is_sorted_by(|a, b| a.0 <= b.0));
    let sizes = events.iter().filter(|(_, code, _)| code == "r");
    let sizes: Vec<&str> = sizes.map(|(_, _, text)| text.as_str()).collect();
    assert_eq!((sizes.len(), sizes[0], sizes[9]), (10, "80x24", "89x24"));
    let [.., (_, "m", end), (_, "m", seal)] = &texts(&events)[..] else {
        panic!("{events:?}");
    };
    assert_eq!(*end, "session ended: the shell exited, exit status 3");
    assert!(seal.starts_with("recording complete, sha256 "), "{seal}");
}

#[tokio::test]
async fn recordings_are_private() {
    let folder = tempfile::tempdir().unwrap();

    let report = record(settings(folder.path()), &["x".into()]).await;

    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&folder.path().join("new")), 0o700);
    for RecordedFile { path, .. } in &report.files {
        assert_eq!(mode(path), 0o600, "{}", path.display());
    }
}

#[tokio::test]
async fn folder_that_cannot_be_made_costs_the_recording_and_not_the_session() {
    let settings = Settings {
        directory: "/proc/recordings".into(),
        ..settings(Path::new("/unused"))
    };

    let report = record(settings, &["x".into()]).await;

    assert_eq!(report.files, []);
    assert_eq!(report.lost_bytes, 1);
    let problem = report.problem.unwrap();
    assert!(
        problem.starts_with("cannot write /proc/recordings: "),
        "{problem}"
    );
}

#[test]
fn full_disk_is_an_error_and_what_it_refused_is_written_when_it_has_room() {
    let folder = tempfile::tempdir().unwrap();
    for format in Format::ALL {
        let mut recording = recording(format, &settings(folder.path()));
        let full = OpenOptions::new().append(true).open("/dev/full").unwrap();
        recording.open = Some(open_file(full, Path::new("/dev/full")));
        let batch = [entry(Bytes::from_static(b"cut \xe2\x82"))];

        let error = recording.append(&batch).unwrap_err();

        let text = in_one_line(&error);
        assert!(text.contains("No space left on device"), "{text}");
        let path = folder.path().join("there-is-room");
        let file = File::create(&path).unwrap();
        recording.open = Some(open_file(file, &path));
        recording.append(&batch).unwrap();
        recording
            .append(&[entry(Bytes::from_static(b"\xac"))])
            .unwrap();
        match format {
            Format::Cast => assert_eq!(replay(&path), "cut €"),
            Format::Log => assert_eq!(fs::read_to_string(&path).unwrap(), "cut €"),
        }
    }
}

#[test]
fn batch_that_was_written_in_part_is_cut_off_again() {
    let folder = tempfile::tempdir().unwrap();
    let mut settings = settings(folder.path());
    settings.quota = 300_000;
    for format in Format::ALL {
        let mut recording = recording(format, &settings);
        recording.append(&[entry("kept".into())]).unwrap();
        let too_much: Vec<Entry> = (0..80).map(|_| entry(vec![b'x'; 4096].into())).collect();

        let error = recording.append(&too_much).unwrap_err();
        recording.append(&[entry(", kept".into())]).unwrap();

        assert!(matches!(error, SinkError::Quota { quota: 300_000, .. }));
        let path = recording.open.as_ref().unwrap().path.clone();
        match format {
            Format::Cast => assert_eq!(replay(&path), "kept, kept"),
            Format::Log => assert_eq!(fs::read_to_string(&path).unwrap(), "kept, kept"),
        }
    }
}

#[test]
fn digest_is_that_of_the_file_after_every_batch_even_if_one_was_cut_off_again() {
    let folder = tempfile::tempdir().unwrap();
    let mut settings = settings(folder.path());
    settings.quota = 10_000;
    for format in Format::ALL {
        let mut recording = recording(format, &settings);
        for text in ["one", "two"] {
            recording.append(&[entry(text.into())]).unwrap();
            let too_much: Vec<Entry> = (0..8).map(|_| entry(vec![b'x'; 4096].into())).collect();
            recording.append(&too_much).unwrap_err();

            let RecordedFile {
                path,
                bytes,
                sha256,
            } = recording.open.as_ref().unwrap().describe();
            let content = fs::read(path).unwrap();
            let mut hasher = Hasher::default();
            hasher.update(&content);
            assert_eq!((bytes, sha256), (content.len() as u64, hasher.digest()));
        }
    }
}

#[tokio::test]
async fn session_without_a_byte_has_a_cast_of_its_end_and_an_empty_log() {
    let folder = tempfile::tempdir().unwrap();

    let report = record(settings(folder.path()), &[]).await;

    let [cast, log] = &report.files[..] else {
        panic!("{report:?}");
    };
    let events = events(&cast.path);
    assert!(events[0].2.starts_with("session ended: "), "{events:?}");
    assert_eq!(verify(&cast.path).unwrap().verdict, Verdict::Complete);
    assert_eq!((log.bytes, fs::read(&log.path).unwrap()), (0, Vec::new()));
    assert_eq!((report.lost_bytes, report.problem), (0, None));
}

#[tokio::test]
async fn recording_ends_at_the_quota_and_says_what_it_lacks() {
    let folder = tempfile::tempdir().unwrap();
    let mut settings = settings(folder.path());
    settings.quota = 1 << 20;
    let blocks = vec![Bytes::from_static(&[b'x'; 64 << 10]); 80];

    let report = record(settings, &blocks).await;

    for file in &report.files {
        assert!(file.bytes <= 1 << 20, "{file:?}");
        assert_eq!(fs::metadata(&file.path).unwrap().len(), file.bytes);
    }
    assert!(report.lost_bytes >= 4 << 20, "{}", report.lost_bytes);
    let problem = report.problem.unwrap();
    assert!(
        problem.contains("beyond the quota of 1048576 bytes"),
        "{problem}"
    );
    let verdict = verify(&report.files[0].path).unwrap().verdict;
    assert!(
        matches!(verdict, Verdict::Unended { proven: 1.. }),
        "{verdict:?}"
    );
}

#[tokio::test]
async fn second_session_of_the_same_name_does_not_overwrite_the_first() {
    let folder = tempfile::tempdir().unwrap();

    let first = record(settings(folder.path()), &["first".into()]).await;
    let second = record(settings(folder.path()), &["second".into()]).await;

    let (first, second) = (&first.files[0].path, &second.files[0].path);
    assert_eq!(replay(first), "first");
    assert_eq!(second, &folder.path().join("new/alice-1.2.cast"));
    assert_eq!(replay(second), "second");
}

async fn record(settings: Settings, output: &[Bytes]) -> Report {
    let transcript = Transcript::new(Some(settings));
    let (mut recorder, writer) = transcript.start(about("alice-1"), &[]);
    let writer = tokio::spawn(writer);
    for bytes in output {
        recorder.output(bytes.clone()).await;
    }
    let report = recorder.finish(end()).await;
    writer.await.unwrap();
    report
}

fn recording(format: Format, settings: &Settings) -> Recording {
    let shelf = Arc::new(Shelf::new(settings));
    let sink = FileSink::new(format, shelf, Arc::new(about("alice-1")));
    sink.recording.unwrap()
}

fn open_file(file: File, path: &Path) -> OpenFile {
    OpenFile {
        path: path.to_owned(),
        file,
        whole: Extent::default(),
        torn: false,
    }
}

fn entry(bytes: Bytes) -> Entry {
    Entry {
        at: Duration::from_secs(1),
        event: Event::Output(bytes),
    }
}

fn events(cast: &Path) -> Vec<(f64, String, String)> {
    let text = fs::read_to_string(cast).unwrap();
    let mut lines = text.lines();
    let header: serde_json::Value = serde_json::from_str(lines.next().unwrap()).unwrap();
    assert_eq!(header["version"], 2);
    lines
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

fn texts(events: &[(f64, String, String)]) -> Vec<(f64, &str, &str)> {
    let texts = events.iter();
    texts
        .map(|(at, code, text)| (*at, code.as_str(), text.as_str()))
        .collect()
}

fn replay(cast: &Path) -> String {
    let outputs = events(cast).into_iter().filter(|(_, code, _)| code == "o");
    outputs.map(|(_, _, text)| text).collect()
}

fn end() -> End {
    End {
        reason: "the shell exited".into(),
        exit_code: Some(3),
    }
}

pub(in crate::agent::transcript) fn settings(folder: &Path) -> Settings {
    Settings {
        directory: folder.join("new"),
        formats: vec![Format::Cast, Format::Log],
        retention: Duration::from_secs(3600),
        quota: 100 << 20,
        record_input: false,
        spool: crate::agent::transcript::DEFAULT_SPOOL,
        policy: crate::agent::transcript::Policy::FailOpen,
    }
}

pub(in crate::agent::transcript) fn about(session: &str) -> About {
    About {
        session_id: SessionId::new(session).unwrap(),
        node_id: "mi-0123".into(),
        user: "ssm-user".into(),
        owner: "arn:aws:iam::1:user/alice".into(),
        document: "SSM-SessionManagerRunShell".into(),
        reason: String::new(),
        size: TerminalSize { cols: 80, rows: 24 },
        started: SystemTime::now(),
        command: "/bin/bash".into(),
    }
}

//! The quick start as a newcomer runs it.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use tempfile::TempDir;

#[test]
fn command_output_and_exit_status_come_through() {
    let output = Quickstart::new().run(&["--", "sh", "-c", "printf 'first light'; exit 7"], b"");

    assert_eq!(output.stdout, b"first light", "{}", text(&output));
    assert_eq!(output.status.code(), Some(7));
}

#[test]
fn command_output_is_binary_safe() {
    let world = Quickstart::new();
    let bytes: Vec<u8> = (0..300_000_u32)
        .map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8)
        .collect();
    let file = world.folder.path().join("bytes");
    fs::write(&file, &bytes).unwrap();

    let output = world.run(&["--", "cat", file.to_str().unwrap()], b"");

    assert!(output.stdout == bytes, "{} bytes came", output.stdout.len());
    assert_eq!(output.status.code(), Some(0));
}

#[test]
fn shell_takes_its_input_from_stdin() {
    let output = Quickstart::new().run(&[], b"echo sum=$((40 + 2))\nexit 3\n");

    assert!(text(&output).contains("sum=42"), "{}", text(&output));
    assert_eq!(output.status.code(), Some(3), "{}", text(&output));
}

#[test]
fn command_inherits_no_descriptor_but_its_terminal() {
    let world = Quickstart::new();
    let script = "exec \"$0\" \"$@\" 9< /dev/null";
    let mut command = Command::new("sh");
    command.args(["-c", script, env!("CARGO_BIN_EXE_quickstart")]);

    // `ls` itself has the folder open, as 3.
    let output = world.finish(command.args(["--", "ls", "-1", "/proc/self/fd"]), b"");

    assert_eq!(output.stdout, b"0\n1\n2\n3\n", "{}", text(&output));
}

#[test]
fn recording_outlives_the_quick_start_and_holds_the_output() {
    let world = Quickstart::new();

    let output = world.run(&["--", "printf", "caught\\n"], b"");

    let log = fs::read(world.recording("log")).unwrap();
    let cast = fs::read(world.recording("cast")).unwrap();
    assert_eq!(output.stdout, b"caught\n");
    assert_eq!(log, b"caught\n");
    let cast = String::from_utf8(cast).unwrap();
    let header: serde_json::Value = serde_json::from_str(cast.lines().next().unwrap()).unwrap();
    assert_eq!(header["version"], 2);
    assert!(cast.contains(r"caught\n"), "{cast}");
}

#[test]
fn recording_is_intact_until_somebody_changes_it() {
    let world = Quickstart::new();
    world.run(&["--", "printf", "caught\\n"], b"");
    let cast = world.recording("cast");

    let intact = verify(&[&cast]);
    let told: serde_json::Value = serde_json::from_slice(&intact.stdout).unwrap();
    let log = verify(&[&world.recording("log"), Path::new("--sha256"), &cast]);
    let text = fs::read_to_string(&cast).unwrap();
    fs::write(&cast, text.replace("caught", "missed")).unwrap();
    let altered = verify(&[&cast]);

    assert_eq!(intact.status.code(), Some(0));
    assert_eq!(
        (&told["verdict"], &told["good"]),
        (&"intact".into(), &true.into())
    );
    assert_eq!(log.status.code(), Some(2), "a path is no digest");
    assert_eq!(altered.status.code(), Some(1));
    let told: serde_json::Value = serde_json::from_slice(&altered.stdout).unwrap();
    assert_eq!(told["verdict"], "altered");
}

#[test]
fn program_that_does_not_exist_is_a_clear_answer() {
    let output = Quickstart::new().run(&["--", "no-such-program-here"], b"");

    assert_eq!(output.status.code(), Some(127), "{}", text(&output));
    assert!(
        text(&output).contains("no-such-program-here"),
        "{}",
        text(&output)
    );
}

fn verify(arguments: &[&Path]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_ssm-agent"))
        .args(["verify-recording", "--json"])
        .args(arguments)
        .output()
        .unwrap()
}

struct Quickstart {
    folder: TempDir,
}

impl Quickstart {
    fn new() -> Self {
        Self {
            folder: tempfile::tempdir().unwrap(),
        }
    }

    fn run(&self, arguments: &[&str], input: &[u8]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_quickstart"));
        self.finish(command.args(arguments), input)
    }

    fn finish(&self, command: &mut Command, input: &[u8]) -> Output {
        let mut child = command
            .env("TMPDIR", self.folder.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        child.stdin.take().unwrap().write_all(input).unwrap();
        child.wait_with_output().unwrap()
    }

    fn recording(&self, ending: &str) -> PathBuf {
        let kept = fs::read_dir(self.folder.path())
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .find(|path| path.to_string_lossy().ends_with(".recordings"))
            .expect("the recordings are kept");
        fs::read_dir(kept)
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .find(|path| path.extension().is_some_and(|found| found == ending))
            .expect("there is one in each format")
    }
}

fn text(output: &Output) -> String {
    format!(
        "status {:?}\nstdout: {}\nstderr: {}",
        output.status.code(),
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    )
}

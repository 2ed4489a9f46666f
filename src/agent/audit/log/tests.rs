use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;
use tempfile::TempDir;
use tokio::task::JoinHandle;

use super::*;
use crate::agent::audit::Text;

#[tokio::test]
async fn lines_are_written_in_order_with_numbers_and_times() {
    let world = World::new();
    let (audit, writer) = world.open();

    for number in 0..100 {
        audit.record(&event(number));
    }
    audit.close();
    writer.await.unwrap();

    let lines = world.lines();
    let numbers: Vec<u64> = lines.iter().map(|line| number(line, "seq")).collect();
    assert_eq!(numbers, (0..100).collect::<Vec<_>>());
    assert_eq!(lines[7]["event"], "agent-started");
    assert_eq!(lines[7]["node"], "7");
    let time = lines[7]["time"].as_str().unwrap();
    assert!(
        time.parse::<Timestamp>().is_ok() && time.ends_with('Z'),
        "{time}"
    );
}

#[tokio::test]
async fn closed_log_takes_nothing_and_one_that_is_off_neither() {
    let world = World::new();
    let (audit, writer) = world.open();
    audit.record(&event(0));
    audit.close();
    audit.record(&event(1));
    writer.await.unwrap();

    AuditLog::off().record(&event(2));

    assert_eq!(world.lines().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn lines_wait_for_a_disk_that_comes_back_and_lost_ones_are_counted() {
    let world = World::new();
    fs::write(world.path.parent().unwrap(), "in the way").unwrap();
    let (audit, writer) = world.open();
    let long = Event::AgentStarted {
        node: Text::from("x".repeat(8000)),
        version: "1",
    };

    for _ in 0..1000 {
        audit.record(&long);
    }
    tokio::time::sleep(Duration::from_secs(60)).await;
    fs::remove_file(world.path.parent().unwrap()).unwrap();
    while !world.path.exists() {
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    audit.record(&event(1));
    audit.close();
    writer.await.unwrap();

    let lines = world.lines();
    let lost = lines.iter().find(|line| line["event"] == "lines-lost");
    let lost = number(lost.unwrap(), "lines");
    let kept = lines.iter().filter(|line| line["event"] == "agent-started");
    assert!(lost > 400, "{lost}");
    assert_eq!(kept.count() as u64 + lost, 1001);
    let total: usize = lines.iter().map(|line| line.to_string().len()).sum();
    assert!(total <= QUEUE + 1000, "{total}");
    assert_eq!(lines.last().unwrap()["node"], "1");
    let numbers: Vec<u64> = lines.iter().map(|line| number(line, "seq")).collect();
    assert!(numbers.is_sorted(), "{numbers:?}");
    assert_eq!(numbers.last(), Some(&1001));
}

#[tokio::test(start_paused = true)]
async fn log_that_cannot_be_written_does_not_hold_up_the_stop() {
    let (audit, write) = AuditLog::open(Settings {
        path: "/proc/none/audit.log".into(),
        limit: 1 << 20,
        files: 2,
    });
    let writer = tokio::spawn(write);
    audit.record(&event(0));
    tokio::time::sleep(Duration::from_secs(100)).await;

    let started = Instant::now();
    audit.record(&event(1));
    audit.close();
    writer.await.unwrap();

    assert!(started.elapsed() < Duration::from_secs(1));
}

struct World {
    _folder: TempDir,
    path: PathBuf,
}

impl World {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        Self {
            path: folder.path().join("logs/audit.log"),
            _folder: folder,
        }
    }

    fn open(&self) -> (AuditLog, JoinHandle<()>) {
        let (audit, write) = AuditLog::open(Settings {
            path: self.path.clone(),
            limit: 100 << 20,
            files: 2,
        });
        (audit, tokio::spawn(write))
    }

    fn lines(&self) -> Vec<Value> {
        read(&self.path)
    }
}

fn read(path: &Path) -> Vec<Value> {
    let text = fs::read_to_string(path).unwrap();
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

fn event(number: u64) -> Event<'static> {
    Event::AgentStarted {
        node: Text::from(number.to_string()),
        version: "1",
    }
}

fn number(line: &Value, name: &str) -> u64 {
    line[name].as_u64().unwrap()
}

//! Bulk output of a program, recorded in both formats, against the same program on a plain terminal;
//! and the same with the record sent to the gateway while the session runs.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde_json::json;

use crate::plain;
use crate::programs::World;
use crate::report::{Report, Target, mb_per_s};
use crate::session::Person;

/// Size of the file, and how often it is put out.
const FILE: usize = 32 << 20;
const TIMES: usize = 8;
const BYTES: u64 = (FILE * TIMES) as u64;
const ROUNDS: usize = 3;

pub async fn measure(report: &mut Report) {
    report.heading("bulk output of a shell's program (text, recorded as log and cast)");
    let (world, node) = World::with_agent().await;
    let (uploading, uploading_node) = uploading().await;
    let file = lines(world.folder.path());
    let file = file.to_str().unwrap();
    let mut command = vec!["cat"];
    command.extend([file; TIMES]);

    let mut best = Best::default();
    for _ in 0..ROUNDS {
        for (row, baseline) in [plain::read, plain::over_tcp, plain::over_two_tls]
            .into_iter()
            .enumerate()
        {
            let words: Vec<String> = command.iter().map(|&word| word.to_owned()).collect();
            let run = tokio::task::spawn_blocking(move || plain::timed(|| baseline(&words)));
            best.take(row, run.await.unwrap());
        }
        for (row, world, node) in [(3, &world, &node), (4, &uploading, &uploading_node)] {
            let cpu = world.agent_cpu();
            let began = Instant::now();
            let mut person = Person::start(world, node, &command).await;
            let bytes = person.drain().await;
            let took = began.elapsed();
            assert_eq!(person.ended().await.exit_code, Some(0));
            let cpu = (world.agent_cpu() - cpu).as_secs_f64() / (BYTES as f64 / 1e9);
            best.cpu[row - 3] = cpu;
            best.take(row, (bytes, took));
        }
    }
    let [pty, tcp, tls, ours, uploaded] = best.speeds;
    report.note("plain terminal", format!("{pty:.1} MB/s"));
    report.note("plain terminal over TCP", format!("{tcp:.1} MB/s"));
    report.note(
        "plain terminal through two TLS relays",
        format!("{tls:.1} MB/s"),
    );
    report.figure("session", ours, "MB/s", Target::AtLeast(100.0));
    report.note("session / plain terminal", format!("{:.2}", ours / pty));
    report.law(
        "session / two TLS relays",
        ours / tls,
        "",
        Target::AtLeast(0.4),
    );
    report.note("agent", format!("{:.1} CPU s/GB", best.cpu[0]));
    report.note(
        "session, recorded at the gateway too / session",
        format!("{:.2}", uploaded / ours),
    );
    report.note(
        "its agent, until the record is there",
        format!("{:.1} CPU s/GB", best.cpu[1]),
    );
}

/// A gateway, and an agent that uploads its records there.
async fn uploading() -> (World, String) {
    let mut world = World::start();
    let node = world.register().await;
    world.configure(|config| {
        config["SsmAgent"]["Transcript"] = json!({"Gateway": {"Enabled": true}});
    });
    world.start_agent();
    world.wait_connected(&node).await;
    (world, node)
}

/// The best of several runs of each: the others say more about the machine.
#[derive(Default)]
struct Best {
    speeds: [f64; 5],
    cpu: [f64; 2],
}

impl Best {
    fn take(&mut self, row: usize, (bytes, took): (u64, Duration)) {
        assert_eq!(bytes, BYTES, "row {row}");
        self.speeds[row] = self.speeds[row].max(mb_per_s(bytes, took));
    }
}

/// A file of log lines.
pub fn lines(folder: &Path) -> PathBuf {
    let path = folder.join("lines");
    let mut text = Vec::with_capacity(FILE + 200);
    let mut number = 0_u64;
    while text.len() < FILE {
        writeln!(
            text,
            "2026-01-02T03:04:05.{:06}Z host-{:03} service[{}]: request {number} took {} ms, status=200 path=\"/v1/items/{}\"",
            number % 1_000_000,
            number % 311,
            number % 32_768,
            number % 977,
            number.wrapping_mul(2_654_435_761) % 100_000,
        )
        .unwrap();
        number += 1;
    }
    text.truncate(FILE);
    std::fs::write(&path, text).unwrap();
    path
}

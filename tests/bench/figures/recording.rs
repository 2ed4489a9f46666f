//! What recording costs: the same sessions of an agent that records nothing, one that writes files, one
//! that sends the cast to the gateway too, and one with all sinks on, which has S3 (text and cast) and
//! CloudWatch Logs (streamed) besides. Services, gateway, agent and client share the machine.

use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::echo;
use crate::output::lines;
use crate::programs::World;
use crate::report::{Report, Samples, Target, mb_per_s};
use crate::session::Person;
use crate::stand_ins::StandIns;

/// How often a file of 32 MiB is put out.
const TIMES: usize = 8;
const BYTES: u64 = (TIMES * (32 << 20)) as u64;
/// Runs of each, one after the other in turn.
const ROUNDS: usize = 5;
const KEYS: usize = 1000;
/// Idle sessions whose memory is compared.
const IDLE: usize = 100;
/// Sessions that are recorded to S3 at once.
const SESSIONS: usize = 500;
/// Opened at the same time.
const AT_ONCE: usize = 8;
/// Sessions that print without end while the memory of their uploads is looked at.
const BUSY: usize = 16;
const SETTLED: Duration = Duration::from_secs(3);
/// Longest wait for what is uploaded after the end.
const PATIENCE: Duration = Duration::from_mins(5);
/// What idle sessions run.
const IDLING: [&str; 3] = ["sh", "-c", "echo ready; exec cat"];

/// An agent and how it records.
struct Variant {
    name: &'static str,
    world: World,
    node: String,
}

pub async fn measure(report: &mut Report) {
    report.heading("recording");
    let services = StandIns::start().await;
    let all = json!({
        "Gateway": {"Enabled": true},
        "S3": {"Bucket": "bench", "Cast": true},
        "CloudWatch": {"LogGroup": "/bench", "Streaming": true, "Endpoint": services.url},
    });
    let variants = [
        variant("nothing recorded", &services, json!({"Enabled": false})).await,
        variant("files", &services, json!({})).await,
        variant(
            "files, gateway",
            &services,
            json!({"Gateway": {"Enabled": true}}),
        )
        .await,
        variant("files, gateway, S3, Logs", &services, all).await,
    ];
    throughput(report, &variants).await;
    keys(report, &variants).await;
    memory(report, &variants).await;
    let [.., every] = variants;
    report.note("events in the log group", services.events());
    drop(every);
    many(report).await;
    busy(report).await;
}

async fn variant(name: &'static str, services: &StandIns, transcript: Value) -> Variant {
    let mut world = World::start();
    let node = world.register().await;
    world.configure(|config| {
        config["S3"] = json!({"Endpoint": services.url});
        config["SsmAgent"]["Transcript"] = transcript;
    });
    world.start_agent();
    world.wait_connected(&node).await;
    Variant { name, world, node }
}

/// Bulk output in turn; ratios of the same round, as the machine changes its speed.
async fn throughput(report: &mut Report, variants: &[Variant]) {
    let file = lines(variants[0].world.folder.path());
    let file = file.to_str().unwrap();
    let mut command = vec!["cat"];
    command.extend([file; TIMES]);
    let mut speeds = vec![Vec::new(); variants.len()];
    let mut cpu = vec![Duration::ZERO; variants.len()];
    for _ in 0..ROUNDS {
        for (number, Variant { world, node, .. }) in variants.iter().enumerate() {
            let before = world.agent_cpu();
            let began = Instant::now();
            let mut person = Person::start(world, node, &command).await;
            let bytes = person.drain().await;
            let took = began.elapsed();
            assert_eq!(person.ended().await.exit_code, Some(0));
            assert_eq!(bytes, BYTES);
            // What follows the session must not slow the next one down.
            settle(world).await;
            cpu[number] += world.agent_cpu() - before;
            speeds[number].push(mb_per_s(bytes, took));
        }
    }
    for (number, Variant { name, .. }) in variants.iter().enumerate() {
        let gigabytes = (BYTES * ROUNDS as u64) as f64 / 1e9;
        let ratio = median(
            speeds[number]
                .iter()
                .zip(&speeds[0])
                .map(|(ours, none)| ours / none),
        );
        let speed = median(speeds[number].iter().copied());
        report.note(
            &format!("{name}: bulk output, agent"),
            format!(
                "{speed:.1} MB/s, {:.1} CPU s/GB",
                cpu[number].as_secs_f64() / gigabytes
            ),
        );
        if number > 0 {
            let target = Target::AtLeast(0.95);
            report.figure(&format!("{name} / nothing recorded"), ratio, "", target);
        }
    }
}

/// Echo of a key, with nothing and with everything.
async fn keys(report: &mut Report, variants: &[Variant]) {
    let mut took = Vec::new();
    for Variant { world, node, .. } in [&variants[0], &variants[variants.len() - 1]] {
        let mut person = Person::start(world, node, &echo::ECHO).await;
        person.wait_for("ready\n").await;
        took.push(Samples::new(echo::type_keys(&mut person, KEYS).await));
        person.leave().await;
    }
    for percent in [50, 99] {
        let [none, all] = [&took[0], &took[1]].map(|samples| samples.percentile_ms(percent));
        let name = format!("echo of a key with all sinks, p{percent}, more by");
        report.figure(&name, all - none, "ms", Target::AtMost(1.0));
    }
}

/// Memory of idle sessions, with nothing and with everything.
async fn memory(report: &mut Report, variants: &[Variant]) {
    let mut each = Vec::new();
    for Variant { world, node, .. } in [&variants[0], &variants[variants.len() - 1]] {
        let before = world.agent_memory();
        let mut people = Vec::new();
        for _ in 0..IDLE {
            let mut person = Person::start(world, node, &IDLING).await;
            person.wait_for("ready").await;
            people.push(person);
        }
        tokio::time::sleep(SETTLED).await;
        let more = world.agent_memory().saturating_sub(before);
        each.push(more as f64 / IDLE as f64 / 1024.0);
        for person in people {
            person.leave().await;
        }
        settle(world).await;
    }
    report.law(
        "memory of a session's recording, all sinks on",
        each[1] - each[0],
        "KiB",
        Target::AtMost(256.0),
    );
}

/// Many sessions at once, each with an object in S3.
async fn many(report: &mut Report) {
    let services = StandIns::start().await;
    let s3 = json!({"S3": {"Bucket": "bench", "Cast": true}});
    let Variant { world, node, .. } = variant("S3", &services, s3).await;
    let world = Arc::new(world);
    let before = world.agent_memory();
    let mut opening = JoinSet::new();
    let mut people = Vec::with_capacity(SESSIONS);
    for number in 0..SESSIONS {
        if number >= AT_ONCE {
            people.push(opening.join_next().await.unwrap().unwrap());
        }
        let (world, node) = (Arc::clone(&world), node.clone());
        opening.spawn(async move {
            let mut person = Person::start(&world, &node, &IDLING).await;
            person.wait_for("ready").await;
            person
        });
    }
    people.extend(opening.join_all().await);
    let began = Instant::now();
    while services.objects() < 2 * SESSIONS {
        assert!(began.elapsed() < PATIENCE, "{} objects", services.objects());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    report.note(
        &format!("objects of {SESSIONS} sessions are there after"),
        format!("{:.1} s", began.elapsed().as_secs_f64()),
    );
    let each = world.agent_memory().saturating_sub(before) as f64 / SESSIONS as f64 / 1024.0;
    report.law(
        &format!("agent's PSS per session recorded to S3, {SESSIONS} open"),
        each,
        "KiB",
        Target::AtMost(512.0),
    );
    let mut leaving = JoinSet::new();
    for person in people {
        leaving.spawn(person.leave());
    }
    leaving.join_all().await;
    settle(&world).await;
}

/// The most memory that uploads to S3 take.
async fn busy(report: &mut Report) {
    let services = StandIns::start().await;
    let s3 = json!({"S3": {"Bucket": "bench", "Cast": true}});
    let Variant { world, node, .. } = variant("S3", &services, s3).await;
    let before = world.agent_memory();
    let file = lines(world.folder.path());
    let command = ["cat", file.to_str().unwrap()];
    let mut reading = JoinSet::new();
    for _ in 0..BUSY {
        let mut person = Person::start(&world, &node, &command).await;
        reading.spawn(async move { person.drain().await });
    }
    let mut most = before;
    while !reading.is_empty() || is_uploading(&world) {
        let _ = reading.try_join_next();
        most = most.max(world.agent_memory());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let stored = services.stored() as f64 / 1e6;
    report.note("stored in S3", format!("{stored:.0} MB"));
    report.law(
        &format!("agent's PSS more with {BUSY} sessions in bulk to S3"),
        (most - before) as f64 / f64::from(1 << 20),
        "MiB",
        Target::AtMost(200.0),
    );
}

/// Waits until nothing is uploaded any more.
async fn settle(world: &World) {
    let began = Instant::now();
    while is_uploading(world) {
        assert!(began.elapsed() < PATIENCE, "uploads do not end");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

fn is_uploading(world: &World) -> bool {
    let spool = std::fs::read_dir(world.folder.path().join("agent/spool"));
    spool.is_ok_and(|mut folders| folders.next().is_some())
}

fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

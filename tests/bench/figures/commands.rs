//! Run Command: from SendCommand to the result that the API shows.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::bucket::Bucket;
use crate::programs::World;
use crate::report::{Report, Samples, Target};

/// Commands one after the other.
const ALONE: usize = 101;
/// Commands at once.
const QUEUED: usize = 100;
/// Who sends those, each on a connection of its own.
const SENDERS: usize = 4;
/// How often it is asked what of them is open, which takes the processor from them.
const GLANCE: Duration = Duration::from_millis(10);
/// Agents of one command.
const AGENTS: usize = 200;
/// Commands whose traces on disk are looked at.
const MANY: usize = 10_000;
/// Callers of those.
const CALLERS: usize = 8;
/// How often a result is asked for.
const LOOK: Duration = Duration::from_millis(1);
const PATIENCE: Duration = Duration::from_secs(120);
const SHELL: &str = "AWS-RunShellScript";
/// What a reply has of longer output.
const SHOWN: usize = 24_000;
const MARK: &str = "--output truncated--";

pub async fn measure(report: &mut Report) {
    report.heading("commands");
    one_by_one(report).await;
    long_output(report).await;
    fleet(report).await;
    traces(report).await;
}

async fn one_by_one(report: &mut Report) {
    let (world, node) = World::with_agent().await;
    let mut samples = Vec::new();
    for _ in 0..ALONE {
        let began = Instant::now();
        let command = send(&world, &node, "true", json!({})).await;
        ended(&world, &command, &node).await;
        samples.push(began.elapsed());
    }
    let samples = Samples::new(samples);
    report.figure(
        "SendCommand to result of `true`, median",
        samples.median_ms(),
        "ms",
        Target::AtMost(10.0),
    );
    report.note(
        "the same, p90",
        format!("{:.2} ms", samples.percentile_ms(90)),
    );

    let cpu = world.agent_cpu();
    let began = Instant::now();
    let world = Arc::new(world);
    let mut sending = JoinSet::new();
    for _ in 0..SENDERS {
        let (world, node) = (Arc::clone(&world), node.clone());
        sending.spawn(async move {
            for _ in 0..QUEUED / SENDERS {
                send(&world, &node, "true", json!({})).await;
            }
        });
    }
    sending.join_all().await;
    until_nothing_is_open(&world).await;
    report.figure(
        &format!("{QUEUED} commands from {SENDERS} callers, 5 workers"),
        began.elapsed().as_secs_f64(),
        "s",
        Target::AtMost(0.4),
    );
    let cpu = world.agent_cpu().saturating_sub(cpu);
    report.note(
        "the agent's own CPU of that",
        format!("{:.2} s", cpu.as_secs_f64()),
    );

    let began = Instant::now();
    let script = "head -c 10000000 /dev/zero | tr '\\0' x";
    let command = send(&world, &node, script, json!({})).await;
    let found = ended(&world, &command, &node).await;
    report.figure(
        "a command that prints 10 MB",
        began.elapsed().as_secs_f64(),
        "s",
        Target::AtMost(1.0),
    );
    check_shown(&found);
}

/// 1 GB of output, which goes to S3 too.
async fn long_output(report: &mut Report) {
    const BYTES: usize = 1_000_000_000;
    let bucket = Bucket::start().await;
    let mut world = World::start();
    let node = world.register().await;
    world.configure(|config| config["S3"] = json!({"Endpoint": bucket.url}));
    world.start_agent();
    world.wait_connected(&node).await;
    let before = world.agent_memory();
    let began = Instant::now();
    let script = format!("head -c {BYTES} /dev/zero | tr '\\0' x");
    let output = json!({"OutputS3BucketName": "output", "OutputS3KeyPrefix": "p"});
    let command = send(&world, &node, &script, output).await;
    let mut most = before;
    let found = loop {
        most = most.max(world.agent_memory());
        let found = look(&world, &command, &node).await;
        if is_over(&found) {
            break found;
        }
        assert!(began.elapsed() < PATIENCE, "{found}");
        tokio::time::sleep(10 * LOOK).await;
    };
    report.note(
        "a command that prints 1 GB, stored in S3",
        format!("{:.1} s", began.elapsed().as_secs_f64()),
    );
    report.law(
        "the agent's PSS grows meanwhile by",
        most.saturating_sub(before) as f64 / f64::from(1 << 20),
        "MiB",
        Target::AtMost(32.0),
    );
    check_shown(&found);
    assert_eq!(bucket.length(), Some(BYTES), "the object");
}

fn check_shown(found: &Value) {
    let shown = found["StandardOutputContent"].as_str().unwrap();
    let kept = shown.strip_suffix(MARK).expect("it says that it was cut");
    assert_eq!(
        (shown.len(), found["Status"].as_str()),
        (SHOWN, Some("Success"))
    );
    assert!(kept.bytes().all(|byte| byte == b'x'));
}

/// One command by tag for many agents, each a process of its own.
async fn fleet(report: &mut Report) {
    let world = World::start();
    let mut agents = Fleet(Vec::new());
    for number in 0..AGENTS {
        agents.0.push(start_agent(&world, number));
    }
    for number in 0..AGENTS {
        let node = node_of(number);
        let tags = json!({"ResourceType": "ManagedInstance", "ResourceId": node,
            "Tags": [{"Key": "role", "Value": "fleet"}]});
        let _: Value = world.client.ssm("AddTagsToResource", &tags).await.unwrap();
        world.wait_connected(&node).await;
    }
    let began = Instant::now();
    let request = json!({
        "Targets": [{"Key": "tag:role", "Values": ["fleet"]}], "DocumentName": SHELL,
        "MaxConcurrency": "100%", "Parameters": {"commands": ["true"]},
    });
    let sent: Value = world.client.ssm("SendCommand", &request).await.unwrap();
    let command = sent["Command"]["CommandId"].as_str().unwrap().to_owned();
    let done = loop {
        let listed = json!({"CommandId": command});
        let listed: Value = world.client.ssm("ListCommands", &listed).await.unwrap();
        let command = &listed["Commands"][0];
        if command["CompletedCount"] == AGENTS {
            break command.clone();
        }
        assert!(began.elapsed() < PATIENCE, "{listed}");
        tokio::time::sleep(5 * LOOK).await;
    };
    report.figure(
        &format!("one command by tag on {AGENTS} agents"),
        began.elapsed().as_secs_f64(),
        "s",
        Target::AtMost(5.0),
    );
    assert_eq!(
        (&done["Status"], &done["ErrorCount"]),
        (&"Success".into(), &0.into())
    );
}

/// Processes that end with the measurement.
struct Fleet(Vec<Child>);

impl Drop for Fleet {
    fn drop(&mut self) {
        for agent in &mut self.0 {
            let _ = agent.kill();
        }
        for agent in &mut self.0 {
            let _ = agent.wait();
        }
    }
}

fn node_of(number: usize) -> String {
    format!("mi-{number:017x}")
}

fn start_agent(world: &World, number: usize) -> Child {
    let node = node_of(number);
    let folder = world.folder.path().join("fleet").join(&node);
    fs::create_dir_all(&folder).unwrap();
    let created = Command::new(env!("CARGO_BIN_EXE_ssm-gateway"))
        .args([
            "access", "create", &node, "--node", &node, "--json", "--state",
        ])
        .arg(world.folder.path().join("gateway"))
        .output()
        .unwrap();
    let key: Value = serde_json::from_slice(&created.stdout).unwrap();
    let mut config: Value = serde_json::from_slice(&fs::read(world.config()).unwrap()).unwrap();
    config["Identity"] = json!({"ConsumptionOrder": ["CustomIdentity"],
        "CustomIdentities": [{"InstanceID": node, "Region": "us-east-1"}]});
    let path = folder.join("agent.json");
    fs::write(&path, config.to_string()).unwrap();
    Command::new(env!("CARGO_BIN_EXE_ssm-agent"))
        .args(["--log-level", "error", "--config"])
        .arg(path)
        .arg("--state-dir")
        .arg(folder.join("state"))
        .arg("--log-dir")
        .arg(folder.join("log"))
        .env("HOME", &folder)
        .env("AWS_ACCESS_KEY_ID", key["AccessKeyId"].as_str().unwrap())
        .env(
            "AWS_SECRET_ACCESS_KEY",
            key["SecretAccessKey"].as_str().unwrap(),
        )
        .env("AWS_EC2_METADATA_DISABLED", "true")
        .env_remove("RUNTIME_DIRECTORY")
        .stdin(Stdio::null())
        .spawn()
        .unwrap()
}

/// What many commands leave on the agent's disk, where their folders are deleted when they end well.
async fn traces(report: &mut Report) {
    let mut world = World::start();
    let node = world.register().await;
    world.configure(|config| {
        config["Ssm"]["OrchestrationDirectoryCleanup"] = "clean-success".into();
    });
    world.start_agent();
    world.wait_connected(&node).await;
    let world = Arc::new(world);
    let state = world.folder.path().join("agent").join(&node);
    run_many(&world, &node, MANY / 10).await;
    let before = used(&state);
    let began = Instant::now();
    run_many(&world, &node, MANY).await;
    let took = began.elapsed();
    report.note(
        &format!("{MANY} commands, {CALLERS} callers"),
        format!("{:.0} per second", MANY as f64 / took.as_secs_f64()),
    );
    report.law(
        "disk that they leave used",
        used(&state).saturating_sub(before) as f64 / 1024.0,
        "KiB",
        Target::AtMost(64.0),
    );
    let known = fs::read_dir(state.join("idempotency/SendCommand")).unwrap();
    report.note("names remembered for 30 minutes", known.count());
}

async fn run_many(world: &Arc<World>, node: &str, count: usize) {
    let mut callers = JoinSet::new();
    for _ in 0..CALLERS {
        let (world, node) = (Arc::clone(world), node.to_owned());
        callers.spawn(async move {
            for _ in 0..count / CALLERS {
                let command = send(&world, &node, "true", json!({})).await;
                ended(&world, &command, &node).await;
            }
        });
    }
    callers.join_all().await;
}

/// Bytes on disk below `folder`, but for the names of commands that were accepted lately.
fn used(folder: &Path) -> u64 {
    let mut total = 0;
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let Ok(metadata) = entry.metadata() else {
            continue;
        };
        if entry.file_name() == "idempotency" {
            continue;
        }
        total += metadata.blocks() * 512;
        if metadata.is_dir() {
            total += used(&entry.path());
        }
    }
    total
}

async fn send(world: &World, node: &str, script: &str, more: Value) -> String {
    let mut request = json!({"InstanceIds": [node], "DocumentName": SHELL,
        "Parameters": {"commands": [script]}});
    let members = more.as_object().unwrap().clone();
    request.as_object_mut().unwrap().extend(members);
    let sent: Value = world.client.ssm("SendCommand", &request).await.unwrap();
    sent["Command"]["CommandId"].as_str().unwrap().to_owned()
}

async fn look(world: &World, command: &str, node: &str) -> Value {
    let request = json!({"CommandId": command, "InstanceId": node});
    world
        .client
        .ssm("GetCommandInvocation", &request)
        .await
        .unwrap()
}

fn is_over(found: &Value) -> bool {
    !matches!(found["Status"].as_str().unwrap(), "Pending" | "InProgress")
}

async fn ended(world: &World, command: &str, node: &str) -> Value {
    let began = Instant::now();
    loop {
        let found = look(world, command, node).await;
        if is_over(&found) {
            return found;
        }
        assert!(began.elapsed() < PATIENCE, "{found}");
        tokio::time::sleep(LOOK).await;
    }
}

async fn until_nothing_is_open(world: &World) {
    let began = Instant::now();
    loop {
        let mut open = 0;
        for status in ["Pending", "InProgress"] {
            let request = json!({"Filters": [{"key": "Status", "value": status}]});
            let listed: Value = world
                .client
                .ssm("ListCommandInvocations", &request)
                .await
                .unwrap();
            open += listed["CommandInvocations"].as_array().unwrap().len();
        }
        if open == 0 {
            return;
        }
        assert!(began.elapsed() < PATIENCE, "{open} are open");
        tokio::time::sleep(GLANCE).await;
    }
}

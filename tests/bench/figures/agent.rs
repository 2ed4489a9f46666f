//! The agent by itself: how fast it is there, and what it takes while nobody uses it.

use std::time::{Duration, Instant};

use crate::programs::World;
use crate::report::{Report, Samples, Target};

const STARTS: usize = 9;
/// How long an agent has been up when its memory is looked at.
const SETTLED: Duration = Duration::from_secs(3);

pub async fn measure(report: &mut Report) {
    report.heading("agent");
    let (mut world, node) = World::with_agent().await;
    tokio::time::sleep(SETTLED).await;
    let memory = world.agent_memory();
    report.law(
        "idle agent, one process, PSS",
        memory as f64 / f64::from(1 << 20),
        "MiB",
        Target::AtMost(12.0),
    );

    let mut samples = Vec::new();
    for _ in 0..STARTS {
        world.kill_agent();
        world.wait_disconnected(&node).await;
        let began = Instant::now();
        world.start_agent();
        world.wait_connected(&node).await;
        samples.push(began.elapsed());
    }
    report.figure(
        "start to control channel open, median",
        Samples::new(samples).median_ms(),
        "ms",
        Target::AtMost(100.0),
    );
}

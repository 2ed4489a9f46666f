//! Many sessions on one agent at once, with the limits that the system gives.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::task::JoinSet;

use crate::programs::World;
use crate::report::{Report, Target};
use crate::session::Person;

const SESSIONS: usize = 500;
/// Opened at the same time.
const AT_ONCE: usize = 8;
const SETTLED: Duration = Duration::from_secs(2);

pub async fn measure(report: &mut Report) {
    report.heading("many sessions");
    let (world, node) = World::with_agent().await;
    let world = Arc::new(world);
    let before = world.agent_memory();
    let began = Instant::now();
    let mut people = open(&world, &node).await;
    let took = began.elapsed();
    tokio::time::sleep(SETTLED).await;
    let each = (world.agent_memory() - before) as f64 / SESSIONS as f64 / 1024.0;

    report.figure(
        &format!("sessions opened per second, {AT_ONCE} at a time"),
        SESSIONS as f64 / took.as_secs_f64(),
        "",
        Target::AtLeast(100.0),
    );
    report.law(
        &format!("agent's PSS per idle session, {SESSIONS} open"),
        each,
        "KiB",
        Target::AtMost(200.0),
    );
    let began = Instant::now();
    let mut leaving = JoinSet::new();
    for person in people.drain(..) {
        leaving.spawn(person.leave());
    }
    leaving.join_all().await;
    report.note(
        "sessions ended per second",
        format!("{:.0}", SESSIONS as f64 / began.elapsed().as_secs_f64()),
    );
}

async fn open(world: &Arc<World>, node: &str) -> Vec<Person> {
    let mut opening = JoinSet::new();
    let mut people = Vec::with_capacity(SESSIONS);
    for number in 0..SESSIONS {
        if number >= AT_ONCE {
            people.push(opening.join_next().await.unwrap().unwrap());
        }
        let (world, node) = (Arc::clone(world), node.to_owned());
        opening.spawn(async move {
            let command = ["sh", "-c", "echo ready; exec cat"];
            let mut person = Person::start(&world, &node, &command).await;
            person.wait_for("ready").await;
            person
        });
    }
    people.extend(opening.join_all().await);
    people
}

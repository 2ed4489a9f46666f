//! How long a key takes to come back, against a terminal at the other end of one TCP connection.

use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, copy, sink};

use crate::plain;
use crate::programs::World;
use crate::report::{Report, Samples, Target};
use crate::session::Person;

const KEYS: usize = 3000;
/// Puts every byte out again, one by one.
pub const ECHO: [&str; 3] = ["sh", "-c", "stty raw -echo; echo ready; exec cat"];

pub async fn measure(report: &mut Report) {
    report.heading("echo of a key");
    let (world, node) = World::with_agent().await;
    let mut person = Person::start(&world, &node, &ECHO).await;
    person.wait_for("ready\n").await;
    let ours = type_keys(&mut person, KEYS).await;
    let mut busy = Person::start(&world, &node, &["cat", "/dev/zero"]).await;
    let output = tokio::spawn(async move { copy(&mut busy.screen, &mut sink()).await });
    let beside = Samples::new(type_keys(&mut person, KEYS / 10).await);
    output.abort();
    person.leave().await;

    let baseline = tokio::task::spawn_blocking(|| plain::echo_over_tcp(&ECHO, KEYS));
    let (ours, plain) = (Samples::new(ours), Samples::new(baseline.await.unwrap()));
    for (percent, target) in [(50, 0.4), (99, 1.5)] {
        report.note(
            &format!("plain terminal over TCP, p{percent}"),
            format!("{:.3} ms", plain.percentile_ms(percent)),
        );
        report.figure(
            &format!("session, p{percent}"),
            ours.percentile_ms(percent),
            "ms",
            Target::AtMost(target),
        );
    }
    for percent in [50, 99] {
        report.note(
            &format!("beside another session's bulk output, p{percent}"),
            format!("{:.3} ms", beside.percentile_ms(percent)),
        );
    }
    report.note(
        "session / plain, p50",
        format!("{:.2}", ours.median_ms() / plain.median_ms()),
    );
}

/// Types keys, each after the one before came back.
pub async fn type_keys(person: &mut Person, keys: usize) -> Vec<Duration> {
    let mut took = Vec::with_capacity(keys);
    for _ in 0..keys {
        let began = Instant::now();
        person.keyboard.write_all(b"k").await.unwrap();
        assert_eq!(person.screen.read_u8().await.unwrap(), b'k');
        took.push(began.elapsed());
    }
    took
}

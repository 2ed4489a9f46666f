//! How long a key takes to come back, against a terminal at the other end of one TCP connection.

use std::time::Instant;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::plain;
use crate::programs::World;
use crate::report::{Report, Samples, Target};
use crate::session::Person;

const KEYS: usize = 3000;
/// Puts every byte out again, one by one.
const ECHO: [&str; 3] = ["sh", "-c", "stty raw -echo; echo ready; exec cat"];

pub async fn measure(report: &mut Report) {
    report.heading("echo of a key");
    let (world, node) = World::with_agent().await;
    let mut person = Person::start(&world, &node, &ECHO).await;
    person.wait_for("ready\n").await;
    let mut ours = Vec::with_capacity(KEYS);
    for _ in 0..KEYS {
        let began = Instant::now();
        person.keyboard.write_all(b"k").await.unwrap();
        assert_eq!(person.screen.read_u8().await.unwrap(), b'k');
        ours.push(began.elapsed());
    }
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
    report.note(
        "session / plain, p50",
        format!("{:.2}", ours.median_ms() / plain.median_ms()),
    );
}

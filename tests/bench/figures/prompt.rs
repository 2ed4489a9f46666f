//! From StartSession to the first byte of the shell, beside what the shell takes by itself.

use std::time::Instant;

use tokio::io::AsyncReadExt as _;

use crate::plain;
use crate::programs::World;
use crate::report::{Report, Samples, Target};
use crate::session::Person;

const SESSIONS: usize = 31;

pub async fn measure(report: &mut Report) {
    report.heading("first prompt");
    let (world, node) = World::with_agent().await;
    let (mut ours, mut alone) = (Vec::new(), Vec::new());
    for _ in 0..SESSIONS {
        let began = Instant::now();
        plain::first_byte_of_login_shell();
        alone.push(began.elapsed());

        let began = Instant::now();
        let mut person = Person::start(&world, &node, &[]).await;
        person.screen.read_u8().await.unwrap();
        ours.push(began.elapsed());
        person.leave().await;
    }
    let (ours, alone) = (Samples::new(ours), Samples::new(alone));
    report.note(
        "login shell alone, median",
        format!("{:.2} ms", alone.median_ms()),
    );
    report.note(
        "StartSession to prompt, median",
        format!("{:.2} ms", ours.median_ms()),
    );
    report.law(
        "beyond the shell's own start, median",
        ours.median_ms() - alone.median_ms(),
        "ms",
        Target::AtMost(30.0),
    );
}

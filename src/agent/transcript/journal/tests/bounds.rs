//! How much a journal takes, for how long, and who makes room for whom.

use std::fs::File;
use std::time::{Duration, SystemTime};

use tokio::time::Instant;

use super::*;

/// Bytes of a block of output.
const BLOCK: usize = 64 << 10;
const HOUR: Duration = Duration::from_hours(1);

#[tokio::test(start_paused = true)]
async fn service_that_hangs_for_ten_minutes_of_a_gigabyte_holds_nobody_up_and_takes_no_more_than_its_bound()
 {
    const SENT: u64 = 1 << 30;
    const DISK: u64 = 16 << 20;
    let world = World::with_disk(DISK);
    let fake = world.service("one", Mood::Hangs);
    let (mut recorder, _writer) = world.start("alice-1");
    let (blocks, mut longest) = (SENT / BLOCK as u64, Duration::ZERO);
    let pace = Duration::from_mins(10) / u32::try_from(blocks).unwrap();

    for _ in 0..blocks {
        let began = Instant::now();
        recorder.output(block()).await;
        longest = longest.max(began.elapsed());
        tokio::time::sleep(pace).await;
    }

    assert!(longest <= STALL_LIMIT, "{longest:?}");
    let files = world.segments("alice-1");
    let lengths = files.iter().map(|path| fs::metadata(path).unwrap().len());
    let on_disk: u64 = lengths.sum();
    assert!((DISK / 2..=DISK).contains(&on_disk), "{on_disk}");
    fake.set(Mood::Takes);
    // The call that hangs is given up after two minutes, and made again.
    tokio::time::sleep(Duration::from_mins(5)).await;
    recorder.output("after".into()).await;
    let report = recorder.finish(end()).await;
    assert_eq!(report.copies[0].standing, Standing::Complete);
    let taken = fake.taken();
    let bytes: u64 = taken.iter().map(|event| event.data_len() as u64).sum();
    assert_eq!(bytes + report.lost_bytes, SENT + "after".len() as u64);
    // Disk, 4 MiB of memory, and what waited in front of the journal.
    assert!(bytes <= DISK + (5 << 20), "{bytes}");
    let missing = taken.iter().map(|event| match event {
        Event::Missing { bytes } => *bytes,
        _ => 0,
    });
    assert_eq!(missing.sum::<u64>(), report.lost_bytes);
    let [.., after, end] = &taken[..] else {
        panic!("{} events", taken.len());
    };
    assert_eq!(*after, Event::Output("after".into()));
    assert!(matches!(end, Event::End(_)));
}

#[tokio::test(start_paused = true)]
async fn service_that_hangs_costs_the_others_nothing_when_the_journal_is_full() {
    const DISK: u64 = 24 << 20;
    let world = World::with_disk(DISK);
    let hanging = world.service("one", Mood::Fails);
    let sound = world.service("two", Mood::Takes);
    let (mut recorder, _writer) = world.start("alice-1");

    let mut sent = 0;
    for _ in 0..(64 << 20) / BLOCK {
        recorder.output(block()).await;
        sent += BLOCK as u64;
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    sound.wait_for_data(usize::try_from(sent).unwrap()).await;
    hanging.set(Mood::Takes);
    // The next attempt comes within half a minute.
    tokio::time::sleep(Duration::from_mins(1)).await;
    let report = recorder.finish(end()).await;

    let sum = |fake: &world::Fake| -> (u64, u64) {
        let events = fake.taken().into_iter();
        events.fold((0, 0), |(data, missing), event| match event {
            Event::Missing { bytes } => (data, missing + bytes),
            other => (data + other.data_len() as u64, missing),
        })
    };
    assert_eq!(sum(&sound), (sent, 0));
    let (data, missing) = sum(&hanging);
    assert_eq!(data + missing, sent);
    assert!(
        missing > 0 && data >= DISK / 2,
        "{data} bytes, {missing} missing"
    );
    assert_eq!(report.lost_bytes, missing);
    assert_eq!(report.copies[0].lost_bytes, missing);
    let problem = report.problem.unwrap();
    assert!(
        problem.contains(&format!("{missing} bytes are missing")),
        "{problem}"
    );
}

#[tokio::test(start_paused = true)]
async fn oldest_record_that_waits_makes_room_for_a_new_one() {
    // Room for two records.
    let world = World::with_disk(5 * BLOCK as u64);
    let fake = world.service("one", Mood::Fails);
    for session in ["alice-1", "bob-1"] {
        record(&world, session).await;
    }
    assert_eq!(sorted(world.folders()), ["alice-1", "bob-1"]);

    let (mut recorder, _writer) = world.start("carol-1");
    for _ in 0..2 {
        recorder.output(block()).await;
    }
    recorder.output("third".into()).await;
    recorder.finish(end()).await;

    assert_eq!(sorted(world.folders()), ["bob-1", "carol-1"]);
    let waiting = world.uploads.progress();
    assert_eq!(
        waiting
            .iter()
            .filter(|(id, _)| id.as_str() == "alice-1")
            .count(),
        0
    );
    fake.set(Mood::Takes);
    fake.wait_for_data(4 * BLOCK + "third".len()).await;
}

#[tokio::test(start_paused = true)]
async fn running_session_does_not_make_room_for_another() {
    let world = World::with_disk(3 * BLOCK as u64);
    let fake = world.service("one", Mood::Fails);
    let (mut first, _first_writer) = world.start("alice-1");
    for _ in 0..2 {
        first.output(block()).await;
    }
    fake.wait_for_offer(2).await;

    record(&world, "bob-1").await;

    // The second found room in memory.
    assert!(world.folders().contains(&"alice-1".to_owned()));
    fake.set(Mood::Takes);
    first.finish(end()).await;
    fake.wait_for_data(4 * BLOCK).await;
}

#[tokio::test(start_paused = true)]
async fn record_that_no_service_takes_for_too_long_is_given_up_while_the_agent_runs() {
    let world = World::with(16 << 20, |settings| settings.retention = Duration::ZERO);
    world.service("one", Mood::Fails);
    let (mut running, _writer) = world.start("bob-1");
    running.output("runs".into()).await;
    record(&world, "alice-1").await;
    let both = async {
        while world.folders().len() < 2 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(PATIENCE, both).await.unwrap();

    world.transcript.sweep().await;

    assert_eq!(world.folders(), ["bob-1"]);
}

#[tokio::test(start_paused = true)]
async fn journal_of_an_earlier_run_is_deleted_if_it_is_too_old_by_a_clock_that_may_step_back() {
    let world = World::with(16 << 20, |settings| settings.retention = 2 * HOUR);
    world.service("one", Mood::Fails);
    for session in ["old-1", "young-1", "future-1"] {
        record(&world, session).await;
    }
    world.uploads.shutdown(Duration::ZERO).await;
    let now = SystemTime::now();
    for (session, modified) in [
        ("old-1", now - 3 * HOUR),
        ("young-1", now - HOUR),
        // The clock was set back since.
        ("future-1", now + 100 * HOUR),
    ] {
        let folder = File::open(world.spool().join(session)).unwrap();
        folder.set_modified(modified).unwrap();
    }

    let next_run = world.another();
    next_run.recover().await;

    assert_eq!(sorted(world.folders()), ["future-1", "young-1"]);
    assert_eq!(next_run.progress().len(), 2);
}

#[tokio::test(start_paused = true)]
async fn copy_gives_way_to_a_burst_and_follows_it_within_seconds() {
    let world = World::with_disk(256 << 20);
    let fake = world.service_each("one", Duration::from_secs(1));
    let (mut recorder, _writer) = world.start("alice-1");
    let began = Instant::now();

    // 20 MB in 3 s.
    for _ in 0..300 {
        recorder.output(block()).await;
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(fake.attempts(), 0);
    fake.wait_for_data(300 * BLOCK).await;
    let followed = began.elapsed();

    assert!(followed < Duration::from_secs(5), "{followed:?}");
    recorder.finish(end()).await;
}

#[tokio::test(start_paused = true)]
async fn copy_of_a_session_that_prints_on_and_on_starts_within_seconds() {
    let world = World::new();
    let fake = world.service_each("one", Duration::from_secs(1));
    let (mut recorder, _writer) = world.start("alice-1");
    let began = Instant::now();

    while fake.attempts() == 0 {
        recorder.output(block()).await;
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let lag = began.elapsed();
    assert!((5..8).contains(&lag.as_secs()), "{lag:?}");
    recorder.finish(end()).await;
}

/// A session of two blocks.
async fn record(world: &World, session: &str) {
    let (mut recorder, writer) = world.start(session);
    for _ in 0..2 {
        recorder.output(block()).await;
    }
    recorder.finish(end()).await;
    writer.await.unwrap();
}

fn block() -> Bytes {
    Bytes::from_static(&[b'x'; BLOCK])
}

fn sorted(mut names: Vec<String>) -> Vec<String> {
    names.sort();
    names
}

//! What a journal promises while services are slow, hang, fail and come back, and across a crash.

mod bounds;
mod world;

use std::fs;

use bytes::Bytes;
use tokio::time::timeout;

use super::super::*;
use world::{Mood, PATIENCE, World, about, end, numbers, target};

#[tokio::test]
async fn service_gets_every_entry_in_order_and_the_folder_goes_with_the_last() {
    let world = World::new();
    let fake = world.service("one", Mood::Takes);
    let (mut recorder, writer) = world.start("alice-1");

    for number in 0..100 {
        recorder.output(format!("{number} ").into()).await;
    }
    let report = recorder.finish(end()).await;

    writer.await.unwrap();
    assert_eq!(fake.text(), numbers(0..100));
    assert_eq!(fake.last(), Some(Event::End(end())));
    assert_eq!(report.copies[0].standing, Standing::Complete);
    assert_eq!(report.problem, None);
    assert_eq!(world.folders(), Vec::<String>::new());
}

#[tokio::test]
async fn hanging_service_holds_back_neither_another_nor_the_end_of_the_session() {
    let world = World::new();
    let hanging = world.service("one", Mood::Hangs);
    let sound = world.service("two", Mood::Takes);
    let (mut recorder, _writer) = world.start("alice-1");

    recorder.output("text".into()).await;
    let report = timeout(PATIENCE, recorder.finish(end())).await.unwrap();

    assert_eq!(sound.text(), "text");
    assert_eq!(hanging.text(), "");
    let standings: Vec<_> = report.copies.iter().map(|copy| &copy.standing).collect();
    assert_eq!(standings, [&Standing::Continuing, &Standing::Complete]);
    assert_eq!(report.problem, None);
}

#[tokio::test]
async fn crash_loses_nothing_and_no_entry_is_uploaded_twice() {
    let mut world = World::new();
    let fast = world.service("one", Mood::Takes);
    let slow = world.service("two", Mood::Fails);
    let (mut recorder, writer) = world.start("alice-1");
    for number in 0..50 {
        recorder.output(format!("{number} ").into()).await;
    }
    fast.wait_for_text(&numbers(0..50)).await;

    world.crash(recorder, writer).await;
    slow.set(Mood::Takes);
    world.uploads.recover().await;
    fast.wait_for_end().await;
    slow.wait_for_end().await;

    assert_eq!(fast.text(), numbers(0..50));
    assert_eq!(slow.text(), numbers(0..50));
    for fake in [&fast, &slow] {
        let Some(Event::End(end)) = fake.last() else {
            panic!("no end");
        };
        assert_eq!(end.reason, "the agent stopped while the session ran");
    }
    world.uploads.shutdown(PATIENCE).await;
    assert_eq!(world.folders(), Vec::<String>::new());
}

#[tokio::test]
async fn torn_tail_is_cut_off_and_what_is_whole_is_uploaded() {
    let mut world = World::new();
    let fake = world.service("one", Mood::Fails);
    let (recorder, writer) = world.start_and_write("alice-1", 10).await;
    world.crash(recorder, writer).await;
    let segment = world.segments("alice-1").pop().unwrap();
    let mut bytes = fs::read(&segment).unwrap();
    bytes.extend_from_slice(&[9, 0, 0, 0, 1, 2, 3]);
    fs::write(&segment, bytes).unwrap();

    fake.set(Mood::Takes);
    world.uploads.recover().await;
    fake.wait_for_end().await;

    assert_eq!(fake.text(), numbers(0..10));
}

#[tokio::test]
async fn journal_that_somebody_works_on_is_not_recovered_by_another_agent() {
    let world = World::new();
    let fake = world.service("one", Mood::Fails);
    let (recorder, _writer) = world.start_and_write("alice-1", 10).await;

    let other = world.another();
    fake.set(Mood::Takes);
    other.recover().await;
    let report = recorder.finish(end()).await;

    fake.wait_for_end().await;
    assert_eq!(fake.text(), numbers(0..10));
    assert_eq!(report.problem, None);
}

#[tokio::test]
async fn broken_folder_is_set_aside_and_harms_no_other() {
    let mut world = World::new();
    let fake = world.service("one", Mood::Fails);
    let (recorder, writer) = world.start_and_write("alice-1", 10).await;
    world.crash(recorder, writer).await;
    let broken = world.spool().join("bob-1");
    fs::create_dir(&broken).unwrap();
    fs::write(broken.join("about.json"), "{").unwrap();

    fake.set(Mood::Takes);
    world.uploads.recover().await;
    fake.wait_for_end().await;
    world.uploads.shutdown(PATIENCE).await;

    assert_eq!(fake.text(), numbers(0..10));
    assert_eq!(world.folders(), [".broken-bob-1"]);
}

#[tokio::test]
async fn hanging_service_cannot_make_disk_or_memory_grow_beyond_their_bounds() {
    let world = World::with_disk(256 << 10);
    let fake = world.service("one", Mood::Hangs);
    let (mut recorder, _writer) = world.start("alice-1");
    let block = Bytes::from(vec![b'x'; 64 << 10]);

    let mut sent = 0;
    for _ in 0..256 {
        sent += block.len() as u64;
        recorder.output(block.clone()).await;
    }
    let report = recorder.finish(end()).await;

    let on_disk: u64 = world
        .segments("alice-1")
        .iter()
        .map(|path| fs::metadata(path).unwrap().len())
        .sum();
    assert!(on_disk <= 256 << 10, "{on_disk}");
    assert!(report.problem.is_some());
    // What is not lost is on disk or in 4 MiB of memory.
    assert!(sent - report.lost_bytes <= (256 << 10) + (4 << 20));
    assert_eq!(fake.text(), "");
}

#[tokio::test]
async fn disk_that_refuses_is_replaced_by_memory() {
    let world = World::new();
    fs::write(world.spool(), "no folder").unwrap();
    let fake = world.service("one", Mood::Takes);
    let (mut recorder, _writer) = world.start("alice-1");

    recorder.output("text".into()).await;
    let report = recorder.finish(end()).await;

    assert_eq!(fake.text(), "text");
    assert_eq!(report.problem, None);
    assert_eq!(report.copies[0].standing, Standing::Complete);
}

#[tokio::test]
async fn confirmed_segments_are_deleted_while_the_session_runs() {
    let world = World::new();
    let fake = world.service("one", Mood::Takes);
    let (mut recorder, _writer) = world.start("alice-1");
    let block = Bytes::from(vec![b'x'; 64 << 10]);

    for _ in 0..256 {
        recorder.output(block.clone()).await;
    }
    let mut sent = 256 * block.len();
    fake.wait_for_data(sent).await;

    // It is written down once in a while what is not needed any more.
    let deleted = async {
        while world.segments("alice-1").len() > 2 {
            recorder.output("x".into()).await;
            sent += 1;
            fake.wait_for_data(sent).await;
        }
    };
    let deleted = timeout(PATIENCE, deleted).await;
    deleted.expect("segments of 16 MiB are left");
    recorder.finish(end()).await;
}

#[tokio::test]
async fn service_that_refuses_is_given_up_and_reported_and_harms_no_other() {
    let world = World::new();
    let refusing = world.service("one", Mood::Refuses);
    let sound = world.service("two", Mood::Takes);
    let (mut recorder, _writer) = world.start("alice-1");

    recorder.output("text".into()).await;
    let report = recorder.finish(end()).await;

    let problem = "the upload was refused: access denied";
    assert_eq!(report.copies[0].standing, Standing::GivenUp(problem.into()));
    assert_eq!(report.problem, Some(format!("fake: {problem}")));
    assert_eq!(refusing.attempts(), 1);
    assert_eq!(sound.text(), "text");
    assert_eq!(world.folders(), Vec::<String>::new());
}

#[tokio::test]
async fn session_that_must_be_recorded_learns_that_its_service_was_given_up() {
    let world = World::new();
    world.service("one", Mood::Refuses);
    let mut target = target("one");
    target.policy = Policy::FailClosed;
    let (mut recorder, writer) = (world.transcript).start(about("alice-1"), &[target]);
    let _writer = tokio::spawn(writer);

    recorder.output("text".into()).await;

    let broken = recorder.broken();
    timeout(PATIENCE, broken.cancelled()).await.unwrap();
}

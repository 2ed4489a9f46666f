use std::sync::Arc;

use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::*;
use crate::aws::tests::server::{Reply, Seen, TestServer};

const HOUR: Duration = Duration::from_secs(3600);

#[tokio::test]
async fn short_form_comes_first_then_the_full_report() {
    let mut world = World::start(HOUR, |_| Reply::json("{}")).await;

    let first = world.next().await;
    let second = world.next().await;

    assert_eq!(first.operation(), "UpdateInstanceInformation");
    assert_eq!(first.json().as_object().unwrap().len(), 4);
    let report = second.json();
    assert_eq!(report["InstanceId"], "mi-1");
    assert_eq!(report["AgentStatus"], "Active");
    assert_eq!(report["SSMConnectionChannel"], "");
}

#[tokio::test]
async fn way_of_commands_is_reported_as_soon_as_it_changes() {
    let mut world = World::start(HOUR, |_| Reply::json("{}")).await;
    world.next().await;
    world.next().await;

    for (way, name) in [
        (Way::MessageDelivery, "ec2messages"),
        (Way::MessageGateway, "ssmmessages"),
    ] {
        world.way.send_replace(way);

        let report = world.next().await.json();
        assert_eq!(report["SSMConnectionChannel"], name);
    }
}

#[tokio::test]
async fn reports_come_every_interval() {
    let mut world = World::start(Duration::from_millis(20), |_| Reply::json("{}")).await;

    for _ in 0..6 {
        world.next().await;
    }
}

#[tokio::test]
async fn refused_reports_are_repeated_until_they_are_taken() {
    let mut world = World::start(HOUR, |count| match count {
        0..3 => Reply::refusal("AccessDeniedException"),
        _ => Reply::json("{}"),
    })
    .await;

    for _ in 0..4 {
        assert_eq!(world.next().await.json().as_object().unwrap().len(), 4);
    }
    assert!(world.next().await.json()["AgentStatus"].is_string());
}

#[tokio::test]
async fn cancelled_reporter_ends_while_it_waits_to_try_again() {
    let cancel = CancellationToken::new();
    let reached = cancel.clone();
    let server = TestServer::start(move |_, _| {
        reached.cancel();
        Reply::refusal("AccessDeniedException")
    })
    .await;
    let (_way, watched) = watch::channel(Way::Unknown);

    run("mi-1".into(), HOUR, server.client(), watched, cancel).await;

    assert_eq!(server.seen().len(), 1);
}

#[test]
fn first_regular_report_lies_within_the_interval() {
    for _ in 0..1000 {
        assert!(random_part(HOUR) <= HOUR);
    }
}

struct World {
    way: watch::Sender<Way>,
    reports: mpsc::UnboundedReceiver<Seen>,
    _server: Arc<TestServer>,
    _tasks: JoinSet<()>,
}

impl World {
    async fn start(
        interval: Duration,
        answer: impl Fn(usize) -> Reply + Send + Sync + 'static,
    ) -> Self {
        let (sender, reports) = mpsc::unbounded_channel();
        let server = TestServer::start(move |count, seen| {
            // The test may have ended.
            let _ = sender.send(seen.clone());
            answer(count)
        })
        .await;
        let (way, watched) = watch::channel(Way::Unknown);
        let reporter = Reporter {
            interval,
            node_id: "mi-1".into(),
            client: server.client(),
            way: watched,
            first_wait: Duration::from_millis(1),
        };
        let mut tasks = JoinSet::new();
        tasks.spawn(reporter.run());
        Self {
            way,
            reports,
            _server: Arc::new(server),
            _tasks: tasks,
        }
    }

    async fn next(&mut self) -> Seen {
        tokio::time::timeout(Duration::from_secs(20), self.reports.recv())
            .await
            .expect("a report comes in time")
            .unwrap()
    }
}

use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use tokio::task::JoinHandle;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message as Frame;
use tokio_tungstenite::tungstenite::protocol::Role;

use super::*;
use crate::agent::control::handle::{PING_INTERVAL, PONG_TIMEOUT};
use crate::protocol::wire::task::TaskAcknowledge;
use crate::protocol::wire::{MessageId, MessageType, SessionId};
use crate::transport::websocket::{Socket, accept_upgraded};

#[tokio::test(start_paused = true)]
async fn instructions_arrive_in_order() {
    let mut world = World::start(0);
    let mut gateway = world.accept().await;

    gateway
        .say(MessageType::InteractiveShell, &start_message("a-1"))
        .await;
    gateway
        .say(MessageType::ChannelClosed, r#"{"SessionId":"a-1"}"#)
        .await;

    let instructions = &mut world.handle.instructions;
    let Some(Instruction::Start(Ok(start))) = instructions.recv().await else {
        panic!("no start");
    };
    assert_eq!(start.session_id.as_str(), "a-1");
    let session = SessionId::new("a-1").unwrap();
    assert_eq!(
        instructions.recv().await,
        Some(Instruction::Terminate(session))
    );
    assert!(matches!(
        *world.handle.status.borrow(),
        Status::Connected { .. }
    ));
}

#[tokio::test(start_paused = true)]
async fn text_counts_as_binary() {
    let mut world = World::start(0);
    let mut gateway = world.accept().await;
    let message = service_message(MessageType::ChannelClosed, r#"{"SessionId":"a-1"}"#.into());
    let mut bytes = message.encode().to_vec();
    // A date of 1 ms, no id and no digest are valid UTF-8.
    bytes[40..112].fill(0);
    bytes[47] = 1;

    let text = String::from_utf8(bytes).unwrap();
    gateway.socket.send(Frame::text(text)).await.unwrap();

    let session = SessionId::new("a-1").unwrap();
    let instruction = world.handle.instructions.recv().await;
    assert_eq!(instruction, Some(Instruction::Terminate(session)));
}

#[tokio::test(start_paused = true)]
async fn garbage_is_dropped_and_the_channel_lives_on() {
    let mut world = World::start(0);
    let mut gateway = world.accept().await;

    gateway
        .socket
        .send(Frame::binary(vec![7; 300]))
        .await
        .unwrap();
    gateway
        .socket
        .send(Frame::binary(Bytes::new()))
        .await
        .unwrap();
    gateway.say(MessageType::ChannelClosed, "garbage").await;
    gateway.say(MessageType::AgentTaskAcknowledge, "[]").await;
    gateway.say(MessageType::AgentJob, "{}").await;
    gateway
        .say(MessageType::Unknown("novelty".into()), "?")
        .await;
    gateway
        .say(MessageType::ChannelClosed, r#"{"SessionId":"a-1"}"#)
        .await;

    let session = SessionId::new("a-1").unwrap();
    let instruction = world.handle.instructions.recv().await;
    assert_eq!(instruction, Some(Instruction::Terminate(session)));
}

#[tokio::test(start_paused = true)]
async fn messages_about_commands_go_both_ways() {
    let mut world = World::start(0);
    assert!(!*world.handle.connections.borrow_and_update());
    let early = service_message(MessageType::AgentJobAck, "early".into());
    world.handle.answers.send(early).await.unwrap();
    let mut gateway = world.accept().await;

    gateway.say(MessageType::AgentJob, "job").await;
    let job = world.handle.jobs.recv().await.unwrap();
    let answer = service_message(MessageType::AgentJobReply, "reply".into());
    world.handle.answers.send(answer.clone()).await.unwrap();

    assert_eq!(job.payload, "job");
    assert!(*world.handle.connections.borrow_and_update());
    assert_eq!(gateway.hear().await.payload, "early");
    assert_eq!(gateway.hear().await, answer);
    drop(gateway);
    let mut _next = world.accept().await;
    world.handle.connections.changed().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn jobs_that_nobody_takes_do_not_hold_up_the_channel() {
    let mut world = World::start(0);
    let mut gateway = world.accept().await;

    for _ in 0..2 * JOBS {
        gateway.say(MessageType::AgentJob, "{}").await;
    }
    gateway
        .say(MessageType::ChannelClosed, r#"{"SessionId":"a-1"}"#)
        .await;

    assert!(world.handle.instructions.recv().await.is_some());
}

#[tokio::test(start_paused = true)]
async fn pings_go_out_and_a_silent_gateway_is_left() {
    let mut world = World::start(0);
    let gateway = world.accept().await;
    let opened = Instant::now();

    // A gateway that reads nothing answers no ping either.
    let _second = world.accept().await;

    let silence = PING_INTERVAL + PONG_TIMEOUT;
    assert!(opened.elapsed() >= silence, "{:?}", opened.elapsed());
    assert!(opened.elapsed() < silence + Duration::from_secs(1));
    drop(gateway);
}

#[tokio::test(start_paused = true)]
async fn gateway_that_answers_pings_is_kept() {
    let mut world = World::start(0);
    let mut gateway = world.accept().await;
    let opened = Instant::now();

    for _ in 0..10 {
        let frame = gateway.socket.next().await.unwrap().unwrap();
        assert_eq!(frame, Frame::Ping("keepalive".into()));
    }

    assert_eq!(opened.elapsed(), 10 * PING_INTERVAL);
    assert!(matches!(
        *world.handle.status.borrow(),
        Status::Connected { .. }
    ));
}

#[tokio::test(start_paused = true)]
async fn dropped_connection_is_replaced_within_a_second() {
    let mut world = World::start(0);
    let gateway = world.accept().await;
    tokio::time::sleep(STABLE_AFTER).await;
    let dropped = Instant::now();

    drop(gateway);
    let _gateway = world.accept().await;

    assert!(
        dropped.elapsed() < Duration::from_secs(1),
        "{:?}",
        dropped.elapsed()
    );
}

#[tokio::test(start_paused = true)]
async fn attempts_slow_down_to_one_in_thirty_seconds() {
    let mut world = World::start(30);
    let started = Instant::now();

    let _gateway = world.accept().await;

    // 200 ms doubled up to 30 s takes 8 attempts; the others wait 15 to 30 s each.
    let elapsed = started.elapsed().as_secs();
    assert!((22 * 15..31 * 30).contains(&elapsed), "{elapsed} s");
}

#[tokio::test(start_paused = true)]
async fn agent_that_could_not_connect_for_an_hour_does_within_thirty_seconds() {
    let (comes_back, is_there) = watch::channel(false);
    let mut world = World::with_dialler(|accept| Dialler {
        failures: 0,
        is_there: Some(is_there),
        accept,
    });
    tokio::time::sleep(Duration::from_hours(1)).await;
    assert!(world.accepted.try_recv().is_err());

    comes_back.send_replace(true);
    let back = Instant::now();
    let _gateway = world.accept().await;

    assert!(
        back.elapsed() <= Duration::from_secs(30),
        "{:?}",
        back.elapsed()
    );
}

#[tokio::test(start_paused = true)]
async fn gateway_that_accepts_and_drops_is_not_dialled_busily() {
    let mut world = World::start(0);
    let started = Instant::now();

    for _ in 0..20 {
        drop(world.accept().await);
    }

    assert!(
        started.elapsed() > Duration::from_mins(2),
        "{:?}",
        started.elapsed()
    );
}

#[tokio::test(start_paused = true)]
async fn status_tells_why_there_is_no_connection() {
    let mut world = World::start(1);

    let status = &mut world.handle.status;
    let waiting = status.wait_for(|status| matches!(status, Status::Waiting { .. }));
    let Status::Waiting { problem, .. } = waiting.await.unwrap().clone() else {
        unreachable!("it was waited for");
    };

    assert_eq!(problem, "no route to the gateway");
}

#[tokio::test(start_paused = true)]
async fn gateway_that_is_silent_after_the_network_changed_is_left_soon() {
    let mut world = World::start(0);
    let gateway = world.accept().await;
    let began = Instant::now();

    world.change.send(()).await.unwrap();
    let _again = world.accept().await;

    assert!(
        began.elapsed() < Duration::from_secs(10),
        "{:?}",
        began.elapsed()
    );
    drop(gateway);
}

#[tokio::test(start_paused = true)]
async fn gateway_that_answers_after_the_network_changed_is_kept() {
    let mut world = World::start(0);
    let mut gateway = world.accept().await;

    world.change.send(()).await.unwrap();
    let ping = gateway.socket.next().await.unwrap().unwrap();
    assert!(ping.is_ping(), "{ping:?}");
    gateway.socket.flush().await.unwrap();

    gateway.hears_nothing().await;
    assert!(world.accepted.is_empty());
}

#[tokio::test(start_paused = true)]
async fn change_of_the_network_ends_the_wait_for_the_next_attempt() {
    let mut world = World::start(12);
    // The wait has grown by then.
    let mut long = Duration::ZERO;
    while long < Duration::from_secs(10) {
        let status = &mut world.handle.status;
        status.changed().await.unwrap();
        if let Status::Waiting { retry_in, .. } = &*status.borrow_and_update() {
            long = *retry_in;
        }
    }
    let began = Instant::now();

    world.change.send(()).await.unwrap();
    world.handle.status.changed().await.unwrap();

    assert!(
        began.elapsed() < Duration::from_secs(1),
        "{:?}",
        began.elapsed()
    );
}

#[tokio::test(start_paused = true)]
async fn result_is_sent_until_it_is_acknowledged() {
    let mut world = World::start(0);
    let mut gateway = world.accept().await;

    world.handle.outbox.complete(result("a-1")).await;
    let first = gateway.hear().await;
    let second = gateway.hear().await;
    gateway.acknowledge(&second).await;

    assert_eq!(first.message_type, MessageType::AgentTaskComplete);
    assert_eq!(first.id, second.id);
    assert_eq!(
        TaskComplete::decode(&second.payload).unwrap().retry_number,
        2
    );
    gateway.hears_nothing().await;
}

#[tokio::test(start_paused = true)]
async fn result_outlives_the_connection() {
    let mut world = World::start(0);
    let mut gateway = world.accept().await;
    world.handle.outbox.complete(result("a-1")).await;
    let first = gateway.hear().await;

    drop(gateway);
    world.handle.outbox.complete(result("a-2")).await;
    let mut gateway = world.accept().await;

    let again = gateway.hear().await;
    let other = gateway.hear().await;
    assert_eq!(again.id, first.id);
    assert_eq!(TaskComplete::decode(&other.payload).unwrap().task_id, "a-2");
}

#[tokio::test(start_paused = true)]
async fn stopping_agent_delivers_its_last_results_and_says_goodbye() {
    let mut world = World::start(0);
    let mut gateway = world.accept().await;
    world.handle.outbox.complete(result("a-1")).await;

    world.cancel.cancel();
    let last = gateway.hear().await;
    gateway.acknowledge(&last).await;

    let frame = gateway.socket.next().await.unwrap().unwrap();
    assert!(frame.is_close(), "{frame:?}");
    world.task.await.unwrap();
    assert_eq!(*world.handle.status.borrow(), Status::Stopped);
}

#[tokio::test(start_paused = true)]
async fn gateway_that_hangs_does_not_hold_up_a_stopping_agent() {
    let mut world = World::start(0);
    let _gateway = world.accept().await;
    world.handle.outbox.complete(result("a-1")).await;
    let started = Instant::now();

    world.cancel.cancel();
    world.task.await.unwrap();

    assert!(started.elapsed() <= DRAIN_LIMIT + Duration::from_secs(1));
}

#[tokio::test(start_paused = true)]
async fn agent_that_cannot_connect_stops_at_once() {
    let world = World::start(u32::MAX);
    tokio::time::sleep(Duration::from_mins(5)).await;
    let started = Instant::now();

    world.cancel.cancel();
    world.task.await.unwrap();

    assert_eq!(started.elapsed(), Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn session_that_nobody_can_start_is_reported_as_failed() {
    let mut world = World::start(0);
    let mut gateway = world.accept().await;
    world.handle.instructions.close();

    gateway
        .say(MessageType::InteractiveShell, &start_message("a-1"))
        .await;

    let result = TaskComplete::decode(&gateway.hear().await.payload).unwrap();
    assert_eq!(result.task_id, "a-1");
    assert_eq!(result.final_task_status, TaskStatus::Failed);
    assert_eq!(result.output, "the agent is stopping");
}

#[tokio::test(start_paused = true)]
async fn full_queue_of_instructions_does_not_block_the_channel() {
    let mut world = World::start(0);
    let mut gateway = world.accept().await;

    for number in 0..=INSTRUCTIONS {
        let start = start_message(&format!("a-{number}"));
        gateway.say(MessageType::InteractiveShell, &start).await;
    }

    let result = TaskComplete::decode(&gateway.hear().await.payload).unwrap();
    assert_eq!(result.task_id, format!("a-{INSTRUCTIONS}"));
    assert_eq!(result.output, "the agent has too many requests waiting");
}

struct World {
    handle: Handle,
    /// Tells of a change of the network.
    change: mpsc::Sender<()>,
    cancel: CancellationToken,
    task: JoinHandle<()>,
    accepted: mpsc::UnboundedReceiver<Socket>,
}

impl World {
    /// An agent whose first attempts to connect fail.
    fn start(failures: u32) -> Self {
        Self::with_dialler(|accept| Dialler {
            failures,
            is_there: None,
            accept,
        })
    }

    fn with_dialler(dialler: impl FnOnce(mpsc::UnboundedSender<Socket>) -> Dialler) -> Self {
        let (accept, accepted) = mpsc::unbounded_channel();
        let dialler = dialler(accept);
        let cancel = CancellationToken::new();
        let settings = Settings::new("mi-1");
        let (change, changes) = mpsc::channel(1);
        let network = NetworkChanges::told(changes);
        let (handle, task) = open_with(settings, dialler, network, cancel.clone());
        Self {
            handle,
            change,
            cancel,
            task: tokio::spawn(task),
            accepted,
        }
    }

    async fn accept(&mut self) -> Gateway {
        let socket = self.accepted.recv().await.unwrap();
        Gateway { socket }
    }
}

/// The gateway's end of one connection.
struct Gateway {
    socket: Socket,
}

impl Gateway {
    async fn say(&mut self, message_type: MessageType, payload: &str) {
        let payload = Bytes::copy_from_slice(payload.as_bytes());
        let message = service_message(message_type, payload);
        self.socket
            .send(Frame::Binary(message.encode()))
            .await
            .unwrap();
    }

    async fn hear(&mut self) -> Message {
        loop {
            match self.socket.next().await.unwrap().unwrap() {
                Frame::Binary(bytes) => return Message::decode(&bytes).unwrap(),
                frame => assert!(frame.is_ping(), "{frame:?}"),
            }
        }
    }

    async fn hears_nothing(&mut self) {
        let hear = tokio::time::timeout(Duration::from_mins(5), self.hear());
        assert_eq!(hear.await.ok(), None);
    }

    async fn acknowledge(&mut self, message: &Message) {
        let acknowledge = TaskAcknowledge {
            schema_version: 1,
            message_id: message.id.to_string(),
            task_id: String::new(),
            topic: String::new(),
        };
        let payload = acknowledge.encode();
        let message = service_message(MessageType::AgentTaskAcknowledge, payload);
        self.socket
            .send(Frame::Binary(message.encode()))
            .await
            .unwrap();
    }
}

/// Connects through memory, after some failures.
struct Dialler {
    failures: u32,
    /// Whether there is somebody, if that is known.
    is_there: Option<watch::Receiver<bool>>,
    accept: mpsc::UnboundedSender<Socket>,
}

impl Connector for Dialler {
    async fn connect(&mut self, attempt: u32) -> Result<Connected, ConnectError> {
        let is_away = self.is_there.as_ref().is_some_and(|is| !*is.borrow());
        if attempt < self.failures || is_away {
            return Err(ConnectError::Retry("no route to the gateway".into()));
        }
        let (ours, theirs) = tokio::io::duplex(64 << 10);
        self.accept
            .send(accept_upgraded(Box::new(theirs)).await)
            .unwrap();
        let socket = WebSocketStream::from_raw_socket(Box::new(ours) as _, Role::Client, None);
        Ok(Connected {
            socket: socket.await,
            features: PeerFeatures::default(),
        })
    }
}

fn start_message(session: &str) -> String {
    let content = format!(
        r#"{{"SessionId":"{session}","DocumentContent":{{"schemaVersion":"1.0","sessionType":"Standard_Stream"}}}}"#
    );
    serde_json::json!({"Content": content}).to_string()
}

fn result(session: &str) -> TaskComplete {
    TaskComplete::new(session, "mi-1", TaskStatus::Success, "")
}

fn service_message(message_type: MessageType, payload: Bytes) -> Message {
    let id = MessageId::from(uuid::Uuid::new_v4());
    Message::of_control_channel(message_type, id, 1_700_000_000_000, payload)
}

//! The client as a library: what its settings promise.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use ssm_agent::aws::CallError;
use ssm_agent::client::{Api, Cause, Ending, Io, Session, Settings, StartSessionResponse};
use ssm_agent::protocol::wire::{Payload, SessionId};
use ssm_agent::runtime::tls;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
use tokio::net::TcpSocket;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::DEADLINE;
use crate::stand_in::{SESSION, StandIn, TOKEN};

#[tokio::test]
async fn session_runs_between_any_streams() {
    let mut stand_in = StandIn::shell().await;
    let (mut near, run) = start(&stand_in, Settings::default(), &CancellationToken::new());

    stand_in.opened().await;
    stand_in.output("$ ");
    near.input.write_all(b"exit 9\n").await.unwrap();
    stand_in.typed_until(b"exit 9\n").await;
    stand_in.send(Payload::ExitCode(9));
    stand_in.close(None, "");
    let ending = ended(run).await;

    assert_eq!(ending.cause, Cause::Closed);
    assert_eq!(ending.exit_code, Some(9));
    let mut output = String::new();
    near.output.read_to_string(&mut output).await.unwrap();
    assert_eq!(output, "$ ");
}

#[tokio::test]
async fn silent_peer_counts_as_dead_and_is_dialled_again() {
    let mut stand_in = StandIn::shell().await;
    let settings = Settings {
        ping_interval: Duration::from_millis(50),
        read_timeout: Duration::from_millis(400),
        ..Settings::default()
    };
    let (mut near, run) = start(&stand_in, settings, &CancellationToken::new());
    stand_in.opened().await;
    stand_in.output("one");
    near.read(b"one").await;

    stand_in.fall_silent();
    let second = stand_in.opened().await;
    stand_in.output("two");
    near.read(b"two").await;
    stand_in.close(None, "");

    assert_eq!(second.token_value, "resumed-1");
    assert_eq!(ended(run).await.cause, Cause::Closed);
}

#[tokio::test]
async fn pongs_keep_an_idle_session_alive() {
    let mut stand_in = StandIn::shell().await;
    let settings = Settings {
        ping_interval: Duration::from_millis(20),
        read_timeout: Duration::from_millis(400),
        ..Settings::default()
    };
    let (mut near, run) = start(&stand_in, settings, &CancellationToken::new());
    stand_in.opened().await;
    stand_in.output("one");
    near.read(b"one").await;

    // Idleness is what is tested: nothing happens for several times the limit.
    tokio::time::sleep(Duration::from_millis(1500)).await;
    stand_in.output("two");
    near.read(b"two").await;
    stand_in.close(Some(0), "");

    assert_eq!(ended(run).await.exit_code, Some(0));
}

#[tokio::test]
async fn cancelled_session_is_terminated() {
    let mut stand_in = StandIn::shell().await;
    let cancel = CancellationToken::new();
    let (mut near, run) = start(&stand_in, Settings::default(), &cancel);
    stand_in.opened().await;
    stand_in.output("one");
    near.read(b"one").await;

    cancel.cancel();

    assert_eq!(ended(run).await.cause, Cause::Cancelled);
    assert_eq!(near.api.terminated.load(Ordering::Relaxed), 1);
}

#[tokio::test]
async fn first_connection_is_tried_for_a_while() {
    // Bound, so that nobody else gets the port, but listening to nobody.
    let listener = TcpSocket::new_v4().unwrap();
    listener.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let address = listener.local_addr().unwrap();
    let settings = Settings {
        open_for: Duration::from_millis(300),
        ..Settings::default()
    };
    let started = StartSessionResponse {
        session_id: SessionId::new(SESSION).unwrap(),
        token: TOKEN.into(),
        stream_url: format!("ws://{address}/"),
    };
    let api = Arc::new(CountingApi::default());
    let session = Session::new(Shared(Arc::clone(&api)), started, tls::client_config())
        .with_settings(settings);
    let io = Io::pipes(tokio::io::empty(), tokio::io::sink(), tokio::io::sink());

    let result = timeout(DEADLINE, session.run(io, &CancellationToken::new()))
        .await
        .unwrap();

    let error = result.unwrap_err().to_string();
    assert_eq!(error, format!("cannot reach session {SESSION}"));
    assert_eq!(api.terminated.load(Ordering::Relaxed), 1);
}

/// Answers every ResumeSession with a token and counts.
#[derive(Default)]
struct CountingApi {
    resumed: AtomicUsize,
    terminated: AtomicUsize,
}

struct Shared(Arc<CountingApi>);

impl Api for Shared {
    async fn resume(&self, _session: &SessionId) -> Result<Option<String>, CallError> {
        let number = self.0.resumed.fetch_add(1, Ordering::Relaxed) + 1;
        Ok(Some(format!("resumed-{number}")))
    }

    async fn terminate(&self, _session: &SessionId) -> Result<(), CallError> {
        self.0.terminated.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }
}

/// The person's ends of the streams.
struct Near {
    input: DuplexStream,
    output: DuplexStream,
    api: Arc<CountingApi>,
}

impl Near {
    async fn read(&mut self, expected: &[u8]) {
        let mut bytes = vec![0; expected.len()];
        let read = self.output.read_exact(&mut bytes);
        timeout(DEADLINE, read).await.unwrap().unwrap();
        assert_eq!(bytes, expected);
    }
}

fn start(
    stand_in: &StandIn,
    settings: Settings,
    cancel: &CancellationToken,
) -> (Near, JoinHandle<Ending>) {
    let (input, far_input) = duplex(4096);
    let (output, far_output) = duplex(4096);
    let api = Arc::new(CountingApi::default());
    let started = StartSessionResponse {
        session_id: SessionId::new(SESSION).unwrap(),
        token: TOKEN.into(),
        stream_url: stand_in.url.clone(),
    };
    let session = Session::new(Shared(Arc::clone(&api)), started, tls::client_config())
        .with_settings(settings);
    let io = Io::pipes(far_input, far_output, tokio::io::sink());
    let cancel = cancel.clone();
    let run = tokio::spawn(async move { session.run(io, &cancel).await.unwrap() });
    (Near { input, output, api }, run)
}

async fn ended(run: JoinHandle<Ending>) -> Ending {
    timeout(DEADLINE, run).await.unwrap().unwrap()
}

//! A client that nobody here wrote: the crate `aws-ssm-bridge`, with the AWS SDK for Rust beneath it.

use aws_config::{BehaviorVersion, Region};
use aws_ssm_bridge::{EndpointPolicy, OutputStream, Session, SessionBuilder, SessionManager};
use futures_util::StreamExt as _;
use tokio::time::timeout;

use super::programs::{PATIENCE, World};

#[tokio::test(flavor = "multi_thread")]
async fn independent_client_has_a_shell_with_its_size() {
    let (world, node) = World::with_agent().await;
    let session = open(&world, &node).await;
    let mut shell = Shell::of(&session).await;

    session.send_terminal_size(97, 31).await.unwrap();
    session
        .send("stty size; echo sum=$((40 + 2))\r")
        .await
        .unwrap();

    shell.wait_for("31 97").await;
    shell.wait_for("sum=42").await;
    session.terminate().await.unwrap();
    assert!(session.is_closed());
}

#[tokio::test(flavor = "multi_thread")]
async fn independent_client_loses_nothing_either_way() {
    const LINES: usize = 20_000;
    let (world, node) = World::with_agent().await;
    let session = open(&world, &node).await;
    let mut shell = Shell::of(&session).await;
    session
        .send("stty raw -echo; echo go; head -c 1280000 | md5sum; seq 1 20000; echo done\r")
        .await
        .unwrap();
    shell.wait_for("go\n").await;

    let typed: Vec<u8> = (0..1_280_000_u32).map(|n| b'a' + (n % 23) as u8).collect();
    session.send(typed.clone()).await.unwrap();
    shell.wait_for("done\n").await;

    let text = &shell.seen[shell.seen.rfind("go\n").unwrap() + 3..];
    let (digest, numbers) = text.split_once('\n').unwrap();
    assert!(digest.starts_with(&md5(&typed)), "{digest}");
    let expected: String = (1..=LINES).map(|n| format!("{n}\n")).collect();
    assert!(numbers.starts_with(&expected), "output differs");
    session.terminate().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn independent_client_learns_that_its_shell_ended() {
    let (world, node) = World::with_agent().await;
    let session = open(&world, &node).await;
    let mut shell = Shell::of(&session).await;

    session.send("echo la''st; exit 3\r").await.unwrap();

    shell.wait_for("last").await;
    timeout(PATIENCE, session.closed()).await.unwrap();
}

/// Starts a session through the SDK's client, on the listener without TLS: the crate trusts the
/// system's authorities only.
async fn open(world: &World, node: &str) -> Session {
    let config = aws_config::defaults(BehaviorVersion::latest())
        .region(Region::new("us-east-1"))
        .credentials_provider(world.credentials.clone())
        .endpoint_url(&world.plain_url)
        .load()
        .await;
    let settings = SessionBuilder::new(node)
        .endpoint_policy(EndpointPolicy::AllowAny)
        .into_config();
    SessionManager::from_conf(&config)
        .start_session(settings)
        .await
        .unwrap()
}

fn md5(bytes: &[u8]) -> String {
    use md5::{Digest as _, Md5};
    Md5::digest(bytes)
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

/// What the session puts out.
pub struct Shell {
    output: OutputStream,
    seen: String,
}

impl Shell {
    /// Subscribes, and waits until the agent takes input.
    pub async fn of(session: &Session) -> Self {
        let output = session.output();
        session.wait_ready().await.unwrap();
        Self {
            output,
            seen: String::new(),
        }
    }

    pub async fn wait_for(&mut self, text: &str) {
        let read = async {
            while !self.seen.contains(text) {
                let piece = self.output.next().await;
                let piece = piece.unwrap_or_else(|| panic!("{text:?} did not come"));
                self.seen.push_str(&String::from_utf8_lossy(&piece));
            }
        };
        timeout(PATIENCE, read)
            .await
            .unwrap_or_else(|_| panic!("{text:?} did not come in time"));
    }
}

//! A shell session between the programs, with the client in this process.

use std::sync::Arc;

use ssm_agent::client::{Ending, Io, Parameters, Session, start_session};
use ssm_agent::protocol::wire::SessionId;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream};
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::programs::{PATIENCE, World};

/// A shell whose input and output are held by the test.
pub struct Shell {
    pub id: SessionId,
    input: DuplexStream,
    output: DuplexStream,
    seen: String,
    run: JoinHandle<Ending>,
}

impl Shell {
    pub async fn open(world: &World, node: &str) -> Self {
        let started = start_session(&world.client, node, None, &Parameters::new(), Some("test"))
            .await
            .unwrap();
        let id = started.session_id.clone();
        let (input, theirs_in) = tokio::io::duplex(64 << 10);
        let (output, theirs_out) = tokio::io::duplex(64 << 10);
        let io = Io::pipes(theirs_in, theirs_out, tokio::io::sink());
        let session = Session::new(
            world.client.clone(),
            started,
            Arc::clone(world.client.tls()),
        );
        let run =
            tokio::spawn(async move { session.run(io, &CancellationToken::new()).await.unwrap() });
        Self {
            id,
            input,
            output,
            seen: String::new(),
            run,
        }
    }

    pub async fn type_text(&mut self, text: &str) {
        self.input.write_all(text.as_bytes()).await.unwrap();
    }

    pub async fn wait_for(&mut self, text: &str) {
        let read = async {
            let mut buffer = [0; 4096];
            while !self.seen.contains(text) {
                let count = self.output.read(&mut buffer).await.unwrap();
                assert_ne!(count, 0, "{text:?} did not come, but {:?}", self.seen);
                self.seen
                    .push_str(&String::from_utf8_lossy(&buffer[..count]));
            }
        };
        timeout(PATIENCE, read)
            .await
            .unwrap_or_else(|_| panic!("{text:?} did not come"));
    }

    /// Reads what still comes and waits for the end.
    pub async fn ending(mut self) -> Ending {
        let mut rest = Vec::new();
        let all = async {
            self.output.read_to_end(&mut rest).await.unwrap();
            self.run.await.unwrap()
        };
        timeout(PATIENCE, all).await.expect("the session ends")
    }
}

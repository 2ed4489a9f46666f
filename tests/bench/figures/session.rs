//! A session of ours, with the client in this process.

use std::sync::Arc;

use ssm_agent::client::{Ending, Io, Parameters, Session, start_session};
use tokio::io::{AsyncReadExt as _, DuplexStream};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::programs::World;

/// Between the client and the measuring task; a socket holds about as much.
const PIPE: usize = 256 << 10;

/// The person's end of a session.
pub struct Person {
    pub keyboard: DuplexStream,
    pub screen: DuplexStream,
    running: JoinHandle<Ending>,
    cancel: CancellationToken,
}

impl Person {
    /// Runs a program on a plain terminal; an empty command opens the login shell.
    pub async fn start(world: &World, node: &str, command: &[&str]) -> Self {
        let words: Vec<String> = command.iter().map(|&word| word.to_owned()).collect();
        let (document, parameters) = if words.is_empty() {
            (None, Parameters::new())
        } else {
            let parameters = Parameters::from([("command".to_owned(), words)]);
            (Some("SSM-RunProgram"), parameters)
        };
        let started = start_session(&world.client, node, document, &parameters, None)
            .await
            .unwrap();
        let tls = Arc::clone(world.client.tls());
        let session = Session::new(world.client.clone(), started, tls);
        let (keyboard, input) = tokio::io::duplex(PIPE);
        let (output, screen) = tokio::io::duplex(PIPE);
        let cancel = CancellationToken::new();
        let token = cancel.clone();
        let running = tokio::spawn(async move {
            let io = Io::pipes(input, output, tokio::io::sink());
            session.run(io, &token).await.unwrap()
        });
        Self {
            keyboard,
            screen,
            running,
            cancel,
        }
    }

    /// Reads until `text` has come.
    pub async fn wait_for(&mut self, text: &str) {
        let mut seen = Vec::new();
        let mut buffer = [0; 4096];
        while !seen
            .windows(text.len())
            .any(|window| window == text.as_bytes())
        {
            let count = self.screen.read(&mut buffer).await.unwrap();
            assert_ne!(count, 0, "{text:?} never came");
            seen.extend_from_slice(&buffer[..count]);
        }
    }

    /// Reads to the end; returns the number of bytes.
    pub async fn drain(&mut self) -> u64 {
        let mut buffer = vec![0; PIPE];
        let mut total = 0;
        loop {
            match self.screen.read(&mut buffer).await.unwrap() {
                0 => return total,
                count => total += count as u64,
            }
        }
    }

    pub async fn ended(self) -> Ending {
        drop(self.screen);
        self.running.await.unwrap()
    }

    /// Leaves, which ends the session.
    pub async fn leave(self) {
        self.cancel.cancel();
        self.running.await.unwrap();
    }
}

/// A port session with its listener.
pub struct Tunnel {
    pub port: u16,
    running: JoinHandle<Ending>,
    cancel: CancellationToken,
    _said: DuplexStream,
}

impl Tunnel {
    pub async fn open(world: &World, node: &str, target: u16) -> Self {
        let number = Parameters::from([("portNumber".to_owned(), vec![target.to_string()])]);
        let document = Some("AWS-StartPortForwardingSession");
        let started = start_session(&world.client, node, document, &number, None)
            .await
            .unwrap();
        let tls = Arc::clone(world.client.tls());
        let session = Session::new(world.client.clone(), started, tls);
        let (output, mut said) = tokio::io::duplex(PIPE);
        let cancel = CancellationToken::new();
        let token = cancel.clone();
        let running = tokio::spawn(async move {
            let io = Io::pipes(tokio::io::empty(), output, tokio::io::sink());
            session.run(io, &token).await.unwrap()
        });
        let mut seen = String::new();
        let mut buffer = [0; 512];
        while !seen.contains("Waiting") {
            let count = said.read(&mut buffer).await.unwrap();
            assert_ne!(count, 0, "{seen}");
            seen.push_str(std::str::from_utf8(&buffer[..count]).unwrap());
        }
        let mut words = seen.split_whitespace();
        words.find(|word| *word == "Port").unwrap();
        Self {
            port: words.next().unwrap().parse().unwrap(),
            running,
            cancel,
            _said: said,
        }
    }

    pub async fn leave(self) {
        self.cancel.cancel();
        self.running.await.unwrap();
    }
}

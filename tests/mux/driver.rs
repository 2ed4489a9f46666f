//! Our session on a connection.

use std::time::Instant;

use bytes::{Buf, Bytes, BytesMut};
use ssm_agent::protocol::mux::{Session, Settings};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};

use crate::app::{App, Chat, Echo};

/// Payloads of the data channel toward an official plugin.
const PAYLOAD: usize = 1024;
/// Room for one read.
const READ: usize = 16 << 10;

/// Runs a client until all is said and heard.
pub async fn chat(io: DuplexStream, settings: Settings, mut chat: Chat) -> Chat {
    let mut session = Session::new(settings, Instant::now());
    run(io, &mut session, &mut chat).await;
    chat
}

/// Runs a server until the client is gone; how many streams are left then.
pub async fn echo(io: DuplexStream, settings: Settings) -> usize {
    let mut session = Session::new(settings, Instant::now());
    run(io, &mut session, &mut Echo::default()).await;
    session.held().streams
}

async fn run(io: DuplexStream, session: &mut Session, app: &mut impl App) {
    let (mut reader, mut writer) = tokio::io::split(io);
    let mut received = BytesMut::new();
    let mut out = Bytes::new();
    loop {
        app.act(session, Instant::now());
        if out.is_empty() {
            out = session.poll_transmit(PAYLOAD).unwrap_or_default();
        }
        if app.is_over() && out.is_empty() {
            return;
        }
        received.reserve(READ);
        tokio::select! {
            read = reader.read_buf(&mut received), if session.has_room() => {
                let is_gone = read.map_or(true, |length| length == 0);
                if is_gone {
                    return;
                }
                session.handle_bytes(received.split().freeze(), Instant::now()).unwrap();
            }
            written = writer.write(&out), if !out.is_empty() => match written {
                Ok(length) => out.advance(length),
                Err(_) => return,
            },
        }
    }
}

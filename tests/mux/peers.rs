//! Other people's smux.

use async_smux::MuxBuilder;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, DuplexStream};
use tokio::task::JoinSet;

use crate::app::{Ends, speech};

/// A crate that speaks smux version 1.
pub trait Peer {
    /// How its streams end.
    const ENDS: Ends;

    /// A server that says back what it hears, until the connection ends.
    async fn echo(io: DuplexStream);

    /// A client that says something on each of so many streams, listens to the echo, and goes.
    async fn chat(io: DuplexStream, streams: usize);
}

pub struct TokioSmux;
pub struct AsyncSmux;

impl Peer for TokioSmux {
    /// Like xtaci, it does not write once FIN came. It does not answer FIN either.
    const ENDS: Ends = Ends::AfterReading;

    async fn echo(io: DuplexStream) {
        let mut session =
            tokio_smux::Session::server(io, tokio_smux::SmuxConfig::default()).unwrap();
        let mut streams = JoinSet::new();
        for _ in 0..crate::STREAMS {
            let mut stream = session.accept_stream().await.unwrap();
            streams.spawn(async move {
                while let Some(message) = stream.recv_message().await.unwrap() {
                    stream.send_message(message).await.unwrap();
                }
            });
        }
        streams.join_all().await;
    }

    async fn chat(io: DuplexStream, number: usize) {
        let mut session =
            tokio_smux::Session::client(io, tokio_smux::SmuxConfig::default()).unwrap();
        let mut streams = JoinSet::new();
        for number in 0..number {
            let mut stream = session.open_stream().await.unwrap();
            streams.spawn(async move {
                let said = speech(number);
                let mut heard = Vec::new();
                // It cannot write and read at once.
                for part in said.chunks(65_535) {
                    stream.send_message(part.to_vec()).await.unwrap();
                    while heard.len() < part.len() {
                        heard.extend(stream.recv_message().await.unwrap().unwrap());
                    }
                    assert!(heard == part, "stream {number}");
                    heard.clear();
                }
            });
        }
        streams.join_all().await;
    }
}

impl Peer for AsyncSmux {
    const ENDS: Ends = Ends::BeforeReading;

    async fn echo(io: DuplexStream) {
        let (_connector, mut acceptor, worker) = MuxBuilder::server().with_connection(io).build();
        let worker = tokio::spawn(worker);
        let mut streams = JoinSet::new();
        while let Some(stream) = acceptor.accept().await {
            streams.spawn(say_back(stream));
        }
        streams.join_all().await;
        worker.abort();
    }

    async fn chat(io: DuplexStream, number: usize) {
        let (connector, acceptor, worker) = MuxBuilder::client().with_connection(io).build();
        let worker = tokio::spawn(worker);
        let mut streams = JoinSet::new();
        for number in 0..number {
            streams.spawn(talk(connector.connect().unwrap(), number));
        }
        streams.join_all().await;
        drop((connector, acceptor));
        worker.await.unwrap().unwrap();
    }
}

async fn say_back(stream: impl AsyncRead + AsyncWrite) {
    let (mut reader, mut writer) = tokio::io::split(stream);
    tokio::io::copy(&mut reader, &mut writer).await.unwrap();
    writer.shutdown().await.unwrap();
}

async fn talk(stream: impl AsyncRead + AsyncWrite, number: usize) {
    let said = speech(number);
    let (mut reader, mut writer) = tokio::io::split(stream);
    let write = async {
        writer.write_all(&said).await.unwrap();
        writer.shutdown().await.unwrap();
    };
    let mut heard = Vec::new();
    let (_, read) = tokio::join!(write, reader.read_to_end(&mut heard));
    read.unwrap();
    assert!(heard == said, "stream {number}");
}

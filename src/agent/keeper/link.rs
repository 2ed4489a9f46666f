//! The connection between agent and keeper: JSON in frames, on a socket that only they can open.

use std::io;

use bytes::Bytes;
use futures_util::stream::{SplitSink, SplitStream};
use futures_util::{SinkExt, StreamExt};
use nix::unistd::geteuid;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::net::UnixStream;
use tokio_util::codec::{Framed, LengthDelimitedCodec};

/// Largest message: a start message is a document and its parameters.
const FRAME_LIMIT: usize = 4 << 20;

type Frames = Framed<UnixStream, LengthDelimitedCodec>;

/// Takes messages.
pub(super) struct Sender(SplitSink<Frames, Bytes>);

/// Gives messages.
pub(super) struct Receiver(SplitStream<Frames>);

/// The two ends of a connection to a process of the same user.
///
/// # Errors
/// [`io::ErrorKind::PermissionDenied`] for a process of anybody else.
pub(super) fn open(stream: UnixStream) -> io::Result<(Sender, Receiver)> {
    let peer = stream.peer_cred()?.uid();
    if peer != geteuid().as_raw() {
        let text = format!("a process of uid {peer} is at the other end");
        return Err(io::Error::new(io::ErrorKind::PermissionDenied, text));
    }
    let codec = LengthDelimitedCodec::builder()
        .max_frame_length(FRAME_LIMIT)
        .new_codec();
    let (sender, receiver) = Framed::new(stream, codec).split();
    Ok((Sender(sender), Receiver(receiver)))
}

impl Sender {
    /// Sends a message.
    ///
    /// # Errors
    /// If the connection is gone, or the message is larger than any may be.
    pub(super) async fn send(&mut self, message: &impl Serialize) -> io::Result<()> {
        let frame = serde_json::to_vec(message)?;
        self.0.send(frame.into()).await
    }
}

impl Receiver {
    /// The next message; `None` once the other end has closed the connection. Can be cancelled.
    ///
    /// # Errors
    /// If the connection broke. A message that is none is [`io::ErrorKind::InvalidData`].
    pub(super) async fn receive<T: DeserializeOwned>(&mut self) -> io::Result<Option<T>> {
        match self.0.next().await {
            None => Ok(None),
            Some(frame) => Ok(Some(serde_json::from_slice(&frame?)?)),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    #[tokio::test]
    async fn messages_arrive_whole_and_the_end_is_seen() {
        let (one, other) = UnixStream::pair().unwrap();
        let ((mut sender, _keep), (_unused, mut receiver)) =
            (open(one).unwrap(), open(other).unwrap());
        let large = json!({"text": "x".repeat(1 << 20)});

        let sending = async {
            sender.send(&json!(1)).await.unwrap();
            sender.send(&large).await.unwrap();
        };
        let receiving = async {
            assert_eq!(receiver.receive::<Value>().await.unwrap(), Some(json!(1)));
            assert_eq!(
                receiver.receive::<Value>().await.unwrap(),
                Some(large.clone())
            );
        };
        tokio::join!(sending, receiving);
        drop((sender, _keep));

        assert_eq!(receiver.receive::<Value>().await.unwrap(), None);
    }

    #[tokio::test]
    async fn message_above_the_limit_is_refused_at_both_ends() {
        let (one, mut other) = UnixStream::pair().unwrap();
        let (mut sender, mut receiver) = open(one).unwrap();

        let too_large = json!("x".repeat(FRAME_LIMIT + 1));
        assert!(sender.send(&too_large).await.is_err());
        tokio::io::AsyncWriteExt::write_all(&mut other, &u32::MAX.to_be_bytes())
            .await
            .unwrap();

        assert!(receiver.receive::<Value>().await.is_err());
    }
}

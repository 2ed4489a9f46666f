//! The agent's answers to `ssm-cli`, over a Unix socket that only root and the agent's own user reach.
//!
//! Whatever goes wrong here, the agent works on; the socket is tried again.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::UnixStream;
use tokio::select;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use crate::protocol::wire::local::{Answer, REQUEST_LIMIT, Request};
use crate::runtime::cause::in_one_line;
use crate::transport::local_socket::{Listener, read_line, write_line};

/// Name of the socket in the runtime folder.
pub const SOCKET: &str = "agent.sock";
/// Conversations at a time; more wait until one has ended.
const AT_ONCE: usize = 8;
/// Longest conversation.
const CONVERSATION: Duration = Duration::from_secs(5);
/// Wait until a socket that cannot be made is tried again.
const RETRY: Duration = Duration::from_secs(30);
/// Wait after a connection that could not be accepted, for there is perhaps no file descriptor left.
const BREATHER: Duration = Duration::from_millis(200);

/// Gives answers. It must not wait for anything.
pub type Answerer = Arc<dyn Fn(Request) -> Answer + Send + Sync>;

/// Answers on the socket `path` until `cancel`.
pub async fn run(path: PathBuf, answerer: Answerer, cancel: CancellationToken) {
    let serving = async {
        let mut failures = 0_u64;
        loop {
            match Listener::bind(&path) {
                Ok(listener) => return serve(&listener, &answerer).await,
                Err(error) if failures == 0 => {
                    let error = in_one_line(&error);
                    warn!(error, "ssm-cli cannot ask this agent; trying again");
                }
                Err(error) => debug!(%error, "ssm-cli still cannot ask this agent"),
            }
            failures += 1;
            sleep(RETRY).await;
        }
    };
    cancel.run_until_cancelled(serving).await;
}

async fn serve(listener: &Listener, answerer: &Answerer) {
    let mut conversations = JoinSet::new();
    loop {
        select! {
            accepted = listener.accept(), if conversations.len() < AT_ONCE => match accepted {
                Ok((stream, true)) => {
                    let conversation = timeout(CONVERSATION, converse(stream, Arc::clone(answerer)));
                    conversations.spawn(conversation);
                }
                Ok((_, false)) => warn!("a user who is neither root nor the agent's wanted to ask this agent"),
                Err(error) => {
                    debug!(%error, "a local connection is not accepted");
                    sleep(BREATHER).await;
                }
            },
            Some(ended) = conversations.join_next() => match ended {
                Ok(Ok(Ok(()))) => {}
                Ok(Ok(Err(error))) => debug!(%error, "a local conversation broke off"),
                Ok(Err(_)) => debug!("a local conversation took too long"),
                Err(error) => warn!(%error, "a local conversation is lost"),
            },
        }
    }
}

async fn converse(mut stream: UnixStream, answerer: Answerer) -> std::io::Result<()> {
    let line = read_line(&mut stream, REQUEST_LIMIT).await?;
    let answer = match Request::decode(&line) {
        Ok(request) => answerer(request),
        Err(error) => Answer::Refused {
            problem: error.to_string(),
        },
    };
    write_line(&mut stream, answer.encode()).await
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::wire::local::ANSWER_LIMIT;
    use crate::transport::local_socket::{AskError, ask};

    const SOON: Duration = Duration::from_secs(10);

    #[tokio::test]
    async fn requests_are_answered_and_others_refused() {
        let api = Api::start();

        let known = api.ask(Request::Status.encode()).await;
        let unknown = api.ask(b"{\"request\":\"dance\"}".to_vec()).await;
        let malformed = api.ask(b"hello".to_vec()).await;

        assert_eq!(known, refused("Status"));
        assert_eq!(unknown, refused("Unknown"));
        let Answer::Refused { problem } = malformed else {
            panic!("{malformed:?}");
        };
        assert!(problem.contains("not valid JSON"), "{problem}");
    }

    #[tokio::test]
    async fn request_that_is_too_long_gets_no_answer_and_harms_nobody() {
        let api = Api::start();
        drop(api.connect().await);

        let long = ask(&api.path, vec![b'x'; REQUEST_LIMIT * 4], ANSWER_LIMIT, SOON).await;

        assert!(matches!(long, Err(AskError::Io { .. })), "{long:?}");
        assert_eq!(api.ask(Request::Status.encode()).await, refused("Status"));
    }

    #[tokio::test(start_paused = true)]
    async fn those_who_say_nothing_hold_others_up_for_seconds_only() {
        let api = Api::start();
        let mut silent = Vec::new();
        for _ in 0..AT_ONCE {
            silent.push(api.connect().await);
        }

        let started = tokio::time::Instant::now();
        let answer = api.ask_within(Request::Status.encode(), SOON).await;

        assert_eq!(answer, refused("Status"));
        assert!(started.elapsed() >= CONVERSATION, "{:?}", started.elapsed());
    }

    #[tokio::test(start_paused = true)]
    async fn socket_that_cannot_be_made_is_tried_again() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("run").join(SOCKET);
        std::fs::write(folder.path().join("run"), "in the way").unwrap();
        let api = Api::start_at(folder, path);
        sleep(Duration::from_millis(1)).await;

        std::fs::remove_file(api.path.parent().unwrap()).unwrap();
        sleep(RETRY).await;

        assert_eq!(api.ask(Request::Status.encode()).await, refused("Status"));
    }

    struct Api {
        path: PathBuf,
        task: tokio::task::JoinHandle<()>,
        _folder: tempfile::TempDir,
    }

    impl Api {
        fn start() -> Self {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("run").join(SOCKET);
            Self::start_at(folder, path)
        }

        fn start_at(folder: tempfile::TempDir, path: PathBuf) -> Self {
            let answerer: Answerer = Arc::new(|request| refused(&format!("{request:?}")));
            let task = tokio::spawn(run(path.clone(), answerer, CancellationToken::new()));
            Self {
                path,
                task,
                _folder: folder,
            }
        }

        async fn connect(&self) -> UnixStream {
            loop {
                match UnixStream::connect(&self.path).await {
                    Ok(stream) => return stream,
                    Err(_) => tokio::task::yield_now().await,
                }
            }
        }

        async fn ask(&self, line: Vec<u8>) -> Answer {
            drop(self.connect().await);
            self.ask_within(line, SOON).await
        }

        async fn ask_within(&self, line: Vec<u8>, within: Duration) -> Answer {
            let answer = ask(&self.path, line, ANSWER_LIMIT, within).await;
            Answer::decode(&answer.unwrap()).unwrap()
        }
    }

    impl Drop for Api {
        fn drop(&mut self) {
            self.task.abort();
        }
    }

    fn refused(problem: &str) -> Answer {
        Answer::Refused {
            problem: problem.to_owned(),
        }
    }
}

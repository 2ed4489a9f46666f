//! Work that nobody waits for, on a thread of its own that yields to all others.

use std::io;
use std::thread::{self, JoinHandle};

use tokio::runtime::{Builder, Handle};
use tokio_util::sync::CancellationToken;
use tracing::warn;

/// Added to the thread's nice value: where the processors are short it gets a tenth of what a thread
/// of a session gets, see sched(7). Less would let it starve behind a busy host's programs.
const NICE: i32 = 10;

/// A runtime on one thread with a low priority. Threads that it starts for blocking work inherit it.
///
/// It ends with this value; tasks that still run on it are dropped.
#[derive(Debug)]
pub struct Background {
    handle: Handle,
    stop: CancellationToken,
    thread: Option<JoinHandle<()>>,
}

impl Background {
    /// Starts the thread; `name` is what tools show, at most 15 bytes.
    ///
    /// # Errors
    /// If the host gives no more threads or descriptors.
    pub fn start(name: &str) -> io::Result<Self> {
        let runtime = Builder::new_current_thread()
            .thread_name(name)
            .enable_all()
            .build()?;
        let handle = runtime.handle().clone();
        let stop = CancellationToken::new();
        let stopped = stop.clone();
        let thread = thread::Builder::new()
            .name(name.to_owned())
            .spawn(move || {
                if let Err(error) = rustix::process::nice(NICE) {
                    warn!(%error, "background work cannot yield to sessions");
                }
                runtime.block_on(stopped.cancelled());
            })?;
        Ok(Self {
            handle,
            stop,
            thread: Some(thread),
        })
    }

    /// Where to spawn tasks.
    pub fn handle(&self) -> &Handle {
        &self.handle
    }
}

impl Drop for Background {
    fn drop(&mut self) {
        self.stop.cancel();
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            warn!("the thread of background work broke");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn its_threads_yield_and_this_one_does_not() {
        let background = Background::start("test").unwrap();
        let (tell, told) = std::sync::mpsc::channel();
        let ours = niceness();
        background.handle().spawn(async move {
            let blocking = tokio::task::spawn_blocking(niceness).await.unwrap();
            tell.send((niceness(), blocking)).unwrap();
        });

        let low = (ours + NICE).min(19);
        assert_eq!(told.recv().unwrap(), (low, low));
        assert_eq!(niceness(), ours);
    }

    #[test]
    fn its_tasks_end_with_it() {
        let background = Background::start("test").unwrap();
        let (held, dropped) = std::sync::mpsc::channel::<()>();
        background.handle().spawn(async move {
            std::future::pending::<()>().await;
            drop(held);
        });
        drop(background);

        assert!(dropped.recv().is_err());
    }

    fn niceness() -> i32 {
        rustix::process::nice(0).unwrap()
    }
}

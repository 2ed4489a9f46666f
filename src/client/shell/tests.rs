use std::os::fd::OwnedFd;
use std::time::Duration;

use bytes::Bytes;
use nix::pty::{Winsize, openpty};
use nix::sys::termios::{LocalFlags, tcgetattr};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
use tokio::time::{Instant, timeout};

use super::*;
use crate::client::terminal::SIZE_WITHOUT_TERMINAL;
use crate::protocol::channel::Event;
use crate::protocol::wire::{Payload, TerminalSize};
use crate::transport::{Incoming, Outgoing};

/// Longer than any of these tests waits for an event.
const DEADLINE: Duration = Duration::from_secs(10);

#[tokio::test]
async fn output_and_errors_reach_their_streams_in_order() {
    let mut far = FarEnd::new(64);
    let (io, mut near) = piped();

    far.output(b"one ").await;
    far.say(Incoming::Payload(Payload::StdErr(Bytes::from_static(
        b"oops",
    ))))
    .await;
    far.output(b"two").await;
    far.close(None, "").await;
    let (end, _) = far.run(Shell::Command, io).await;

    assert!(matches!(end, ShellEnd::Closed(_)), "{end:?}");
    assert_eq!(near.output().await, b"one two");
    assert_eq!(near.errors().await, b"oops");
}

#[tokio::test]
async fn first_exit_code_is_the_one_that_counts() {
    let mut far = FarEnd::new(64);
    let (io, _near) = piped();

    far.say(Incoming::Payload(Payload::ExitCode(3))).await;
    far.say(Incoming::Payload(Payload::ExitCode(4))).await;
    far.close(Some(5), "").await;
    let (_, exit_code) = far.run(Shell::Terminal, io).await;

    assert_eq!(exit_code, Some(3));
}

#[tokio::test]
async fn piped_input_goes_up_behind_the_size_and_ends_with_eot() {
    let mut far = FarEnd::new(64);
    let (io, mut near) = piped();
    near.input.write_all(b"exit 3\n").await.unwrap();
    near.input.shutdown().await.unwrap();

    let seen = far.watch_up(io, |up| up.bytes.ends_with(b"\x04")).await;

    assert_eq!(seen.sizes, [SIZE_WITHOUT_TERMINAL]);
    assert_eq!(seen.bytes, b"exit 3\n\x04");
}

#[tokio::test(start_paused = true)]
async fn eot_is_typed_again_while_the_shell_lives() {
    let mut far = FarEnd::new(64);
    let (io, mut near) = piped();
    near.input.shutdown().await.unwrap();

    let seen = far.watch_up(io, |up| up.bytes == b"\x04\x04\x04").await;

    assert_eq!(seen.bytes, b"\x04\x04\x04");
}

#[tokio::test]
async fn input_waits_in_bounded_memory_while_the_channel_takes_nothing() {
    let far = FarEnd::new(1);
    let (io, mut near) = piped();
    let flood = async {
        let mut taken = 0_usize;
        let chunk = [b'x'; 1024];
        // Ends when the client reads no more.
        while let Ok(count) = timeout(Duration::from_millis(500), near.input.write(&chunk)).await {
            taken += count.unwrap();
        }
        taken
    };

    let taken = tokio::select! {
        taken = flood => taken,
        (end, _) = far.run(Shell::Terminal, io) => panic!("ended: {end:?}"),
    };

    assert!(taken < 1 << 20, "{taken} bytes were taken");
}

#[tokio::test]
async fn paste_of_a_megabyte_arrives_whole() {
    let paste: Vec<u8> = (0..1_usize << 20)
        .map(|n| b"0123456789abcde\n"[n % 16])
        .collect();
    let mut far = FarEnd::new(2);
    let (io, mut near) = piped();
    let sent = paste.clone();
    let typing = async {
        near.input.write_all(&sent).await.unwrap();
        std::future::pending::<()>().await;
    };

    let seen = tokio::select! {
        seen = far.watch_up(io, |up| up.bytes.len() >= paste.len()) => seen,
        () = typing => unreachable!(),
    };

    assert!(seen.bytes == paste, "{} bytes arrived", seen.bytes.len());
}

#[tokio::test]
async fn closed_output_ends_the_session() {
    let mut far = FarEnd::new(64);
    let (io, near) = piped();
    drop(near.output);

    far.output(b"x").await;
    let (end, _) = far.run(Shell::Terminal, io).await;

    assert!(
        matches!(&end, ShellEnd::Output(error) if error.kind() == io::ErrorKind::BrokenPipe),
        "{end:?}"
    );
}

#[tokio::test]
async fn end_of_the_pump_and_failed_handshake_are_told_apart() {
    let mut far = FarEnd::new(64);
    let (io, _near) = piped();
    far.say(Incoming::Event(Event::HandshakeFailed("no".into())))
        .await;
    let (end, _) = far.run(Shell::Terminal, io).await;
    assert!(
        matches!(&end, ShellEnd::HandshakeFailed(text) if text == "no"),
        "{end:?}"
    );

    let mut far = FarEnd::new(64);
    let (io, _near) = piped();
    far.hang_up();
    let (end, _) = far.run(Shell::Terminal, io).await;
    assert!(matches!(end, ShellEnd::PumpEnded), "{end:?}");
}

#[tokio::test]
async fn escape_sequence_leaves_although_the_channel_takes_nothing() {
    let far = FarEnd::new(1);
    let terminal = Terminal::open();
    let io = terminal.io();
    terminal.type_keys(b"typed in vain\r");

    let run = tokio::spawn(far.run(Shell::Terminal, io));
    terminal.wait_until_raw().await;
    terminal.type_keys(b"more in vain\r");
    terminal.type_keys(b"~.");
    let (end, _) = timeout(DEADLINE, run).await.unwrap().unwrap();

    assert!(matches!(end, ShellEnd::Left), "{end:?}");
    assert!(!terminal.is_raw());
}

#[tokio::test]
async fn terminal_is_given_back_when_the_session_is_dropped() {
    let far = FarEnd::new(64);
    let terminal = Terminal::open();
    let io = terminal.io();

    let run = tokio::spawn(far.run(Shell::Terminal, io));
    terminal.wait_until_raw().await;
    run.abort();
    assert!(run.await.unwrap_err().is_cancelled());

    assert!(!terminal.is_raw());
}

#[tokio::test]
async fn every_key_of_a_raw_terminal_goes_up_as_its_byte() {
    let mut far = FarEnd::new(64);
    let terminal = Terminal::open();
    let io = terminal.io();
    let typing = async {
        terminal.wait_until_raw().await;
        terminal.type_keys(b"ls\r\x03\x1a\x1c\x11\x13\x04");
        std::future::pending::<()>().await;
    };

    let seen = tokio::select! {
        seen = far.watch_up(io, |up| up.bytes.ends_with(b"\x04")) => seen,
        () = typing => unreachable!(),
    };

    assert_eq!(seen.sizes, [Terminal::SIZE]);
    assert_eq!(seen.bytes, b"ls\r\x03\x1a\x1c\x11\x13\x04");
}

#[tokio::test]
async fn cut_is_told_to_a_person_only_if_it_lasts() {
    let terminal = Terminal::open();
    let mut far = FarEnd::new(64);
    let io = terminal.io();

    far.say(Incoming::Disconnected {
        give_up: Instant::now() + DEADLINE,
    })
    .await;
    far.say(Incoming::Connected).await;
    far.output(b"short cut\r\n").await;
    far.say(Incoming::Disconnected {
        give_up: Instant::now() + DEADLINE,
    })
    .await;
    let said = far.incoming_sender();
    let run = tokio::spawn(far.run(Shell::Terminal, io));
    let screen = terminal.wait_for_output("dialling again").await;
    said.send(Incoming::Connected).await.unwrap();
    let after = terminal.wait_for_output("connected again").await;
    run.abort();

    assert!(screen.starts_with("short cut"), "{screen:?}");
    assert!(!after.contains("lost"), "{after:?}");
}

#[tokio::test]
async fn command_leaves_terminal_and_input_alone_and_takes_interrupts() {
    let terminal = Terminal::open();
    let mut far = FarEnd::new(64);
    let mut io = terminal.io();
    let interrupts = io.interrupts();
    terminal.type_keys(b"for somebody else\n");

    let mut exit_code = None;
    let command = run(Shell::Command, &mut far.handle, &mut io, &mut exit_code);
    let keys = async {
        while !interrupts.hand_over(2) {
            tokio::task::yield_now().await;
        }
        assert!(interrupts.hand_over(3));
        for key in [0x03, 0x1c] {
            match far.outgoing.recv().await.unwrap() {
                Outgoing::Payload(Payload::Output(bytes)) => assert_eq!(&bytes[..], [key]),
                other => panic!("unexpected: {other:?}"),
            }
        }
    };
    tokio::select! {
        done = timeout(DEADLINE, keys) => done.unwrap(),
        end = command => panic!("ended: {end:?}"),
    }

    assert!(!terminal.is_raw());
    let mut line = [0; 64];
    let count = nix::unistd::read(&terminal.slave, &mut line).unwrap();
    assert_eq!(&line[..count], b"for somebody else\n");
}

#[test]
fn only_shells_are_shells() {
    assert_eq!(Shell::of("Standard_Stream"), Some(Shell::Terminal));
    assert_eq!(Shell::of("InteractiveCommands"), Some(Shell::Terminal));
    assert_eq!(Shell::of("NonInteractiveCommands"), Some(Shell::Command));
    assert_eq!(Shell::of("Port"), None);
}

/// The channel's end of a handle, in the hands of the test.
struct FarEnd {
    handle: ChannelHandle,
    outgoing: mpsc::Receiver<Outgoing>,
    incoming: Option<mpsc::Sender<Incoming>>,
}

/// What went up.
#[derive(Default)]
struct Up {
    sizes: Vec<TerminalSize>,
    bytes: Vec<u8>,
}

impl FarEnd {
    /// `room` payloads may wait on their way up.
    fn new(room: usize) -> Self {
        let (to_channel, outgoing) = mpsc::channel(room);
        let (incoming, from_channel) = mpsc::channel(64);
        Self {
            handle: ChannelHandle {
                outgoing: to_channel,
                incoming: from_channel,
                over: tokio_util::sync::CancellationToken::new(),
            },
            outgoing,
            incoming: Some(incoming),
        }
    }

    fn incoming_sender(&self) -> mpsc::Sender<Incoming> {
        self.incoming.clone().unwrap()
    }

    fn hang_up(&mut self) {
        self.incoming = None;
    }

    async fn say(&mut self, incoming: Incoming) {
        self.incoming_sender().send(incoming).await.unwrap();
    }

    async fn output(&mut self, bytes: &'static [u8]) {
        let payload = Payload::Output(Bytes::from_static(bytes));
        self.say(Incoming::Payload(payload)).await;
    }

    async fn close(&mut self, exit_code: Option<i32>, output: &str) {
        self.say(Incoming::Event(Event::Closed(ChannelClosed {
            message_type: "channel_closed".into(),
            message_id: String::new(),
            destination_id: String::new(),
            session_id: String::new(),
            schema_version: 1,
            created_date: String::new(),
            output: output.into(),
            exit_code,
        })))
        .await;
    }

    /// Runs the shell to its end, with a channel that takes no more than it has room for.
    async fn run(mut self, shell: Shell, mut io: Io) -> (ShellEnd, Option<i32>) {
        let mut exit_code = None;
        let run = run(shell, &mut self.handle, &mut io, &mut exit_code);
        let end = timeout(DEADLINE, run).await.unwrap().unwrap();
        (end, exit_code)
    }

    /// Runs the shell until what went up is `enough`.
    async fn watch_up(&mut self, mut io: Io, enough: impl Fn(&Up) -> bool) -> Up {
        let mut exit_code = None;
        let mut up = Up::default();
        let shell = run(Shell::Terminal, &mut self.handle, &mut io, &mut exit_code);
        let watch = async {
            while !enough(&up) {
                match self.outgoing.recv().await.unwrap() {
                    Outgoing::Payload(Payload::Size(size)) => up.sizes.push(size),
                    Outgoing::Payload(Payload::Output(bytes)) => up.bytes.extend_from_slice(&bytes),
                    other => panic!("unexpected: {other:?}"),
                }
            }
        };
        tokio::select! {
            done = timeout(DEADLINE, watch) => done.unwrap(),
            end = shell => panic!("ended: {end:?}"),
        }
        up
    }
}

/// The other ends of the streams of an [`Io`].
struct Near {
    input: DuplexStream,
    output: DuplexStream,
    errors: DuplexStream,
}

fn piped() -> (Io, Near) {
    let (input, far_input) = duplex(4096);
    let (output, far_output) = duplex(1 << 20);
    let (errors, far_errors) = duplex(1 << 20);
    let near = Near {
        input,
        output,
        errors,
    };
    (Io::pipes(far_input, far_output, far_errors), near)
}

impl Near {
    async fn output(&mut self) -> Vec<u8> {
        let mut bytes = Vec::new();
        self.output.read_to_end(&mut bytes).await.unwrap();
        bytes
    }

    async fn errors(&mut self) -> Vec<u8> {
        let mut bytes = Vec::new();
        self.errors.read_to_end(&mut bytes).await.unwrap();
        bytes
    }
}

/// A pseudo-terminal; the test is the person in front of it.
struct Terminal {
    master: OwnedFd,
    slave: OwnedFd,
}

impl Terminal {
    const SIZE: TerminalSize = TerminalSize {
        cols: 132,
        rows: 50,
    };

    fn open() -> Self {
        let size = Winsize {
            ws_row: Self::SIZE.rows,
            ws_col: Self::SIZE.cols,
            ws_xpixel: 0,
            ws_ypixel: 0,
        };
        let pair = openpty(Some(&size), None).unwrap();
        Self {
            master: pair.master,
            slave: pair.slave,
        }
    }

    fn io(&self) -> Io {
        let duplicate = || self.slave.try_clone().unwrap();
        Io::from_fds(duplicate(), duplicate(), duplicate()).unwrap()
    }

    fn type_keys(&self, keys: &[u8]) {
        assert_eq!(nix::unistd::write(&self.master, keys).unwrap(), keys.len());
    }

    fn is_raw(&self) -> bool {
        let flags = tcgetattr(&self.slave).unwrap().local_flags;
        !flags.intersects(LocalFlags::ICANON | LocalFlags::ECHO)
    }

    async fn wait_until_raw(&self) {
        let raw = async {
            while !self.is_raw() {
                tokio::task::yield_now().await;
            }
        };
        timeout(DEADLINE, raw)
            .await
            .expect("the terminal never became raw");
    }

    /// What appeared on the screen up to and including `text`.
    async fn wait_for_output(&self, text: &'static str) -> String {
        let master = self.master.try_clone().unwrap();
        let read = tokio::task::spawn_blocking(move || {
            let mut seen = String::new();
            while !seen.contains(text) {
                let mut buffer = [0; 256];
                let count = nix::unistd::read(&master, &mut buffer).unwrap();
                seen.push_str(&String::from_utf8_lossy(&buffer[..count]));
            }
            seen
        });
        timeout(DEADLINE, read).await.unwrap().unwrap()
    }
}

//! `session-manager-plugin` as a program: between pipes, or at a pseudo-terminal.

use std::io::{Read, Write};
use std::process::{Command, Stdio};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Instant;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use portable_pty::{
    Child, CommandBuilder, MasterPty, PtyPair, PtySize, SlavePty, native_pty_system,
};

use crate::DEADLINE;
use crate::endpoint::Endpoint;
use crate::stand_in::StandIn;

pub const PROGRAM: &str = env!("CARGO_BIN_EXE_session-manager-plugin");
pub const REQUEST: &str = r#"{"Target":"mi-0123456789abcdef0"}"#;

/// Environment of every run: credentials, and nothing that leads to real ones.
const ENVIRONMENT: [(&str, &str); 5] = [
    ("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE"),
    ("AWS_SECRET_ACCESS_KEY", "secret"),
    ("AWS_EC2_METADATA_DISABLED", "true"),
    ("AWS_CONFIG_FILE", "/dev/null"),
    ("AWS_SHARED_CREDENTIALS_FILE", "/dev/null"),
];

/// The arguments by which the AWS CLI starts the program.
pub fn arguments(stand_in: &StandIn, endpoint: &Endpoint) -> [String; 6] {
    [
        stand_in.response(),
        "eu-west-1".into(),
        "StartSession".into(),
        String::new(),
        REQUEST.into(),
        endpoint.url.clone(),
    ]
}

/// A command between pipes.
pub fn piped() -> Command {
    let mut command = Command::new(PROGRAM);
    command
        .env_clear()
        .envs(ENVIRONMENT)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

/// The program at a terminal; the test is the person in front of it.
pub struct AtTerminal {
    master: Mutex<Box<dyn MasterPty + Send>>,
    /// Keeps the terminal when the program has left it, so that its modes can be looked at.
    _slave: Mutex<Box<dyn SlavePty + Send>>,
    keys: Mutex<Box<dyn Write + Send>>,
    child: Mutex<Box<dyn Child + Send + Sync>>,
    screen: Arc<Screen>,
    before: String,
}

#[derive(Default)]
struct Screen {
    text: Mutex<Vec<u8>>,
    changed: Condvar,
}

impl AtTerminal {
    pub const COLS: u16 = 132;
    pub const ROWS: u16 = 50;

    pub fn start(stand_in: &StandIn, endpoint: &Endpoint) -> Arc<Self> {
        let PtyPair { slave, master } = native_pty_system()
            .openpty(PtySize {
                rows: Self::ROWS,
                cols: Self::COLS,
                pixel_width: 0,
                pixel_height: 0,
            })
            .unwrap();
        let before = modes(master.as_ref());
        let mut command = CommandBuilder::new(PROGRAM);
        command.args(arguments(stand_in, endpoint));
        command.env_clear();
        for (name, value) in ENVIRONMENT {
            command.env(name, value);
        }
        let child = slave.spawn_command(command).unwrap();
        let screen = Arc::new(Screen::default());
        let reader = master.try_clone_reader().unwrap();
        let shown = Arc::clone(&screen);
        // Ends when the last descriptor of the terminal's other side is closed.
        std::thread::spawn(move || shown.follow(reader));
        Arc::new(Self {
            keys: Mutex::new(master.take_writer().unwrap()),
            master: Mutex::new(master),
            _slave: Mutex::new(slave),
            child: Mutex::new(child),
            screen,
            before,
        })
    }

    pub fn type_keys(&self, keys: &[u8]) {
        self.keys.lock().unwrap().write_all(keys).unwrap();
    }

    pub fn resize(&self, cols: u16, rows: u16) {
        self.master
            .lock()
            .unwrap()
            .resize(PtySize {
                rows,
                cols,
                pixel_width: 0,
                pixel_height: 0,
            })
            .unwrap();
    }

    pub fn signal(&self, signal: Signal) {
        let id = self.child.lock().unwrap().process_id().unwrap();
        kill(Pid::from_raw(id.try_into().unwrap()), signal).unwrap();
    }

    /// Whether the modes are those from before the program was started.
    pub fn is_restored(&self) -> bool {
        modes(self.master.lock().unwrap().as_ref()) == self.before
    }

    /// Waits until `text` is on the screen; returns all of it.
    pub async fn shows(self: &Arc<Self>, text: &'static str) -> String {
        let this = Arc::clone(self);
        tokio::task::spawn_blocking(move || this.screen.wait_for(text))
            .await
            .unwrap()
    }

    /// Waits for the end of the program; returns its exit status.
    pub async fn exit_status(self: &Arc<Self>) -> u32 {
        let this = Arc::clone(self);
        let wait = tokio::task::spawn_blocking(move || {
            let mut child = this.child.lock().unwrap();
            let give_up = Instant::now() + DEADLINE;
            loop {
                if let Some(status) = child.try_wait().unwrap() {
                    return status.exit_code();
                }
                if give_up < Instant::now() {
                    child.kill().unwrap();
                    panic!("the program did not end; screen: {}", this.screen.text());
                }
                std::thread::sleep(std::time::Duration::from_millis(5));
            }
        });
        wait.await.unwrap()
    }
}

/// The modes of a terminal, to be compared.
fn modes(terminal: &dyn MasterPty) -> String {
    format!("{:?}", terminal.get_termios().unwrap())
}

impl Screen {
    fn follow(&self, mut reader: Box<dyn Read + Send>) {
        let mut buffer = [0; 4096];
        while let Ok(count @ 1..) = reader.read(&mut buffer) {
            self.text
                .lock()
                .unwrap()
                .extend_from_slice(&buffer[..count]);
            self.changed.notify_all();
        }
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&self.text.lock().unwrap()).into_owned()
    }

    fn wait_for(&self, text: &str) -> String {
        let lacks = |shown: &mut Vec<u8>| !String::from_utf8_lossy(shown).contains(text);
        let shown = self.text.lock().unwrap();
        let (shown, result) = self
            .changed
            .wait_timeout_while(shown, DEADLINE, lacks)
            .unwrap();
        let all = String::from_utf8_lossy(&shown).into_owned();
        assert!(!result.timed_out(), "{text:?} never came; screen: {all}");
        all
    }
}

//! OpenSSH through a raw stream: `ssh`, `scp`, `sftp` and `rsync` with our plugin as `ProxyCommand`,
//! and a private server behind the agent.
//!
//! The programs belong to the system. Where one is missing these stories cannot run; with
//! `REQUIRE_OPENSSH` set, as `.ci/run` does once it has installed them, that is a failure.

use std::fs::{self, File};
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use nix::unistd::{Uid, User};
use serde_json::{Value, json};
use ssm_agent::client::{Parameters, start_session};
use tokio::net::TcpStream;
use tokio::process::{Child, Command as Process};
use tokio::time::{sleep, timeout};

use super::ports::Server;
use super::programs::{PATIENCE, World};

const PROGRAMS: [&str; 6] = ["ssh", "sshd", "ssh-keygen", "scp", "sftp", "rsync"];
const DOCUMENT: &str = "AWS-StartSSHSession";

#[tokio::test(flavor = "multi_thread")]
async fn ssh_runs_commands_with_input_output_and_exit_status() {
    let Some(host) = Host::start().await else {
        return;
    };

    let answer = host
        .ssh(&["cat; echo oops >&2; exit 7"], b"typed\n\x00\xff")
        .await;

    assert_eq!(answer.status.code(), Some(7), "{answer:?}");
    assert_eq!(answer.stdout, b"typed\n\x00\xff");
    let errors = String::from_utf8_lossy(&answer.stderr);
    assert!(errors.contains("oops\n"), "{errors}");
    host.wait_until_all_sessions_are_over().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn files_are_copied_unharmed_by_scp_sftp_and_rsync() {
    let Some(host) = Host::start().await else {
        return;
    };
    let folder = host.world.folder.path();
    let original: Vec<u8> = (0_u32..).flat_map(u32::to_le_bytes).take(4 << 20).collect();
    let from = folder.join("original");
    fs::write(&from, &original).unwrap();
    let (from, there) = (from.to_str().unwrap(), folder.join("there"));

    for program in ["scp", "sftp", "rsync"] {
        fs::create_dir(&there).unwrap();
        let up = there.join("up").display().to_string();
        let down = there.join("down").display().to_string();
        for (source, target) in [
            (from, &format!("host:{up}")),
            (&format!("host:{up}"), &down),
        ] {
            let output = host.copy(program, source, target).await;
            assert!(output.status.success(), "{program}: {output:?}");
        }
        assert!(fs::read(&down).unwrap() == original, "{program}");
        fs::remove_dir_all(&there).unwrap();
    }
    host.wait_until_all_sessions_are_over().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn ssh_carries_port_forwards_of_its_own() {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    let Some(host) = Host::start().await else {
        return;
    };
    let server = Server::start().await;
    let socket = host.world.folder.path().join("local");
    let forward = format!("{}:127.0.0.1:{}", socket.display(), server.port);
    let mut ssh = host.command("ssh").await;
    ssh.args([
        "-N",
        "-o",
        "ExitOnForwardFailure=yes",
        "-L",
        &forward,
        "host",
    ]);
    let mut ssh = ssh.spawn().unwrap();

    let connect = async {
        loop {
            match tokio::net::UnixStream::connect(&socket).await {
                Ok(stream) => return stream,
                Err(_) => sleep(Duration::from_millis(10)).await,
            }
        }
    };
    let mut stream = timeout(PATIENCE, connect).await.expect("ssh listens");
    stream.write_all(b"bye\n").await.unwrap();
    let mut answer = String::new();
    timeout(PATIENCE, stream.read_to_string(&mut answer))
        .await
        .unwrap()
        .unwrap();

    assert_eq!(answer, "bye\nend");
    ssh.kill().await.unwrap();
    host.wait_until_all_sessions_are_over().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn ssh_is_a_socks_proxy() {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    let Some(host) = Host::start().await else {
        return;
    };
    let server = Server::start().await;
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let proxy = free.local_addr().unwrap();
    drop(free);
    let mut ssh = host.command("ssh").await;
    let address = proxy.to_string();
    ssh.args(["-N", "-o", "ExitOnForwardFailure=yes", "-D", &address]);
    let mut ssh = ssh.arg("host").spawn().unwrap();
    let connect = async {
        loop {
            match TcpStream::connect(proxy).await {
                Ok(stream) => return stream,
                Err(_) => sleep(Duration::from_millis(10)).await,
            }
        }
    };
    let mut stream = timeout(PATIENCE, connect).await.expect("ssh listens");

    // SOCKS 5: no authentication, then CONNECT to an IPv4 address.
    stream.write_all(&[5, 1, 0]).await.unwrap();
    let mut method = [0; 2];
    stream.read_exact(&mut method).await.unwrap();
    let port: u16 = server.port.parse().unwrap();
    let connect = [&[5, 1, 0, 1, 127, 0, 0, 1][..], &port.to_be_bytes()].concat();
    stream.write_all(&connect).await.unwrap();
    let mut granted = [0; 10];
    let read = timeout(PATIENCE, stream.read_exact(&mut granted)).await;
    read.unwrap().unwrap();
    stream.write_all(b"bye\n").await.unwrap();
    let mut answer = String::new();
    let read = timeout(PATIENCE, stream.read_to_string(&mut answer)).await;
    read.unwrap().unwrap();

    assert_eq!((method, &granted[..4]), ([5, 0], &[5, 0, 0, 1][..]));
    assert_eq!(answer, "bye\nend");
    ssh.kill().await.unwrap();
    host.wait_until_all_sessions_are_over().await;
}

/// A node with a server of its own behind its agent.
struct Host {
    world: World,
    node: String,
    port: u16,
    _server: Child,
}

impl Host {
    /// `None` where OpenSSH cannot run.
    async fn start() -> Option<Self> {
        if let Err(missing) = openssh() {
            assert!(
                std::env::var_os("REQUIRE_OPENSSH").is_none(),
                "{missing}, although REQUIRE_OPENSSH is set"
            );
            eprintln!("left out: {missing}");
            return None;
        }
        let (world, node) = World::with_agent().await;
        let folder = world.folder.path();
        for key in ["host-key", "key"] {
            let made = Command::new("ssh-keygen")
                .args(["-q", "-t", "ed25519", "-N", "", "-f"])
                .arg(folder.join(key))
                .status();
            assert!(made.unwrap().success());
        }
        fs::copy(folder.join("key.pub"), folder.join("authorized")).unwrap();
        let (port, server) = serve(folder).await;
        Some(Self {
            world,
            node,
            port,
            _server: server,
        })
    }

    async fn ssh(&self, arguments: &[&str], input: &[u8]) -> Output {
        use tokio::io::AsyncWriteExt as _;

        let mut ssh = self.command("ssh").await;
        let mut ssh = ssh.arg("host").args(arguments).spawn().unwrap();
        ssh.stdin.take().unwrap().write_all(input).await.unwrap();
        let output = timeout(PATIENCE, ssh.wait_with_output()).await;
        output.expect("ssh ends").unwrap()
    }

    /// Copies a file with `program`; `host:` before a path means that it is there.
    async fn copy(&self, program: &str, from: &str, to: &str) -> Output {
        let mut command = self.command(program).await;
        match program {
            "sftp" => {
                let line = match to.strip_prefix("host:") {
                    Some(to) => format!("put {from} {to}\n"),
                    None => format!("get {} {to}\n", from.trim_start_matches("host:")),
                };
                let batch = self.world.folder.path().join("batch");
                fs::write(&batch, line).unwrap();
                command.arg("-b").arg(batch).arg("host");
            }
            _ => {
                command.args([from, to]);
            }
        }
        let output = timeout(PATIENCE, command.output()).await;
        output.expect("the program ends").unwrap()
    }

    /// An OpenSSH program whose host `host` is reached through a session of its own.
    async fn command(&self, program: &str) -> Process {
        let config = self.configure().await;
        let mut command = Process::new(program);
        match program {
            "rsync" => command.args(["-e", &format!("ssh -F {}", config.display())]),
            _ => command.arg("-F").arg(config),
        };
        let id = self.world.credentials.access_key_id();
        let secret = self.world.credentials.secret_access_key();
        let authority = self.world.folder.path().join("gateway/ca.pem");
        command
            .env("AWS_ACCESS_KEY_ID", id)
            .env("AWS_SECRET_ACCESS_KEY", secret)
            .env("AWS_EC2_METADATA_DISABLED", "true")
            .env("SSL_CERT_FILE", authority)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        command
    }

    /// Starts a session and writes what OpenSSH has to know about it.
    async fn configure(&self) -> PathBuf {
        let port = self.port.to_string();
        let parameters = Parameters::from([("portNumber".to_owned(), vec![port])]);
        let client = &self.world.client;
        let started = start_session(client, &self.node, Some(DOCUMENT), &parameters, None)
            .await
            .unwrap();
        let response = json!({
            "SessionId": started.session_id, "TokenValue": started.token, "StreamUrl": started.stream_url,
        });
        let folder = self.world.folder.path();
        let request = json!({"Target": self.node, "DocumentName": DOCUMENT});
        let proxy = format!(
            "#!/bin/sh\nexec '{}' '{response}' us-east-1 StartSession '' '{request}' '{}'\n",
            env!("CARGO_BIN_EXE_session-manager-plugin"),
            self.world.url,
        );
        write_program(&folder.join("proxy"), &proxy);
        let user = User::from_uid(Uid::effective()).unwrap().unwrap().name;
        let config = format!(
            "Host host\nUser {user}\nIdentityFile {0}/key\nIdentitiesOnly yes\nBatchMode yes\n\
             UserKnownHostsFile {0}/known\nStrictHostKeyChecking accept-new\nLogLevel ERROR\n\
             ProxyCommand {0}/proxy\n",
            folder.display(),
        );
        let path = folder.join("config");
        fs::write(&path, config).unwrap();
        path
    }

    async fn wait_until_all_sessions_are_over(&self) {
        let over = async {
            loop {
                let request = json!({"State": "Active"});
                let answer: Value = self
                    .world
                    .client
                    .ssm("DescribeSessions", &request)
                    .await
                    .unwrap();
                if answer["Sessions"].as_array().unwrap().is_empty() {
                    return;
                }
                sleep(Duration::from_millis(10)).await;
            }
        };
        timeout(PATIENCE, over).await.expect("all sessions end");
    }
}

/// Whether OpenSSH can run, or what is missing.
fn openssh() -> Result<(), String> {
    if let Some(missing) = PROGRAMS.into_iter().find(|name| program(name).is_none()) {
        return Err(format!("{missing} is not installed"));
    }
    match User::from_uid(Uid::effective()) {
        Ok(Some(_)) => Ok(()),
        _ => Err(format!(
            "OpenSSH serves no user without a name: {}",
            Uid::effective()
        )),
    }
}

fn program(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path)
        .chain([PathBuf::from("/usr/sbin")])
        .map(|folder| folder.join(name))
        .find(|program| program.is_file())
}

/// Starts a server with the keys in `folder`.
async fn serve(folder: &Path) -> (u16, Child) {
    if Uid::effective().is_root() {
        // Its unprivileged part lives there.
        fs::create_dir_all("/run/sshd").unwrap();
    }
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    drop(listener);
    let config = format!(
        "ListenAddress 127.0.0.1:{port}\nHostKey {0}/host-key\nPidFile none\nUsePAM no\n\
         StrictModes no\nPermitRootLogin yes\nAuthorizedKeysFile {0}/authorized\n\
         Subsystem sftp internal-sftp\n",
        folder.display(),
    );
    fs::write(folder.join("sshd_config"), config).unwrap();
    let server = Process::new(program("sshd").unwrap())
        .args(["-D", "-e", "-f"])
        .arg(folder.join("sshd_config"))
        .stdin(Stdio::null())
        .stderr(File::create(folder.join("sshd.log")).unwrap())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let listening = async {
        while TcpStream::connect(("127.0.0.1", port)).await.is_err() {
            sleep(Duration::from_millis(10)).await;
        }
    };
    if timeout(PATIENCE, listening).await.is_err() {
        let log = fs::read_to_string(folder.join("sshd.log")).unwrap();
        panic!("the server does not listen: {log}");
    }
    (port, server)
}

/// Writes a program whole before anybody can run it.
fn write_program(path: &Path, text: &str) {
    let _ = fs::remove_file(path);
    let mut file = File::create(path).unwrap();
    file.write_all(text.as_bytes()).unwrap();
    file.set_permissions(fs::Permissions::from_mode(0o700))
        .unwrap();
}

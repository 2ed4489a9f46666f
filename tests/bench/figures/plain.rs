//! The same work without sessions: a program on a pseudo-terminal, read by a plain loop, alone or
//! through plain relays.

use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use portable_pty::{Child, CommandBuilder, MasterPty, PtySize, native_pty_system};
use rustls::pki_types::{PrivateKeyDer, ServerName};
use rustls::{
    ClientConfig, ClientConnection, RootCertStore, ServerConfig, ServerConnection, StreamOwned,
};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::{TlsAcceptor, TlsConnector};

const BUFFER: usize = 64 << 10;

/// How long `work` takes, beside its result.
pub fn timed(work: impl FnOnce() -> u64) -> (u64, Duration) {
    let began = Instant::now();
    (work(), began.elapsed())
}

/// A program on a terminal that passes bytes as they are.
struct Terminal {
    master: Box<dyn MasterPty + Send>,
    child: Box<dyn Child + Send + Sync>,
}

impl Terminal {
    fn spawn(command: &[impl AsRef<str>]) -> Self {
        let pair = native_pty_system().openpty(PtySize::default()).unwrap();
        let mut builder = CommandBuilder::new("sh");
        builder.args(["-c", "stty -opost -echo; exec \"$@\"", "sh"]);
        builder.args(command.iter().map(AsRef::as_ref));
        let child = pair.slave.spawn_command(builder).unwrap();
        Self {
            master: pair.master,
            child,
        }
    }

    /// Copies the output to its end.
    fn copy_to(mut self, mut to: impl Write) -> u64 {
        let total = copy(self.master.try_clone_reader().unwrap(), &mut to);
        self.child.wait().unwrap();
        total
    }
}

/// Copies to the end, in large pieces; a terminal ends with an error.
fn copy(mut from: impl Read, mut to: impl Write) -> u64 {
    let mut buffer = vec![0; BUFFER];
    let mut total = 0;
    while let Ok(count @ 1..) = from.read(&mut buffer) {
        to.write_all(&buffer[..count]).unwrap();
        total += count as u64;
    }
    to.flush().unwrap();
    total
}

/// Reads the output of a program.
pub fn read(command: &[String]) -> u64 {
    Terminal::spawn(command).copy_to(io::sink())
}

/// Reads it at the other end of one TCP connection.
pub fn over_tcp(command: &[String]) -> u64 {
    let (here, there) = connected();
    let terminal = Terminal::spawn(command);
    let sender = thread::spawn(move || {
        terminal.copy_to(&here);
        here.shutdown(Shutdown::Write).unwrap();
    });
    let total = copy(there, io::sink());
    sender.join().unwrap();
    total
}

/// Reads it behind a relay with a TLS connection on either side, as a session has.
pub fn over_two_tls(command: &[String]) -> u64 {
    let tls = Tls::new();
    let (near, relay_in) = connected();
    let (relay_out, far) = connected();
    let (mut near, relay_in) = (tls.client(near), tls.server(relay_in));
    let (mut relay_out, far) = (tls.server(relay_out), tls.client(far));
    let terminal = Terminal::spawn(command);
    let sender = thread::spawn(move || {
        terminal.copy_to(&mut near);
        end(near.conn, &near.sock);
    });
    let relay = thread::spawn(move || {
        copy(relay_in, &mut relay_out);
        end(relay_out.conn, &relay_out.sock);
    });
    let total = copy(far, io::sink());
    sender.join().unwrap();
    relay.join().unwrap();
    total
}

/// Types keys into a program that puts them out again, over one TCP connection. `ready\n` comes first.
pub fn echo_over_tcp(command: &[&str], keys: usize) -> Vec<Duration> {
    let (here, mut there) = connected();
    let mut terminal = Terminal::spawn(command);
    let (mut output, mut input) = (
        terminal.master.try_clone_reader().unwrap(),
        terminal.master.take_writer().unwrap(),
    );
    let mut typed = here.try_clone().unwrap();
    let up = thread::spawn(move || {
        let mut buffer = [0; 64];
        while let Ok(count @ 1..) = typed.read(&mut buffer) {
            input.write_all(&buffer[..count]).unwrap();
        }
    });
    let mut shown = here;
    let down = thread::spawn(move || {
        let mut buffer = [0; 4096];
        while let Ok(count @ 1..) = output.read(&mut buffer) {
            if shown.write_all(&buffer[..count]).is_err() {
                break;
            }
        }
    });
    let mut ready = [0; 6];
    there.read_exact(&mut ready).unwrap();
    let mut samples = Vec::with_capacity(keys);
    let mut key = [0];
    for _ in 0..keys {
        let began = Instant::now();
        there.write_all(b"k").unwrap();
        there.read_exact(&mut key).unwrap();
        samples.push(began.elapsed());
    }
    terminal.child.kill().unwrap();
    terminal.child.wait().unwrap();
    there.shutdown(Shutdown::Both).unwrap();
    up.join().unwrap();
    down.join().unwrap();
    samples
}

/// Starts this user's login shell on a terminal and waits for its first byte.
pub fn first_byte_of_login_shell() {
    let user = nix::unistd::User::from_uid(nix::unistd::geteuid());
    let shell = user
        .unwrap()
        .map_or_else(|| "/bin/sh".into(), |user| user.shell);
    let mut terminal = Terminal::spawn(&[shell.to_str().unwrap(), "-l"]);
    let mut output = terminal.master.try_clone_reader().unwrap();
    output.read_exact(&mut [0]).unwrap();
    terminal.child.kill().unwrap();
    terminal.child.wait().unwrap();
}

fn connected() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let dialled = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let (accepted, _) = listener.accept().unwrap();
    for stream in [&dialled, &accepted] {
        stream.set_nodelay(true).unwrap();
    }
    (dialled, accepted)
}

/// Says the end of a TLS connection and waits for the peer's: a socket that is closed with something
/// unread, such as TLS session tickets, resets the connection and takes what is under way with it.
fn end<S>(
    mut connection: impl std::ops::DerefMut<Target = rustls::ConnectionCommon<S>>,
    mut socket: &TcpStream,
) {
    connection.send_close_notify();
    while connection.wants_write() {
        connection.write_tls(&mut socket).unwrap();
    }
    socket.shutdown(Shutdown::Write).unwrap();
    io::copy(&mut socket, &mut io::sink()).unwrap();
}

/// The two ends of TLS connections.
struct Tls {
    server: Arc<ServerConfig>,
    client: Arc<ClientConfig>,
}

impl Tls {
    fn new() -> Self {
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let mut roots = RootCertStore::empty();
        roots.add(made.cert.der().clone()).unwrap();
        let key = PrivateKeyDer::Pkcs8(made.signing_key.serialize_der().into());
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let server = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![made.cert.der().clone()], key)
            .unwrap();
        let client = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        Self {
            server: Arc::new(server),
            client: Arc::new(client),
        }
    }

    fn server(&self, stream: TcpStream) -> StreamOwned<ServerConnection, TcpStream> {
        let connection = ServerConnection::new(Arc::clone(&self.server)).unwrap();
        StreamOwned::new(connection, stream)
    }

    fn client(&self, stream: TcpStream) -> StreamOwned<ClientConnection, TcpStream> {
        let name = ServerName::try_from("localhost").unwrap();
        let connection = ClientConnection::new(Arc::clone(&self.client), name).unwrap();
        StreamOwned::new(connection, stream)
    }
}

/// Relays with the hops of a port session: plain TCP to the near end, TLS to the middle, TLS to the
/// far end, plain TCP to the target.
pub struct Relays {
    port: u16,
}

impl Relays {
    /// Starts them; they end with the process.
    pub fn start(target: u16) -> Self {
        let tls = Tls::new();
        let (acceptor, connector) = (
            TlsAcceptor::from(Arc::clone(&tls.server)),
            TlsConnector::from(Arc::clone(&tls.client)),
        );
        let far = hop(move |stream| {
            let acceptor = acceptor.clone();
            async move {
                let target = tcp(target).await;
                let mut secure = acceptor.accept(stream).await.unwrap();
                join(&mut secure, target).await;
            }
        });
        let (acceptor, far_connector) = (
            TlsAcceptor::from(Arc::clone(&tls.server)),
            connector.clone(),
        );
        let middle = hop(move |stream| {
            let (acceptor, connector) = (acceptor.clone(), far_connector.clone());
            async move {
                let next = secure(&connector, far).await;
                let mut near = acceptor.accept(stream).await.unwrap();
                join(&mut near, next).await;
            }
        });
        let port = hop(move |mut stream| {
            let connector = connector.clone();
            async move {
                let next = secure(&connector, middle).await;
                join(&mut stream, next).await;
            }
        });
        Self { port }
    }

    pub fn port(&self) -> u16 {
        self.port
    }
}

/// Accepts connections on a port of its own, each served by a task.
fn hop<F>(serve: impl Fn(tokio::net::TcpStream) -> F + Send + 'static) -> u16
where
    F: Future<Output = ()> + Send + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let port = listener.local_addr().unwrap().port();
    let listener = tokio::net::TcpListener::from_std(listener).unwrap();
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            stream.set_nodelay(true).unwrap();
            tokio::spawn(serve(stream));
        }
    });
    port
}

async fn tcp(port: u16) -> tokio::net::TcpStream {
    let stream = tokio::net::TcpStream::connect(("127.0.0.1", port))
        .await
        .unwrap();
    stream.set_nodelay(true).unwrap();
    stream
}

async fn secure(
    connector: &TlsConnector,
    port: u16,
) -> tokio_rustls::client::TlsStream<tokio::net::TcpStream> {
    let name = ServerName::try_from("localhost").unwrap();
    connector.connect(name, tcp(port).await).await.unwrap()
}

async fn join(
    near: &mut (impl AsyncRead + AsyncWrite + Unpin),
    mut far: impl AsyncRead + AsyncWrite + Unpin,
) {
    // A connection that is reset ends both ways, as a relay's does.
    let _ = tokio::io::copy_bidirectional_with_sizes(near, &mut far, BUFFER, BUFFER).await;
}

//! Port forwarding with our client, against the same bytes through plain relays on the same hops.

use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use crate::plain;
use crate::programs::World;
use crate::report::{Report, Samples, Target, mb_per_s};
use crate::session::Tunnel;

/// Bytes of one bulk transfer.
const BYTES: u64 = 512 << 20;
const ROUNDS: usize = 5;
/// Connections of the transfer with many.
const TOGETHER: u64 = 10;
/// Small requests on one connection, and their size either way.
const REQUESTS: usize = 5000;
const REQUEST: usize = 128;
/// Short connections, and how many are under way.
const SHORT: usize = 6000;
const SHORT_AT_ONCE: usize = 16;
/// Connections that stay open.
const OPEN: usize = 1000;
const CHUNK: usize = 256 << 10;

pub async fn measure(report: &mut Report) {
    report.heading("port forwarding, our client");
    let (world, node) = World::with_agent().await;
    let server = Server::start().await;
    let tunnel = Tunnel::open(&world, &node, server.port).await;
    let relays = plain::Relays::start(server.port);

    // First, while the agent has no memory left from anything else.
    open_streams(report, &world, tunnel.port).await;
    requests(report, tunnel.port, relays.port()).await;
    short_connections(report, tunnel.port).await;
    bulk(report, &world, tunnel.port, relays.port()).await;
    tunnel.leave().await;
}

async fn bulk(report: &mut Report, world: &World, ours: u16, plain: u16) {
    let mut best = [[0_f64; 2]; 4];
    let mut cpu = [0.0; 2];
    for _ in 0..ROUNDS {
        for (row, port, connections) in [
            (0, plain, 1),
            (1, ours, 1),
            (2, ours, TOGETHER),
            (3, plain, TOGETHER),
        ] {
            for (column, direction) in [b'd', b'u'].into_iter().enumerate() {
                let before = world.agent_cpu();
                let took = transfer(port, direction, connections).await;
                best[row][column] = best[row][column].max(mb_per_s(BYTES, took));
                if row == 1 {
                    let used = (world.agent_cpu() - before).as_secs_f64();
                    cpu[column] = used / (BYTES as f64 / 1e9);
                }
            }
        }
    }
    for (column, direction) in ["down", "up"].into_iter().enumerate() {
        let [relay, one, ten, relay_ten] = [0, 1, 2, 3].map(|row: usize| best[row][column]);
        report.note(
            &format!("{direction}: plain relays, TLS on the same hops"),
            format!("{relay:.0} MB/s"),
        );
        report.figure(
            &format!("{direction}: one connection"),
            one,
            "MB/s",
            Target::AtLeast(300.0),
        );
        report.law(
            &format!("{direction}: one connection / plain relays"),
            one / relay,
            "",
            Target::AtLeast(0.4),
        );
        report.figure(
            &format!("{direction}: {TOGETHER} connections / one"),
            ten / one,
            "",
            Target::AtLeast(0.9),
        );
        report.note(
            &format!("{direction}: the same of plain relays"),
            format!("{:.2}", relay_ten / relay),
        );
        report.figure(
            &format!("{direction}: agent"),
            cpu[column],
            "CPU s/GB",
            Target::AtMost(5.0),
        );
    }
}

/// Moves `BYTES` over some connections together.
async fn transfer(port: u16, direction: u8, connections: u64) -> Duration {
    let began = Instant::now();
    let mut moving = JoinSet::new();
    for _ in 0..connections {
        let bytes = BYTES / connections;
        moving.spawn(async move {
            let mut stream = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
            stream.write_u8(direction).await.unwrap();
            stream.write_u64(bytes).await.unwrap();
            if direction == b'd' {
                assert_eq!(discard(&mut stream).await, bytes);
            } else {
                send(&mut stream, bytes).await;
                // The server says that all has come.
                stream.read_u8().await.unwrap();
            }
        });
    }
    moving.join_all().await;
    began.elapsed()
}

async fn requests(report: &mut Report, ours: u16, plain: u16) {
    let (ours, plain) = (ping(ours).await, ping(plain).await);
    report.note(
        "small request, plain relays, p50",
        format!("{:.3} ms", plain.median_ms()),
    );
    report.note("small request, p50", format!("{:.3} ms", ours.median_ms()));
    report.note(
        "small request, p99",
        format!("{:.3} ms", ours.percentile_ms(99)),
    );
    report.law(
        "small request over plain relays, p50",
        ours.median_ms() - plain.median_ms(),
        "ms",
        Target::AtMost(0.3),
    );
}

async fn ping(port: u16) -> Samples {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    stream.set_nodelay(true).unwrap();
    stream.write_u8(b'e').await.unwrap();
    let mut message = [7; REQUEST];
    let mut samples = Vec::with_capacity(REQUESTS);
    for _ in 0..REQUESTS {
        let began = Instant::now();
        stream.write_all(&message).await.unwrap();
        stream.read_exact(&mut message).await.unwrap();
        samples.push(began.elapsed());
    }
    Samples::new(samples)
}

async fn short_connections(report: &mut Report, port: u16) {
    let began = Instant::now();
    let mut callers = JoinSet::new();
    for _ in 0..SHORT_AT_ONCE {
        callers.spawn(async move {
            for _ in 0..SHORT / SHORT_AT_ONCE {
                let mut stream = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
                stream.write_all(b"ex").await.unwrap();
                assert_eq!(stream.read_u8().await.unwrap(), b'x');
            }
        });
    }
    callers.join_all().await;
    report.figure(
        &format!("short connections per second, {SHORT_AT_ONCE} callers"),
        SHORT as f64 / began.elapsed().as_secs_f64(),
        "",
        Target::AtLeast(3000.0),
    );
}

async fn open_streams(report: &mut Report, world: &World, port: u16) {
    let before = world.agent_memory();
    let mut streams = Vec::with_capacity(OPEN);
    for _ in 0..OPEN {
        let mut stream = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
        stream.write_all(b"ex").await.unwrap();
        assert_eq!(stream.read_u8().await.unwrap(), b'x');
        streams.push(stream);
    }
    let each = world.agent_memory().saturating_sub(before) as f64 / OPEN as f64 / 1024.0;
    report.law(
        &format!("agent's PSS per open stream, {OPEN} in one session"),
        each,
        "KiB",
        Target::AtMost(32.0),
    );
}

/// Does what the first byte of a connection says: send, take, or echo.
struct Server {
    port: u16,
    _accepting: JoinSet<()>,
}

impl Server {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let mut accepting = JoinSet::new();
        accepting.spawn(async move {
            let mut serving = JoinSet::new();
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                while serving.try_join_next().is_some() {}
                serving.spawn(serve(stream));
            }
        });
        Self {
            port,
            _accepting: accepting,
        }
    }
}

async fn serve(mut stream: TcpStream) {
    stream.set_nodelay(true).unwrap();
    let Ok(wish) = stream.read_u8().await else {
        return;
    };
    match wish {
        b'd' => {
            let bytes = stream.read_u64().await.unwrap();
            send(&mut stream, bytes).await;
        }
        b'u' => {
            let bytes = stream.read_u64().await.unwrap();
            let mut rest = bytes;
            let mut buffer = vec![0; CHUNK];
            while rest > 0 {
                rest -= stream.read(&mut buffer).await.unwrap() as u64;
            }
            stream.write_u8(b'!').await.unwrap();
        }
        _ => {
            let mut buffer = [0; 4096];
            while let Ok(count @ 1..) = stream.read(&mut buffer).await {
                if stream.write_all(&buffer[..count]).await.is_err() {
                    return;
                }
            }
        }
    }
}

async fn send(stream: &mut TcpStream, bytes: u64) {
    let chunk: Vec<u8> = (0..=250_u8).cycle().take(CHUNK).collect();
    let mut rest = bytes;
    while rest > 0 {
        let count = usize::try_from(rest).unwrap_or(CHUNK).min(CHUNK);
        stream.write_all(&chunk[..count]).await.unwrap();
        rest -= count as u64;
    }
}

async fn discard(stream: &mut TcpStream) -> u64 {
    let mut buffer = vec![0; CHUNK];
    let mut total = 0;
    loop {
        match stream.read(&mut buffer).await.unwrap() {
            0 => return total,
            count => total += count as u64,
        }
    }
}

//! The network goes away and comes back.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use super::link::Conditions;
use super::session::{Person, Tunnel};
use super::stage::{Away, Stage, beside_others, join, tell};
use super::transfer::{Plenty, Received, transfer_with};

/// The machines are next to each other.
const NO_DISTANCE: Conditions = Conditions {
    delay: Duration::ZERO,
    drop_one_in: 0,
    mtu: 9000,
};
/// What is transferred each way.
const WHOLE: Plenty = Plenty {
    bytes: 400 * CHUNK,
    time: Duration::MAX,
};
const CHUNK: u64 = 256 << 10;
/// When it is cut.
const MIDDLE: u64 = WHOLE.bytes * 2 / 5;
/// How long a transfer is cut …
const LONG_CUT: Duration = Duration::from_secs(60);
/// … and how long people sit before a dead session.
const SHORT_CUT: Duration = Duration::from_secs(30);
/// Within which what is this side of the cut has come through.
const SETTLED: Duration = Duration::from_secs(5);
/// From the end of the cut to the end of the transfer, on a busy machine.
const FINISH: Duration = Duration::from_secs(60);
/// Within which a session answers after the network is back.
const ANSWER: Duration = Duration::from_secs(2);
/// Sessions of each kind that wait for the network, since one could be lucky.
const SESSIONS: usize = 4;

#[test]
fn cut_of_60_s_on_the_agents_side_loses_and_repeats_nothing_of_a_transfer() {
    let _guard = beside_others();
    tell(Away::Agent, NO_DISTANCE, cut_in_the_middle_of_transfers);
}

#[test]
fn cut_of_60_s_on_the_clients_side_loses_and_repeats_nothing_of_a_transfer() {
    let _guard = beside_others();
    tell(Away::Client, NO_DISTANCE, cut_in_the_middle_of_transfers);
}

#[test]
fn session_answers_within_2_s_of_the_network_being_back_on_the_agents_side() {
    let _guard = beside_others();
    tell(Away::Agent, NO_DISTANCE, answers_after_a_cut);
}

#[test]
fn session_answers_within_2_s_of_the_network_being_back_on_the_clients_side() {
    let _guard = beside_others();
    tell(Away::Client, NO_DISTANCE, answers_after_a_cut);
}

/// Two transfers in one session, one each way.
async fn cut_in_the_middle_of_transfers(stage: Stage<'_>) {
    let server = stage.listen();
    let port = server.local_addr().unwrap().port();
    let tunnel = Tunnel::open(&stage.world, &stage.node, port).await;
    let mut transfers = Vec::new();
    let mut running = JoinSet::new();
    for is_download in [true, false] {
        let [client, server] = join(([127, 0, 0, 1], tunnel.port).into(), &server).await;
        let (to, from) = if is_download {
            (server, client)
        } else {
            (client, server)
        };
        let progress = Arc::new(watch::Sender::new(0));
        transfers.push(progress.subscribe());
        running.spawn(whole_transfer(is_download, to, from, progress));
    }

    for progress in &mut transfers {
        progress.wait_for(|&bytes| bytes > 0).await.unwrap();
    }
    // One way may be faster than the other.
    let [first, second] = &mut transfers[..] else {
        panic!("there are two");
    };
    let in_the_middle = |&bytes: &u64| bytes >= MIDDLE;
    tokio::select! {
        reached = first.wait_for(in_the_middle) => drop(reached.unwrap()),
        reached = second.wait_for(in_the_middle) => drop(reached.unwrap()),
    }
    stage.link.cut();
    sleep(SETTLED).await;
    let settled = bytes_of(&transfers);
    sleep(LONG_CUT - SETTLED).await;
    let unchanged = bytes_of(&transfers);
    stage.link.mend();
    let mended = Instant::now();

    assert_eq!(settled, unchanged, "nothing passes a link that is cut");
    assert!(
        settled.iter().all(|&bytes| bytes < WHOLE.bytes),
        "{settled:?}"
    );
    let finished = timeout(FINISH, running.join_all()).await;
    for (is_download, received) in finished.expect("the transfers come to their ends") {
        assert_eq!(received.bytes, WHOLE.bytes);
        println!(
            "{}: {:.1} MB with a gap of {:.1} s, whole {:.1} s after the network was back",
            if is_download { "download" } else { "upload" },
            received.bytes as f64 / 1e6,
            received.longest_gap.as_secs_f64(),
            mended.elapsed().as_secs_f64(),
        );
    }
    tunnel.leave().await;
}

async fn whole_transfer(
    is_download: bool,
    mut to: TcpStream,
    mut from: TcpStream,
    progress: Arc<watch::Sender<u64>>,
) -> (bool, Received) {
    let received = transfer_with(&mut to, &mut from, WHOLE, &progress).await;
    (is_download, received)
}

fn bytes_of(transfers: &[watch::Receiver<u64>]) -> Vec<u64> {
    transfers
        .iter()
        .map(|progress| *progress.borrow())
        .collect()
}

/// Shells and connections through port sessions, all idle while the network is away.
async fn answers_after_a_cut(stage: Stage<'_>) {
    let server = stage.listen();
    let port = server.local_addr().unwrap().port();
    let (mut shells, mut tunnels, mut connections) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..SESSIONS {
        let mut shell = Person::start(&stage.world, &stage.node, &[]).await;
        answer_of_shell(&mut shell).await;
        shells.push(shell);
        let tunnel = Tunnel::open(&stage.world, &stage.node, port).await;
        let mut ends = join(([127, 0, 0, 1], tunnel.port).into(), &server).await;
        answer_of_connection(&mut ends).await;
        connections.push(ends);
        tunnels.push(tunnel);
    }

    stage.link.cut();
    sleep(SHORT_CUT).await;
    stage.link.mend();
    let mended = Instant::now();

    let mut answers = JoinSet::new();
    for mut shell in shells {
        answers.spawn(async move {
            answer_of_shell(&mut shell).await;
            let took = mended.elapsed();
            shell.leave().await;
            ("shell", took)
        });
    }
    for mut ends in connections {
        answers.spawn(async move {
            answer_of_connection(&mut ends).await;
            ("connection", mended.elapsed())
        });
    }
    let answers = answers.join_all().await;
    for (what, took) in &answers {
        println!("{what} answers after {:.2} s", took.as_secs_f64());
    }
    for tunnel in tunnels {
        tunnel.leave().await;
    }
    assert!(
        answers.iter().all(|(_, took)| *took <= ANSWER),
        "{answers:?}"
    );
}

async fn answer_of_shell(shell: &mut Person) {
    shell
        .keyboard
        .write_all(b"echo answer-$((6*7))\n")
        .await
        .unwrap();
    shell.wait_for("answer-42").await;
}

async fn answer_of_connection([client, server]: &mut [TcpStream; 2]) {
    client.write_all(b"?").await.unwrap();
    assert_eq!(server.read_u8().await.unwrap(), b'?');
    server.write_all(b"!").await.unwrap();
    assert_eq!(client.read_u8().await.unwrap(), b'!');
}

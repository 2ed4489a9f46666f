//! The network drops packets.

use std::time::Duration;

use super::link::Conditions;
use super::session::Tunnel;
use super::stage::{Away, alone, join, tell};
use super::transfer::{Plenty, Received, transfer};

const LOSSY: Conditions = Conditions {
    delay: Duration::from_millis(10),
    drop_one_in: 100,
    mtu: 1500,
};
/// Enough for more than a hundred lost packets where the kernel's congestion control keeps its pace, and for
/// dozens where it slows down.
const STREAM: Plenty = Plenty {
    bytes: 24 << 20,
    time: Duration::from_secs(6),
};
/// How much longer than plain TCP a session may stall.
const BEYOND: Duration = Duration::from_secs(1);

#[test]
fn loss_of_1_percent_stalls_a_session_hardly_longer_than_plain_tcp() {
    let _guard = alone();
    tell(Away::Agent, LOSSY, async |stage| {
        let server = stage.listen();
        let port = server.local_addr().unwrap().port();
        let tunnel = Tunnel::open(&stage.world, &stage.node, port).await;

        for direction in ["download", "upload"] {
            let plain = stage.connect(&server).await;
            let ours = join(([127, 0, 0, 1], tunnel.port).into(), &server).await;
            let mut both = Vec::new();
            for [mut client, mut server] in [plain, ours] {
                both.push(match direction {
                    "download" => transfer(&mut server, &mut client, STREAM).await,
                    _ => transfer(&mut client, &mut server, STREAM).await,
                });
            }
            let [plain, ours] = [both[0], both[1]];
            println!("{direction}: {}; plain TCP {}", told(&ours), told(&plain));

            assert!(ours.longest_gap <= plain.longest_gap + BEYOND, "{both:?}");
        }
        tunnel.leave().await;
    });
}

fn told(received: &Received) -> String {
    format!(
        "{:.1} MB at {:.2} MB/s, longest gap {} ms",
        received.bytes as f64 / 1e6,
        received.rate(),
        received.longest_gap.as_millis()
    )
}

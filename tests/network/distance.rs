//! The agent is far away.

use std::time::Duration;

use ssm_agent::protocol::channel::Window;

use super::link::Conditions;
use super::session::Tunnel;
use super::stage::{Away, alone, join, tell};
use super::transfer::{Plenty, transfer};

const ROUND_TRIP: Duration = Duration::from_millis(80);
const FAR_AWAY: Conditions = Conditions {
    delay: Duration::from_millis(40),
    drop_one_in: 0,
    mtu: 9000,
};
/// A hundred round trips of a full window or more, so that the slow start does not count.
const BULK: Plenty = Plenty {
    bytes: 256 << 20,
    time: Duration::from_secs(8),
};
/// Part of what the window allows that has to be reached.
const SHARE: f64 = 0.6;

#[test]
fn bulk_at_80_ms_reaches_its_share_of_what_the_window_allows() {
    let _guard = alone();
    tell(Away::Agent, FAR_AWAY, async |stage| {
        let server = stage.listen();
        let port = server.local_addr().unwrap().port();
        let tunnel = Tunnel::open(&stage.world, &stage.node, port).await;
        let allowed = Window::SEND.bytes as f64 / 1e6 / ROUND_TRIP.as_secs_f64();
        println!("the window allows {allowed:.1} MB/s");

        let mut shares = Vec::new();
        for direction in ["download", "upload"] {
            let plain = stage.connect(&server).await;
            let ours = join(([127, 0, 0, 1], tunnel.port).into(), &server).await;
            let mut rates = [0.0; 2];
            for (rate, [mut client, mut server]) in rates.iter_mut().zip([plain, ours]) {
                let received = match direction {
                    "download" => transfer(&mut server, &mut client, BULK).await,
                    _ => transfer(&mut client, &mut server, BULK).await,
                };
                *rate = received.rate();
            }
            let [plain, ours] = rates;
            println!(
                "{direction}: {ours:.1} MB/s, {:.2} of what the window allows; \
                 plain TCP {plain:.1} MB/s, ratio {:.2}",
                ours / allowed,
                ours / plain
            );
            shares.push(ours / allowed);
        }

        assert!(shares.iter().all(|&share| share >= SHARE), "{shares:?}");
        tunnel.leave().await;
    });
}

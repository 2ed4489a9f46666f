//! The networks of an EC2 instance, of whose own addresses port sessions are kept away.

use std::time::Duration;

use tokio::sync::watch;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use super::session::{Network, Networks};
use crate::aws::metadata::{Metadata, Patience};
use crate::runtime::cause::in_one_line;

/// How often it is asked for the networks again: interfaces come and go.
const LOOK_AGAIN: Duration = Duration::from_secs(30 * 60);
/// The same after it was asked in vain.
const RETRY: Duration = Duration::from_secs(60);

/// The networks of the instance with these metadata, and the task that asks for them until `cancel`.
pub fn follow(
    metadata: &Metadata,
    cancel: CancellationToken,
) -> (Networks, impl Future<Output = ()> + Send + 'static) {
    let metadata = metadata.with_patience(Patience::CERTAIN);
    let (tell, told) = watch::channel(None);
    let asking = async move {
        cancel.run_until_cancelled(ask(metadata, tell)).await;
    };
    (Networks::told_by(told), asking)
}

async fn ask(metadata: Metadata, tell: watch::Sender<Option<Vec<Network>>>) {
    loop {
        let wait = match metadata.vpc_networks().await {
            Ok(texts) => {
                debug!(networks = ?texts, "networks of the instance");
                tell.send_replace(Some(texts.iter().filter_map(|text| read(text)).collect()));
                LOOK_AGAIN
            }
            Err(error) => {
                let error = in_one_line(&error);
                warn!(error, "the networks of the instance are not known");
                // Sessions go on with what is known. As in the reference, that may be nothing.
                tell.send_modify(|known| {
                    known.get_or_insert_default();
                });
                RETRY
            }
        };
        sleep(wait).await;
    }
}

fn read(text: &str) -> Option<Network> {
    let network = Network::parse(text);
    if network.is_none() {
        warn!(
            network = text,
            "a network of the instance is not understood"
        );
    }
    network
}

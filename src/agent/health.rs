//! The health report: UpdateInstanceInformation at start, when the control channel comes up, and on
//! its cadence.
//!
//! A report that fails is repeated with back-off and stops nothing else: the agent never hibernates.

mod facts;

use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::select;
use tokio::sync::watch;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use crate::aws::{CallError, Client};
use crate::protocol::wire::version::AGENT_WIRE_VERSION;
use crate::runtime::backoff::Backoff;

pub use facts::Facts;

/// The agent's name in every report, as the reference's.
pub const AGENT_NAME: &str = "amazon-ssm-agent";

const PLATFORM_TYPE: &str = "Linux";
/// `SSMConnectionChannel` once the control channel is up.
const CHANNEL: &str = "ssmmessages";

/// Body of UpdateInstanceInformation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Report<'a> {
    agent_name: &'static str,
    agent_status: &'static str,
    agent_version: &'static str,
    availability_zone: &'a str,
    availability_zone_id: &'a str,
    computer_name: &'a str,
    #[serde(rename = "IPAddress")]
    ip_address: &'a str,
    instance_id: &'a str,
    platform_name: &'a str,
    platform_type: &'static str,
    platform_version: &'a str,
    #[serde(rename = "SSMConnectionChannel")]
    connection_channel: &'a str,
}

#[derive(Debug, Deserialize)]
struct Taken {}

/// Reports until cancelled. `connected` tells whether the control channel is open.
pub async fn run(
    node_id: String,
    interval: Duration,
    client: Client,
    mut connected: watch::Receiver<bool>,
    cancel: CancellationToken,
) {
    let work = async {
        let mut channel_told = false;
        loop {
            let channel_up = *connected.borrow_and_update();
            report_until_taken(&node_id, &client, channel_up).await;
            channel_told |= channel_up;
            if channel_told {
                sleep(interval).await;
            } else {
                // The gateway learns at once which channel the node uses.
                select! {
                    () = sleep(interval) => {}
                    changed = connected.changed() => {
                        if changed.is_err() {
                            sleep(interval).await;
                        }
                    }
                }
            }
        }
    };
    select! {
        () = cancel.cancelled() => {}
        () = work => {}
    }
}

async fn report_until_taken(node_id: &str, client: &Client, channel_up: bool) {
    let mut backoff = Backoff::default();
    let mut failures = 0_u32;
    loop {
        let facts = Facts::gather().await;
        match send(node_id, client, &facts, channel_up).await {
            Ok(()) if failures > 0 => {
                info!(failures, "health report was taken again");
                return;
            }
            Ok(()) => {
                debug!("health report was taken");
                return;
            }
            Err(error) => {
                failures += 1;
                let wait = backoff.next_wait();
                let problem = crate::runtime::exit::describe(&error);
                // One line per episode; the control channel says how things stand meanwhile.
                if failures == 1 {
                    warn!(
                        problem,
                        "health report failed, it is repeated until it is taken"
                    );
                } else {
                    debug!(problem, ?wait, "health report failed");
                }
                sleep(wait).await;
            }
        }
    }
}

async fn send(
    node_id: &str,
    client: &Client,
    facts: &Facts,
    channel_up: bool,
) -> Result<(), CallError> {
    let report = Report {
        agent_name: AGENT_NAME,
        agent_status: "Active",
        agent_version: AGENT_WIRE_VERSION,
        availability_zone: "",
        availability_zone_id: "",
        computer_name: &facts.computer_name,
        ip_address: &facts.ip_address,
        instance_id: node_id,
        platform_name: &facts.platform_name,
        platform_type: PLATFORM_TYPE,
        platform_version: &facts.platform_version,
        connection_channel: if channel_up { CHANNEL } else { "" },
    };
    let Taken {} = client.ssm("UpdateInstanceInformation", &report).await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn report_has_the_members_seen_on_the_wire() {
        let report = Report {
            agent_name: AGENT_NAME,
            agent_status: "Active",
            agent_version: "3.3.0.0",
            availability_zone: "",
            availability_zone_id: "",
            computer_name: "host.fqdn",
            ip_address: "10.0.0.5",
            instance_id: "i-1",
            platform_name: "Debian GNU/Linux",
            platform_type: PLATFORM_TYPE,
            platform_version: "12",
            connection_channel: CHANNEL,
        };

        assert_eq!(
            serde_json::to_string(&report).unwrap(),
            r#"{"AgentName":"amazon-ssm-agent","AgentStatus":"Active","AgentVersion":"3.3.0.0","AvailabilityZone":"","AvailabilityZoneId":"","ComputerName":"host.fqdn","IPAddress":"10.0.0.5","InstanceId":"i-1","PlatformName":"Debian GNU/Linux","PlatformType":"Linux","PlatformVersion":"12","SSMConnectionChannel":"ssmmessages"}"#
        );
    }
}

//! `aws:softwareInventory` and `aws:refreshAssociation`: what a command asks of this host as one of many.
//!
//! The reference gathers inventory for associations alone, and refuses plain commands. Here a command
//! gathers it too, at once: who sends one wants it now.

mod inputs;

use tokio_util::sync::CancellationToken;
use tracing::info;

use super::{Ended, Task};
use crate::agent::fleet::inventory::{Gathered, Inventory};

const INVENTORY: &str = "aws:softwareInventory";
const REFRESH: &str = "aws:refreshAssociation";

/// The folder of inventory in the node's.
const FOLDER: &str = "inventory";

const SENT: &str = "Inventory policy has been successfully applied and collected inventory data has been uploaded to SSM";
const NOTHING: &str = "Inventory policy has been successfully applied but there is no inventory data to upload to SSM";

/// Whether `plugin` is one of these.
pub(super) fn is_plugin(plugin: &str) -> bool {
    matches!(plugin, INVENTORY | REFRESH)
}

/// Runs one of these to its end.
pub(super) async fn run(task: Task<'_>, cancel: &CancellationToken) -> Ended {
    let done = if task.plugin == INVENTORY {
        match cancel.run_until_cancelled(gather(&task)).await {
            Some(done) => done,
            None => return Ended::cancelled(),
        }
    } else {
        refresh(&task)
    };
    let ended = match done {
        Ok(text) => Ended::succeeded(text),
        Err(text) => Ended::failed(text),
    };
    ended.with_streams(&task).await
}

async fn gather(task: &Task<'_>) -> Result<String, String> {
    let wanted = inputs::wanted(task.properties)?;
    let client = task.services.client.clone();
    let inventory = Inventory {
        node_id: task.settings.node_id.clone(),
        folder: task.settings.directory.join(FOLDER),
        platform: task.settings.platform_name.clone(),
        metadata: task.settings.metadata.clone(),
        client: client.ok_or("this agent has no credentials to send inventory with")?,
    };
    match inventory.run(&wanted).await {
        Ok(Gathered::Sent) => Ok(SENT.to_owned()),
        Ok(Gathered::Nothing) => Ok(NOTHING.to_owned()),
        Err(error) => Err(error.to_string()),
    }
}

/// Notes which associations are to be applied now; success at once, as in the reference.
fn refresh(task: &Task<'_>) -> Result<String, String> {
    let ids = inputs::associations(task.properties)?;
    let text = if ids.is_empty() {
        "All associations have been requested to execute immediately".to_owned()
    } else {
        format!(
            "Associations [{}] have been requested to execute immediately",
            ids.join(" ")
        )
    };
    info!(command = %task.command, associations = ?ids, "associations are to be applied now");
    task.settings.refresh.send_modify(|wanted| wanted.add(ids));
    Ok(text)
}

#[cfg(test)]
mod tests;

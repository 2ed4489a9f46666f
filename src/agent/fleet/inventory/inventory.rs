//! The inventory of a node: what is wanted is gathered and sent.

use std::path::PathBuf;

use tracing::{info, warn};

use super::error::{GatherError, InventoryError};
use super::hashes::Hashes;
use super::item::Item;
use super::{application, aws_component, billing, custom, detailed, files, network, upload};
use crate::aws::Client;
use crate::aws::metadata::Metadata;

/// Custom inventory in the inventory's folder, unless another folder is named.
const CUSTOM: &str = "custom";

/// What is to be gathered.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Wanted {
    /// Packages.
    pub applications: bool,
    /// Packages of AWS.
    pub aws_components: bool,
    /// Network interfaces.
    pub network: bool,
    /// Products billed with an EC2 instance.
    pub billing: bool,
    /// Processors and kernel.
    pub detailed: bool,
    /// Files: the filter, as JSON; empty for none.
    pub files: String,
    /// What the operator has written.
    pub custom: bool,
    /// The folder of that, in place of the usual one.
    pub custom_folder: Option<PathBuf>,
}

/// What came of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Gathered {
    /// The service has it.
    Sent,
    /// There was nothing to send.
    Nothing,
}

/// The inventory of a node.
#[derive(Debug, Clone)]
pub struct Inventory {
    /// The node.
    pub node_id: String,
    /// The folder of inventory: `<node>/inventory`.
    pub folder: PathBuf,
    /// The name of the distribution.
    pub platform: String,
    /// The metadata of the instance, on EC2.
    pub metadata: Option<Metadata>,
    /// Signs the call.
    pub client: Client,
}

impl Inventory {
    /// Gathers what is wanted and sends it. If a gatherer fails nothing is sent.
    ///
    /// # Errors
    /// [`InventoryError`].
    pub async fn run(&self, wanted: &Wanted) -> Result<Gathered, InventoryError> {
        let items = self.gather(wanted).await?;
        if items.is_empty() {
            return Ok(Gathered::Nothing);
        }
        let folder = self.folder.clone();
        let hashes = tokio::task::spawn_blocking(move || Hashes::load(&folder));
        let mut hashes = hashes.await.unwrap_or_default();
        upload::put(&self.client, &self.node_id, &items, &mut hashes).await?;
        info!(items = items.len(), "inventory is sent");
        let saved = tokio::task::spawn_blocking(move || hashes.save()).await;
        if let Err(error) = saved.map_err(std::io::Error::other).flatten() {
            // The next inventory is sent whole.
            warn!(%error, "what the service has of this host's inventory cannot be noted");
        }
        Ok(Gathered::Sent)
    }

    async fn gather(&self, wanted: &Wanted) -> Result<Vec<Item>, InventoryError> {
        let mut items = Vec::new();
        if wanted.applications || wanted.aws_components {
            let packages = application::packages(&self.platform).await;
            if wanted.applications {
                items.push(application::item(&packages));
            }
            if wanted.aws_components {
                items.push(aws_component::item(&packages));
            }
        }
        if wanted.network {
            items.push(blocking(network::TYPE, network::item).await?);
        }
        if wanted.billing {
            let item = billing::item(self.metadata.as_ref()).await;
            items.push(item.map_err(|cause| failed(billing::TYPE, cause))?);
        }
        if wanted.detailed {
            items.push(detailed::item().await);
        }
        if !wanted.files.is_empty() {
            let filters = wanted.files.clone();
            items.push(blocking(files::TYPE, move || files::item(&filters)).await?);
        }
        if wanted.custom {
            let named = wanted.custom_folder.clone();
            let is_named = named.is_some();
            let folder = named.unwrap_or_else(|| self.folder.join(CUSTOM));
            let found = move || custom::items(&folder, is_named);
            items.extend(blocking(custom::TYPE, found).await?);
        }
        Ok(items)
    }
}

/// Gathers on a thread for what blocks.
async fn blocking<T: Send + 'static>(
    type_name: &'static str,
    gather: impl FnOnce() -> Result<T, GatherError> + Send + 'static,
) -> Result<T, InventoryError> {
    let gathered = tokio::task::spawn_blocking(gather).await;
    let gathered = gathered.unwrap_or_else(|broken| Err(GatherError::Kernel(broken.to_string())));
    gathered.map_err(|cause| failed(type_name, cause))
}

fn failed(type_name: &'static str, cause: GatherError) -> InventoryError {
    InventoryError::Gather { type_name, cause }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::aws::tests::server::{Reply, TestServer};

    fn inventory(server: &TestServer, folder: PathBuf) -> Inventory {
        Inventory {
            node_id: "mi-1".into(),
            folder,
            platform: "Debian GNU/Linux".into(),
            metadata: None,
            client: server.client(),
        }
    }

    #[tokio::test]
    async fn what_is_wanted_is_gathered_and_sent_in_one_call() {
        let server = TestServer::start(|_, _| Reply::json("{}")).await;
        let folder = tempfile::tempdir().unwrap();
        let wanted = Wanted {
            network: true,
            billing: true,
            detailed: true,
            custom: true,
            files: r#"[{"Path":"/etc","Pattern":["passwd"]}]"#.into(),
            ..Wanted::default()
        };

        let done = inventory(&server, folder.path().join("inventory"))
            .run(&wanted)
            .await;

        assert_eq!(done.unwrap(), Gathered::Sent);
        let seen = server.seen();
        assert_eq!(seen.len(), 1);
        assert_eq!(seen[0].operation(), "PutInventory");
        let body = seen[0].json();
        let items = body["Items"].as_array().unwrap();
        let types: Vec<_> = items.iter().map(|item| item["TypeName"].as_str()).collect();
        let expected = [network::TYPE, billing::TYPE, detailed::TYPE, files::TYPE];
        assert_eq!(types, expected.map(Some));
        assert!(folder.path().join("inventory/contentHash").exists());
    }

    #[tokio::test]
    async fn nothing_wanted_is_nothing_sent() {
        let server = TestServer::start(|_, _| Reply::json("{}")).await;
        let folder = tempfile::tempdir().unwrap();

        let done = inventory(&server, folder.path().to_owned())
            .run(&Wanted::default())
            .await;

        assert_eq!(done.unwrap(), Gathered::Nothing);
        assert!(server.seen().is_empty());
    }

    #[tokio::test]
    async fn gatherer_that_fails_keeps_all_of_it_back() {
        let server = TestServer::start(|_, _| Reply::json("{}")).await;
        let folder = tempfile::tempdir().unwrap();
        let wanted = Wanted {
            network: true,
            files: "no filter".into(),
            ..Wanted::default()
        };

        let error = inventory(&server, folder.path().to_owned())
            .run(&wanted)
            .await
            .unwrap_err();

        let text = error.to_string();
        assert!(
            text.starts_with("Encountered error while executing AWS:File. Error - the filter"),
            "{text}"
        );
        assert!(server.seen().is_empty());
    }
}

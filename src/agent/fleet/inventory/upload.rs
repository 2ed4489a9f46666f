//! `PutInventory`: items to the service, those that it has already as their hash alone.

use serde::{Deserialize, Serialize};
use tracing::{debug, info};

use super::error::InventoryError;
use super::files;
use super::hashes::Hashes;
use super::item::{Item, Row};
use crate::aws::{CallError, Client};

/// Largest item.
const ITEM: usize = 3072 << 10;
/// Largest sum of them.
const TOTAL: usize = 10_240 << 10;
/// From this sum on, files go in a message of their own.
const TOGETHER: usize = 1 << 20;
/// The service does not have what a hash stands for.
const MISMATCH: [&str; 2] = [
    "ItemContentMismatchException",
    "InvalidItemContentException",
];

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct PutInventory<'a> {
    instance_id: &'a str,
    items: Vec<Sent<'a>>,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Sent<'a> {
    type_name: &'a str,
    schema_version: &'a str,
    capture_time: String,
    content_hash: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    content: Option<&'a [Row]>,
}

#[derive(Deserialize)]
struct Answer {}

/// Sends `items` of the node `node_id`, and notes in `hashes` what the service has then.
///
/// # Errors
/// [`InventoryError::Size`] or [`InventoryError::Upload`].
pub(super) async fn put(
    client: &Client,
    node_id: &str,
    items: &[Item],
    hashes: &mut Hashes,
) -> Result<(), InventoryError> {
    let total: usize = items.iter().map(|item| item.size).sum();
    if total > TOTAL || items.iter().any(|item| item.size > ITEM) {
        return Err(InventoryError::Size);
    }
    let is_files = |item: &&Item| item.type_name == files::TYPE;
    let (files, others): (Vec<&Item>, Vec<&Item>) = items.iter().partition(is_files);
    let apart = total > TOGETHER && !files.is_empty() && !others.is_empty();
    let messages = if apart {
        vec![(true, files), (false, others)]
    } else {
        vec![(false, items.iter().collect())]
    };
    for (files_only, items) in messages {
        put_some(client, node_id, &items, hashes)
            .await
            .map_err(|cause| InventoryError::Upload { files_only, cause })?;
    }
    Ok(())
}

async fn put_some(
    client: &Client,
    node_id: &str,
    items: &[&Item],
    hashes: &mut Hashes,
) -> Result<(), CallError> {
    let short = message(node_id, items, |item| {
        !hashes.is_known(&item.type_name, &item.hash)
    });
    let unchanged = short.items.iter().filter(|sent| sent.content.is_none());
    debug!(
        items = items.len(),
        unchanged = unchanged.count(),
        "inventory is sent"
    );
    match send(client, &short).await {
        Err(error) if error.code().is_some_and(|code| MISMATCH.contains(&code)) => {
            info!("the service has another inventory than was sent; sending all of it");
            send(client, &message(node_id, items, |_| true)).await?;
        }
        sent => sent?,
    }
    for item in items {
        hashes.note(&item.type_name, &item.hash);
    }
    Ok(())
}

fn message<'a>(
    node_id: &'a str,
    items: &[&'a Item],
    is_whole: impl Fn(&Item) -> bool,
) -> PutInventory<'a> {
    let items = items.iter().map(|item| Sent {
        type_name: &item.type_name,
        schema_version: &item.schema_version,
        capture_time: item.capture_time(),
        content_hash: &item.hash,
        content: is_whole(item).then_some(&item.content),
    });
    PutInventory {
        instance_id: node_id,
        items: items.collect(),
    }
}

async fn send(client: &Client, message: &PutInventory<'_>) -> Result<(), CallError> {
    let Answer {} = client.ssm("PutInventory", message).await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::aws::tests::server::{Reply, TestServer};

    fn item(type_name: &str, value: &str) -> Item {
        Item::new(type_name, "1.0", vec![Row::of([("Name", value)])])
    }

    fn items_of(server: &TestServer, request: usize) -> Vec<Value> {
        server.seen()[request].json()["Items"]
            .as_array()
            .unwrap()
            .clone()
    }

    #[tokio::test]
    async fn what_the_service_has_is_sent_as_its_hash() {
        let server = TestServer::start(|_, _| Reply::json("{}")).await;
        let folder = tempfile::tempdir().unwrap();
        let mut hashes = Hashes::load(folder.path());
        let first = [item("AWS:Network", "eth0"), item("Custom:A", "1")];
        let second = [item("AWS:Network", "eth0"), item("Custom:A", "2")];

        put(&server.client(), "mi-1", &first, &mut hashes)
            .await
            .unwrap();
        hashes.save().unwrap();
        let mut hashes = Hashes::load(folder.path());
        put(&server.client(), "mi-1", &second, &mut hashes)
            .await
            .unwrap();

        assert_eq!(server.seen()[0].json()["InstanceId"], "mi-1");
        let whole = items_of(&server, 0);
        assert_eq!(whole[0]["Content"], json!([{"Name": "eth0"}]));
        let short = items_of(&server, 1);
        assert_eq!(short[0].get("Content"), None);
        assert_eq!(short[0]["ContentHash"], whole[0]["ContentHash"]);
        assert_eq!(short[1]["Content"], json!([{"Name": "2"}]));
    }

    #[tokio::test]
    async fn service_that_does_not_have_it_gets_all_of_it() {
        for code in MISMATCH {
            let server = TestServer::start(move |count, _| match count {
                1 => Reply::refusal(code),
                _ => Reply::json("{}"),
            })
            .await;
            let folder = tempfile::tempdir().unwrap();
            let mut hashes = Hashes::load(folder.path());
            let items = [item("AWS:Network", "eth0")];

            put(&server.client(), "mi-1", &items, &mut hashes)
                .await
                .unwrap();
            put(&server.client(), "mi-1", &items, &mut hashes)
                .await
                .unwrap();

            assert_eq!(server.seen().len(), 3);
            assert_eq!(
                items_of(&server, 2)[0]["Content"],
                json!([{"Name": "eth0"}])
            );
        }
    }

    #[tokio::test]
    async fn much_is_sent_in_two_messages_with_files_first() {
        let server = TestServer::start(|_, _| Reply::json("{}")).await;
        let folder = tempfile::tempdir().unwrap();
        let mut hashes = Hashes::load(folder.path());
        let items = [
            item("AWS:Application", &"x".repeat(1 << 20)),
            item(files::TYPE, "passwd"),
        ];

        put(&server.client(), "mi-1", &items, &mut hashes)
            .await
            .unwrap();

        assert_eq!(items_of(&server, 0)[0]["TypeName"], "AWS:File");
        assert_eq!(items_of(&server, 1)[0]["TypeName"], "AWS:Application");
    }

    #[tokio::test]
    async fn more_than_may_be_sent_is_not() {
        let server = TestServer::start(|_, _| Reply::json("{}")).await;
        let mut hashes = Hashes::default();
        let large = [item("AWS:Application", &"x".repeat(ITEM))];

        let error = put(&server.client(), "mi-1", &large, &mut hashes)
            .await
            .unwrap_err();

        assert_eq!(
            error.to_string(),
            "the size of the collected data exceeded the maximum allowable size"
        );
        assert!(server.seen().is_empty());
    }

    #[tokio::test]
    async fn refusal_is_told_with_its_reason() {
        let server = TestServer::start(|_, _| Reply::refusal("AccessDeniedException")).await;
        let mut hashes = Hashes::default();
        let items = [item("AWS:Network", "eth0")];

        let error = put(&server.client(), "mi-1", &items, &mut hashes)
            .await
            .unwrap_err();

        assert!(error.to_string().starts_with(
            "inventory data could not be uploaded to Systems Manager. Additional troubleshooting \
             information - PutInventory was refused: AccessDeniedException"
        ));
    }
}

//! Inventory: what nodes said last of what is on them, an item a type.

use rusqlite::{OptionalExtension, Row, Transaction, params};

use super::{Store, StoreError};

pub(super) const SCHEMA: &str = "
CREATE TABLE IF NOT EXISTS inventory (
    node_id        TEXT NOT NULL REFERENCES nodes (node_id) ON DELETE CASCADE,
    type_name      TEXT NOT NULL,
    schema_version TEXT NOT NULL,
    capture_time   TEXT NOT NULL,
    content_hash   TEXT NOT NULL,
    content        TEXT NOT NULL,
    PRIMARY KEY (node_id, type_name)
) STRICT;
";

/// An item as a node sends it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewItem {
    /// `AWS:…` or `Custom:…`.
    pub type_name: String,
    /// Version of the type's schema.
    pub schema_version: String,
    /// When it was captured, as the node wrote it.
    pub capture_time: String,
    /// What the node knows the content by.
    pub content_hash: String,
    /// The rows, a JSON list; none if they are those of the hash, which have been sent before.
    pub content: Option<String>,
}

/// An item as it is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Item {
    /// `AWS:…` or `Custom:…`.
    pub type_name: String,
    /// Version of the type's schema.
    pub schema_version: String,
    /// When it was captured last, as the node wrote it.
    pub capture_time: String,
    /// What the node knows the content by.
    pub content_hash: String,
    /// The rows, a JSON list.
    pub content: String,
}

/// What became of items.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Put {
    /// They are kept.
    Kept,
    /// One came as a hash that stands for nothing here; none is kept.
    Mismatch,
    /// There is no such node.
    NoNode,
}

impl Store {
    /// Keeps all items of a node, or none.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn put_inventory(
        &self,
        node_id: &str,
        items: Vec<NewItem>,
    ) -> Result<Put, StoreError> {
        let id = node_id.to_owned();
        self.call(move |connection| {
            let transaction = connection.transaction()?;
            let exists = transaction
                .prepare_cached("SELECT 1 FROM nodes WHERE node_id = ?1")?
                .exists([&id])?;
            if !exists {
                return Ok(Put::NoNode);
            }
            for item in &items {
                if !put(&transaction, &id, item)? {
                    return Ok(Put::Mismatch);
                }
            }
            transaction.commit()?;
            Ok(Put::Kept)
        })
        .await
    }

    /// The item of a type of a node.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn inventory_item(
        &self,
        node_id: &str,
        type_name: &str,
    ) -> Result<Option<Item>, StoreError> {
        let (id, type_name) = (node_id.to_owned(), type_name.to_owned());
        self.call(move |connection| {
            connection
                .prepare_cached("SELECT * FROM inventory WHERE node_id = ?1 AND type_name = ?2")?
                .query_row([id, type_name], read)
                .optional()
        })
        .await
    }
}

/// False if the content is not known.
fn put(transaction: &Transaction<'_>, node_id: &str, item: &NewItem) -> rusqlite::Result<bool> {
    let changed = match &item.content {
        Some(content) => transaction.execute(
            "INSERT OR REPLACE INTO inventory VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
            params![
                node_id,
                item.type_name,
                item.schema_version,
                item.capture_time,
                item.content_hash,
                content
            ],
        ),
        None => transaction.execute(
            "UPDATE inventory SET capture_time = ?3, schema_version = ?4
             WHERE node_id = ?1 AND type_name = ?2 AND content_hash = ?5",
            params![
                node_id,
                item.type_name,
                item.capture_time,
                item.schema_version,
                item.content_hash
            ],
        ),
    }?;
    Ok(changed == 1)
}

fn read(row: &Row<'_>) -> rusqlite::Result<Item> {
    Ok(Item {
        type_name: row.get("type_name")?,
        schema_version: row.get("schema_version")?,
        capture_time: row.get("capture_time")?,
        content_hash: row.get("content_hash")?,
        content: row.get("content")?,
    })
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, SystemTime};

    use super::*;

    const NODE: &str = "i-0123456789abcdef0";

    fn item(hash: &str, time: &str, content: Option<&str>) -> NewItem {
        NewItem {
            type_name: "AWS:Network".into(),
            schema_version: "1.0".into(),
            capture_time: time.into(),
            content_hash: hash.into(),
            content: content.map(Into::into),
        }
    }

    async fn store() -> Store {
        let store = Store::open_in_memory().unwrap();
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000);
        store
            .create_node_access_key("lab", NODE, now)
            .await
            .unwrap();
        store
    }

    #[tokio::test]
    async fn hash_alone_renews_what_is_kept_and_nothing_else() {
        let store = store().await;
        let put = async |item| store.put_inventory(NODE, vec![item]).await.unwrap();

        let unknown = put(item("h", "t0", None)).await;
        let first = put(item("h", "t1", Some("[1]"))).await;
        let renewed = put(item("h", "t2", None)).await;
        let other = put(item("x", "t3", None)).await;

        assert_eq!(
            [unknown, first, renewed, other],
            [Put::Mismatch, Put::Kept, Put::Kept, Put::Mismatch]
        );
        let kept = store.inventory_item(NODE, "AWS:Network").await.unwrap();
        let kept = kept.unwrap();
        assert_eq!(
            (kept.capture_time.as_str(), kept.content.as_str()),
            ("t2", "[1]")
        );
    }

    #[tokio::test]
    async fn items_are_kept_together_and_go_with_their_node() {
        let store = store().await;
        let good = item("h", "t", Some("[]"));
        let bad = NewItem {
            type_name: "AWS:File".into(),
            ..item("h", "t", None)
        };

        let refused = store.put_inventory(NODE, vec![good.clone(), bad]).await;
        let nothing = store.inventory_item(NODE, "AWS:Network").await.unwrap();
        store.put_inventory(NODE, vec![good.clone()]).await.unwrap();
        store.deregister_node(NODE).await.unwrap();
        let gone = store.inventory_item(NODE, "AWS:Network").await.unwrap();
        let stranger = store.put_inventory(NODE, vec![good]).await.unwrap();

        assert_eq!(refused.unwrap(), Put::Mismatch);
        assert_eq!((nothing, gone), (None, None));
        assert_eq!(stranger, Put::NoNode);
    }
}

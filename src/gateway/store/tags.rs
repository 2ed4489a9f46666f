//! Tags of nodes, documents and parameters: changed here, kept with what they are on.

use rusqlite::{Connection, OptionalExtension, params};

use super::activations::{Tag, read_tags, write_tags};
use super::{Store, StoreError};

/// What has tags.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Tagged {
    /// The node of this id.
    Node(String),
    /// The document of this name.
    Document(String),
    /// The parameter of this name.
    Parameter(String),
}

impl Tagged {
    /// Table, column of its key, and key.
    fn place(&self) -> (&'static str, &'static str, &str) {
        match self {
            Self::Node(id) => ("nodes", "node_id", id),
            Self::Document(name) => ("documents", "name", name),
            Self::Parameter(name) => ("parameters", "name", name),
        }
    }
}

impl Store {
    /// The tags, in the order of their keys; `None` if there is no such thing.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn tags(&self, tagged: Tagged) -> Result<Option<Vec<Tag>>, StoreError> {
        self.call(move |connection| read(connection, &tagged)).await
    }

    /// Changes the tags by `change` if what it makes of them is right; `None` if there is no such
    /// thing.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn change_tags<E: Send + 'static>(
        &self,
        tagged: Tagged,
        change: impl FnOnce(&mut Vec<Tag>) -> Result<(), E> + Send + 'static,
    ) -> Result<Option<Result<(), E>>, StoreError> {
        self.call(move |connection| {
            let transaction = connection.transaction()?;
            let Some(mut tags) = read(&transaction, &tagged)? else {
                return Ok(None);
            };
            if let Err(error) = change(&mut tags) {
                return Ok(Some(Err(error)));
            }
            let (table, column, key) = tagged.place();
            transaction.execute(
                &format!("UPDATE {table} SET tags = ?2 WHERE {column} = ?1"),
                params![key, write_tags(&tags)],
            )?;
            transaction.commit()?;
            Ok(Some(Ok(())))
        })
        .await
    }
}

fn read(connection: &Connection, tagged: &Tagged) -> rusqlite::Result<Option<Vec<Tag>>> {
    let (table, column, key) = tagged.place();
    let query = format!("SELECT tags FROM {table} WHERE {column} = ?1 LIMIT 1");
    let mut tags = connection.query_row(&query, [key], read_tags).optional()?;
    if let Some(tags) = &mut tags {
        tags.sort_by(|a, b| a.key.cmp(&b.key));
    }
    Ok(tags)
}

//! Parameter Store: named values, in versions.

use std::time::SystemTime;

use rusqlite::{Connection, OptionalExtension, Row, params};

use super::activations::{Tag, write_tags};
use super::timestamp::{from_millis, to_millis};
use super::{Page, Secret, Store, StoreError};

pub(super) const SCHEMA: &str = "
CREATE TABLE parameters (
    name            TEXT NOT NULL,
    version         INTEGER NOT NULL,
    kind            TEXT NOT NULL,
    value           TEXT NOT NULL,
    description     TEXT NOT NULL,
    allowed_pattern TEXT NOT NULL,
    data_type       TEXT NOT NULL,
    author          TEXT NOT NULL,
    modified_ms     INTEGER NOT NULL,
    PRIMARY KEY (name, version)
) STRICT;
";

/// Tags are of a parameter; each of its versions has them all.
pub(super) const TAGS_SCHEMA: &str = "
ALTER TABLE parameters ADD COLUMN tags TEXT NOT NULL DEFAULT '[]';
";

/// Versions that are kept of one parameter; AWS's limit.
pub const VERSION_LIMIT: i64 = 100;
/// Parameters that one gateway holds; AWS's limit for standard parameters of an account.
pub const PARAMETER_LIMIT: i64 = 10_000;

/// The type of parameters whose values are encrypted.
pub const SECURE_STRING: &str = "SecureString";

/// One version of a parameter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Parameter {
    /// Its name.
    pub name: String,
    /// From 1.
    pub version: i64,
    /// `String`, `StringList` or `SecureString`.
    pub kind: String,
    /// Its value; that of a secure string is encrypted.
    pub value: String,
    /// For people.
    pub description: String,
    /// What values must match; may be empty.
    pub allowed_pattern: String,
    /// `text`, or what else was named.
    pub data_type: String,
    /// Who wrote this version, an ARN.
    pub author: String,
    /// When.
    pub modified: SystemTime,
}

/// Why a parameter is not written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PutRefused {
    /// It exists, and was not to be overwritten.
    Exists,
    /// It exists with another type.
    OtherKind,
    /// There are too many.
    TooMany,
}

const COLUMNS: &str =
    "name, version, kind, value, description, allowed_pattern, data_type, author, modified_ms";

impl Store {
    /// The value of a secure string as it is kept.
    ///
    /// # Errors
    /// [`StoreError::Seal`].
    pub fn seal(&self, name: &str, value: &str) -> Result<String, StoreError> {
        self.seal.seal(name, value).ok_or(StoreError::Seal)
    }

    /// The value of a secure string as it was given.
    ///
    /// # Errors
    /// [`StoreError::WrongKey`].
    pub fn reveal(&self, parameter: &Parameter) -> Result<Secret, StoreError> {
        let name = &parameter.name;
        let revealed = self.seal.reveal(name, &parameter.value);
        revealed.map_err(|source| StoreError::WrongKey {
            name: name.clone(),
            source,
        })
    }

    /// Writes the next version of a parameter; returns its number. The given number is ignored, and so
    /// are the tags unless it is the first.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn put_parameter(
        &self,
        parameter: Parameter,
        tags: Vec<Tag>,
        overwrite: bool,
    ) -> Result<Result<i64, PutRefused>, StoreError> {
        self.call(move |connection| {
            let transaction = connection.transaction()?;
            let latest = find(&transaction, &parameter.name, None)?;
            match &latest {
                Some(_) if !overwrite => return Ok(Err(PutRefused::Exists)),
                Some(latest) if latest.kind != parameter.kind => {
                    return Ok(Err(PutRefused::OtherKind));
                }
                Some(_) => {}
                None => {
                    let count: i64 = transaction.query_row(
                        "SELECT count(DISTINCT name) FROM parameters",
                        [],
                        |row| row.get(0),
                    )?;
                    if count >= PARAMETER_LIMIT {
                        return Ok(Err(PutRefused::TooMany));
                    }
                }
            }
            let version = latest.map_or(1, |latest| latest.version + 1);
            transaction.execute(
                &format!(
                    "INSERT INTO parameters ({COLUMNS}, tags) VALUES (?1,?2,?3,?4,?5,?6,?7,?8,?9,
                         coalesce((SELECT tags FROM parameters WHERE name = ?1 LIMIT 1), ?10))"
                ),
                params![
                    parameter.name,
                    version,
                    parameter.kind,
                    parameter.value,
                    parameter.description,
                    parameter.allowed_pattern,
                    parameter.data_type,
                    parameter.author,
                    to_millis(parameter.modified),
                    write_tags(&tags),
                ],
            )?;
            transaction.execute(
                "DELETE FROM parameters WHERE name = ?1 AND version <= ?2",
                params![parameter.name, version - VERSION_LIMIT],
            )?;
            transaction.commit()?;
            Ok(Ok(version))
        })
        .await
    }

    /// The version `version` of a parameter, or the latest.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn parameter(
        &self,
        name: &str,
        version: Option<i64>,
    ) -> Result<Option<Parameter>, StoreError> {
        let name = name.to_owned();
        self.call(move |connection| find(connection, &name, version))
            .await
    }

    /// A page of at most `limit` parameters in their latest version that `keep` wants, by name, from
    /// after `after` on.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn parameters(
        &self,
        after: Option<String>,
        limit: usize,
        keep: impl Fn(&Parameter) -> bool + Send + 'static,
    ) -> Result<Page<Parameter>, StoreError> {
        self.call(move |connection| {
            let mut statement = connection.prepare_cached(&format!(
                "SELECT {COLUMNS} FROM parameters p WHERE name > ?1 AND version =
                     (SELECT max(version) FROM parameters l WHERE l.name = p.name)
                 ORDER BY name"
            ))?;
            let rows = statement.query_map([after.unwrap_or_default()], read)?;
            let wanted = rows.filter(|row| row.as_ref().map_or(true, &keep));
            let mut items = wanted
                .take(limit.saturating_add(1))
                .collect::<Result<Vec<_>, _>>()?;
            let more = items.len() > limit;
            items.truncate(limit);
            let next = items.last().filter(|_| more).map(|last| last.name.clone());
            Ok(Page { items, next })
        })
        .await
    }

    /// Deletes a parameter with all its versions; false if there is none.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn delete_parameter(&self, name: &str) -> Result<bool, StoreError> {
        let name = name.to_owned();
        self.call(move |connection| {
            let deleted = connection.execute("DELETE FROM parameters WHERE name = ?1", [name])?;
            Ok(deleted > 0)
        })
        .await
    }
}

fn find(
    connection: &Connection,
    name: &str,
    version: Option<i64>,
) -> rusqlite::Result<Option<Parameter>> {
    connection
        .prepare_cached(&format!(
            "SELECT {COLUMNS} FROM parameters WHERE name = ?1 AND (?2 IS NULL OR version = ?2)
             ORDER BY version DESC LIMIT 1"
        ))?
        .query_row(params![name, version], read)
        .optional()
}

fn read(row: &Row<'_>) -> rusqlite::Result<Parameter> {
    Ok(Parameter {
        name: row.get(0)?,
        version: row.get(1)?,
        kind: row.get(2)?,
        value: row.get(3)?,
        description: row.get(4)?,
        allowed_pattern: row.get(5)?,
        data_type: row.get(6)?,
        author: row.get(7)?,
        modified: from_millis(row.get(8)?),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gateway::store::tags::Tagged;

    #[tokio::test]
    async fn versions_count_up_and_the_oldest_go() {
        let store = Store::open_in_memory().unwrap();

        assert_eq!(put(&store, "a", "String", false).await, Ok(1));
        assert_eq!(
            put(&store, "a", "String", false).await,
            Err(PutRefused::Exists)
        );
        assert_eq!(
            put(&store, "a", "StringList", true).await,
            Err(PutRefused::OtherKind)
        );
        for version in 2..=VERSION_LIMIT + 1 {
            assert_eq!(put(&store, "a", "String", true).await, Ok(version));
        }

        let version = async |version| {
            let found = store.parameter("a", version).await.unwrap();
            found.map(|parameter| parameter.version)
        };
        assert_eq!(version(None).await, Some(101));
        assert_eq!(version(Some(2)).await, Some(2));
        assert_eq!(version(Some(1)).await, None);
        assert!(store.delete_parameter("a").await.unwrap());
        assert!(!store.delete_parameter("a").await.unwrap());
        assert_eq!(version(None).await, None);
    }

    #[tokio::test]
    async fn latest_versions_are_listed_by_name_in_pages() {
        let store = Store::open_in_memory().unwrap();
        for name in ["c", "a", "b", "a"] {
            put(&store, name, "String", true).await.unwrap();
        }

        let first = store.parameters(None, 2, |_| true).await.unwrap();
        let second = store.parameters(first.next, 2, |_| true).await.unwrap();

        let names = first.items.iter().map(|p| (p.name.as_str(), p.version));
        assert_eq!(names.collect::<Vec<_>>(), [("a", 2), ("b", 1)]);
        assert_eq!((second.items.len(), second.next), (1, None));
    }

    #[tokio::test]
    async fn tags_stay_with_the_parameter_and_go_with_it() {
        let store = Store::open_in_memory().unwrap();
        let tagged = Tagged::Parameter("a".into());
        let tags = async || {
            let tags = store.tags(tagged.clone()).await.unwrap()?;
            Some(tags.into_iter().map(|tag| tag.value).collect::<Vec<_>>())
        };
        let change = async |value: &str| {
            let value = value.to_owned();
            let change = move |tags: &mut Vec<Tag>| {
                tags[0].value = value;
                Ok::<(), ()>(())
            };
            store.change_tags(tagged.clone(), change).await.unwrap()
        };

        assert_eq!(change("two").await, None);
        put(&store, "a", "String", false).await.unwrap();
        assert_eq!(tags().await, Some(vec!["one".into()]));
        put(&store, "a", "String", true).await.unwrap();
        assert_eq!(change("two").await, Some(Ok(())));
        put(&store, "a", "String", true).await.unwrap();
        assert_eq!(tags().await, Some(vec!["two".into()]));

        store.delete_parameter("a").await.unwrap();
        assert_eq!(tags().await, None);
        put(&store, "a", "String", false).await.unwrap();
        assert_eq!(tags().await, Some(vec!["one".into()]));
    }

    async fn put(
        store: &Store,
        name: &str,
        kind: &str,
        overwrite: bool,
    ) -> Result<i64, PutRefused> {
        let parameter = Parameter {
            name: name.into(),
            version: 0,
            kind: kind.into(),
            value: "v".into(),
            description: String::new(),
            allowed_pattern: String::new(),
            data_type: "text".into(),
            author: "arn:alice".into(),
            modified: SystemTime::now(),
        };
        let tags = vec![Tag {
            key: "of".into(),
            value: "one".into(),
        }];
        let put = store.put_parameter(parameter, tags, overwrite);
        put.await.unwrap()
    }
}

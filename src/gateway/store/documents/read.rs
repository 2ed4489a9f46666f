//! Reading documents.

use rusqlite::types::ToSql;
use rusqlite::{Connection, OptionalExtension, Row};

use super::super::timestamp::from_millis;
use super::super::{Page, Store, StoreError, activations};
use super::{Document, DocumentRefused, NewVersion, VersionSelector};

/// A version with its document. The newest is the highest that was not deleted.
const SELECT: &str = "
    SELECT d.name, d.document_type, d.tags, d.default_version,
           (SELECT max(number) FROM document_versions l WHERE l.name = d.name) AS latest_version,
           v.number, v.version_name, v.display_name, v.target_type, v.format, v.schema_version,
           v.platforms, v.description, v.content, v.hash, v.author, v.created_ms, v.attachments
    FROM documents d JOIN document_versions v ON v.name = d.name";

impl Store {
    /// A version of the document `name`.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn document(
        &self,
        name: &str,
        selector: VersionSelector,
    ) -> Result<Result<Document, DocumentRefused>, StoreError> {
        let name = name.to_owned();
        self.call(move |connection| find(connection, &name, &selector))
            .await
    }

    /// A page of at most `limit` default versions that `keep` wants, by name, from the one after
    /// `after` on.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn documents(
        &self,
        after: Option<String>,
        limit: usize,
        keep: impl Fn(&Document) -> bool + Send + 'static,
    ) -> Result<Page<Document>, StoreError> {
        self.call(move |connection| {
            let mut statement = connection.prepare_cached(&format!(
                "{SELECT} AND v.number = d.default_version WHERE d.name > ?1 ORDER BY d.name"
            ))?;
            let rows = statement.query_map([after.unwrap_or_default()], read)?;
            let wanted = rows.filter(|row| row.as_ref().map_or(true, &keep));
            // One more than asked for tells whether there is another page.
            let items = wanted
                .take(limit.saturating_add(1))
                .collect::<Result<_, _>>()?;
            Ok(page(items, limit, |document| document.name.clone()))
        })
        .await
    }

    /// A page of at most `limit` versions of the document `name`, newest first, from the one before
    /// `before` on; empty if there is no such document.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn document_versions(
        &self,
        name: &str,
        before: Option<u32>,
        limit: usize,
    ) -> Result<Page<Document>, StoreError> {
        let name = name.to_owned();
        self.call(move |connection| {
            let mut statement = connection.prepare_cached(&format!(
                "{SELECT} WHERE d.name = ?1 AND v.number < ?2 ORDER BY v.number DESC"
            ))?;
            let rows = statement.query_map((name, before.unwrap_or(u32::MAX)), read)?;
            let items = rows
                .take(limit.saturating_add(1))
                .collect::<Result<_, _>>()?;
            Ok(page(items, limit, |document| document.number.to_string()))
        })
        .await
    }
}

fn page(
    mut items: Vec<Document>,
    limit: usize,
    place: impl Fn(&Document) -> String,
) -> Page<Document> {
    let more = items.len() > limit;
    items.truncate(limit);
    let next = items.last().filter(|_| more).map(place);
    Page { items, next }
}

/// The version of `name` that `selector` means.
pub(super) fn find(
    connection: &Connection,
    name: &str,
    selector: &VersionSelector,
) -> rusqlite::Result<Result<Document, DocumentRefused>> {
    let (condition, value): (&str, Option<&dyn ToSql>) = match selector {
        VersionSelector::Default => ("v.number = d.default_version", None),
        VersionSelector::Latest => ("v.number = latest_version", None),
        VersionSelector::Number(number) => ("v.number = ?2", Some(number)),
        VersionSelector::Name(version_name) => ("v.version_name = ?2", Some(version_name)),
    };
    let name: &dyn ToSql = &name;
    let values: Vec<&dyn ToSql> = std::iter::once(name).chain(value).collect();
    let found = connection
        .prepare_cached(&format!("{SELECT} WHERE d.name = ?1 AND {condition}"))?
        .query_row(&*values, read)
        .optional()?;
    if let Some(document) = found {
        return Ok(Ok(document));
    }
    let exists = exists(connection, name)?;
    Ok(Err(if exists {
        DocumentRefused::UnknownVersion
    } else {
        DocumentRefused::Unknown
    }))
}

/// Whether there is a document `name`.
pub(super) fn exists(connection: &Connection, name: &dyn ToSql) -> rusqlite::Result<bool> {
    connection
        .prepare_cached("SELECT EXISTS (SELECT 1 FROM documents WHERE name = ?1)")?
        .query_row([name], |row| row.get(0))
}

fn read(row: &Row<'_>) -> rusqlite::Result<Document> {
    let platforms: String = row.get("platforms")?;
    let attachments: String = row.get("attachments")?;
    Ok(Document {
        name: row.get("name")?,
        document_type: row.get("document_type")?,
        tags: activations::read_tags(row)?,
        default_version: row.get("default_version")?,
        latest_version: row.get("latest_version")?,
        number: row.get("number")?,
        created: from_millis(row.get("created_ms")?),
        version: NewVersion {
            version_name: row.get("version_name")?,
            display_name: row.get("display_name")?,
            target_type: row.get("target_type")?,
            format: row.get("format")?,
            schema_version: row.get("schema_version")?,
            platforms: platforms.split_terminator(',').map(Into::into).collect(),
            description: row.get("description")?,
            content: row.get("content")?,
            hash: row.get("hash")?,
            author: row.get("author")?,
            // Only this store writes them.
            attachments: serde_json::from_str(&attachments).unwrap_or_default(),
        },
    })
}

//! Making, changing and deleting documents. Each call checks and writes in one transaction.

use std::time::SystemTime;

use rusqlite::{Connection, params};

use super::super::timestamp::to_millis;
use super::super::{Store, StoreError, activations};
use super::read::{exists, find};
use super::{
    DOCUMENT_LIMIT, Document, DocumentRefused, NewDocument, NewVersion, VERSION_LIMIT,
    VersionSelector,
};

type Outcome<T> = Result<Result<T, DocumentRefused>, StoreError>;

impl Store {
    /// Makes a document with its first version.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn create_document(&self, new: NewDocument, now: SystemTime) -> Outcome<Document> {
        self.call(move |connection| {
            let transaction = connection.transaction()?;
            if exists(&transaction, &new.name)? {
                return Ok(Err(DocumentRefused::Exists));
            }
            if count(&transaction, "SELECT count(*) FROM documents", [])? >= DOCUMENT_LIMIT {
                return Ok(Err(DocumentRefused::TooMany));
            }
            transaction.execute(
                "INSERT INTO documents (name, document_type, tags, default_version, last_version)
                 VALUES (?1, ?2, ?3, 1, 1)",
                params![
                    new.name,
                    new.document_type,
                    activations::write_tags(&new.tags)
                ],
            )?;
            insert_version(&transaction, &new.name, 1, &new.version, now)?;
            let made = find(&transaction, &new.name, &VersionSelector::Default)?;
            transaction.commit()?;
            Ok(made)
        })
        .await
    }

    /// Adds a version to the document `name` after the one that `after` means, which has to be the
    /// newest. The default version stays.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn add_document_version(
        &self,
        name: &str,
        after: VersionSelector,
        new: NewVersion,
        now: SystemTime,
    ) -> Outcome<Document> {
        let name = name.to_owned();
        self.call(move |connection| {
            let transaction = connection.transaction()?;
            let after = match find(&transaction, &name, &after)? {
                Ok(after) => after,
                Err(refused) => return Ok(Err(refused)),
            };
            if let Some(refused) = refusal(&transaction, &after, &new)? {
                return Ok(Err(refused));
            }
            let number: u32 = transaction.query_row(
                "UPDATE documents SET last_version = last_version + 1 WHERE name = ?1
                 RETURNING last_version",
                [&name],
                |row| row.get(0),
            )?;
            insert_version(&transaction, &name, number, &new, now)?;
            let made = find(&transaction, &name, &VersionSelector::Number(number))?;
            transaction.commit()?;
            Ok(made)
        })
        .await
    }

    /// Makes version `number` the default one.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn set_default_document_version(&self, name: &str, number: u32) -> Outcome<Document> {
        let name = name.to_owned();
        self.call(move |connection| {
            let transaction = connection.transaction()?;
            let selector = VersionSelector::Number(number);
            if let Err(refused) = find(&transaction, &name, &selector)? {
                return Ok(Err(refused));
            }
            transaction.execute(
                "UPDATE documents SET default_version = ?2 WHERE name = ?1",
                params![name, number],
            )?;
            let document = find(&transaction, &name, &selector)?;
            transaction.commit()?;
            Ok(document)
        })
        .await
    }

    /// Deletes the document `name` with all its versions.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn delete_document(&self, name: &str) -> Outcome<()> {
        let name = name.to_owned();
        self.call(move |connection| {
            let deleted = connection.execute("DELETE FROM documents WHERE name = ?1", [name])?;
            Ok(if deleted == 1 {
                Ok(())
            } else {
                Err(DocumentRefused::Unknown)
            })
        })
        .await
    }

    /// Deletes one version, which is not the default one.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn delete_document_version(
        &self,
        name: &str,
        selector: VersionSelector,
    ) -> Outcome<()> {
        let name = name.to_owned();
        self.call(move |connection| {
            let transaction = connection.transaction()?;
            let version = match find(&transaction, &name, &selector)? {
                Ok(version) => version,
                Err(refused) => return Ok(Err(refused)),
            };
            if version.number == version.default_version {
                return Ok(Err(DocumentRefused::IsDefault));
            }
            transaction.execute(
                "DELETE FROM document_versions WHERE name = ?1 AND number = ?2",
                params![name, version.number],
            )?;
            transaction.commit()?;
            Ok(Ok(()))
        })
        .await
    }
}

/// Why `new` cannot follow `after`.
fn refusal(
    connection: &Connection,
    after: &Document,
    new: &NewVersion,
) -> rusqlite::Result<Option<DocumentRefused>> {
    let versions = |condition: &str, value: &str| {
        let query =
            format!("SELECT count(*) FROM document_versions WHERE name = ?1 AND {condition} = ?2");
        count(connection, &query, [&after.name, value])
    };
    if after.number != after.latest_version {
        return Ok(Some(DocumentRefused::NotLatest));
    }
    if let Some(version_name) = &new.version_name
        && versions("version_name", version_name)? > 0
    {
        return Ok(Some(DocumentRefused::SameVersionName));
    }
    if versions("hash", &new.hash)? > 0 {
        return Ok(Some(DocumentRefused::SameContent));
    }
    if versions("name", &after.name)? >= VERSION_LIMIT {
        return Ok(Some(DocumentRefused::TooManyVersions));
    }
    Ok(None)
}

fn count(
    connection: &Connection,
    query: &str,
    values: impl rusqlite::Params,
) -> rusqlite::Result<usize> {
    let count: i64 = connection
        .prepare_cached(query)?
        .query_row(values, |row| row.get(0))?;
    Ok(usize::try_from(count).unwrap_or(0))
}

fn insert_version(
    connection: &Connection,
    name: &str,
    number: u32,
    new: &NewVersion,
    now: SystemTime,
) -> rusqlite::Result<()> {
    let attachments = serde_json::to_string(&new.attachments)
        .map_err(|error| rusqlite::Error::ToSqlConversionFailure(error.into()))?;
    connection
        .prepare_cached(
            "INSERT INTO document_versions (name, number, version_name, display_name, target_type,
                 format, schema_version, platforms, description, content, hash, author, created_ms, attachments)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14)",
        )?
        .execute(params![
            name,
            number,
            new.version_name,
            new.display_name,
            new.target_type,
            new.format,
            new.schema_version,
            new.platforms.join(","),
            new.description,
            new.content,
            new.hash,
            new.author,
            to_millis(now),
            attachments
        ])
        .map(drop)
}

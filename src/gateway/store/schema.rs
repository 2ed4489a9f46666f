//! The tables and how an older file is brought up to date.
//!
//! `user_version` counts the migrations that a file has seen. Each runs in one transaction with its
//! new count, so that a file is never between two versions.

use rusqlite::{Connection, TransactionBehavior};

use super::{
    StoreError, access, activations, commands, documents, inventory, node_credentials, nodes,
    parameters, recordings, sessions,
};

/// All migrations in order. What is released here is never edited; a change is a new entry.
const MIGRATIONS: &[&[&str]] = &[
    &[
        nodes::SCHEMA,
        node_credentials::SCHEMA,
        activations::SCHEMA,
        access::SCHEMA,
        sessions::SCHEMA,
    ],
    &[
        documents::SCHEMA,
        sessions::LIMITS_SCHEMA,
        access::RUN_AS_SCHEMA,
    ],
    &[recordings::SCHEMA, access::AUDITOR_SCHEMA],
    &[commands::SCHEMA, parameters::SCHEMA],
    &[documents::ATTACHMENTS_SCHEMA],
    &[inventory::SCHEMA],
    &[parameters::TAGS_SCHEMA],
];

/// Brings `connection` to the newest schema.
///
/// # Errors
/// [`StoreError::Newer`] if the file is of a later gateway, [`StoreError::Query`].
pub(super) fn migrate(connection: &mut Connection) -> Result<(), StoreError> {
    let supported = i64::try_from(MIGRATIONS.len()).expect("a handful of migrations");
    // Immediate: of two gateways that start on one file, the second waits and finds the work done.
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let got: i64 = transaction.pragma_query_value(None, "user_version", |row| row.get(0))?;
    let seen = usize::try_from(got)
        .ok()
        .filter(|seen| *seen <= MIGRATIONS.len())
        .ok_or(StoreError::Newer { got, supported })?;
    for tables in &MIGRATIONS[seen..] {
        for statements in *tables {
            transaction.execute_batch(statements)?;
        }
    }
    transaction.pragma_update(None, "user_version", supported)?;
    transaction.commit()?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gateway::store::Store;
    use crate::gateway::store::sessions::{SessionLimits, SessionStatus};
    use crate::protocol::wire::SessionId;

    #[tokio::test]
    async fn database_of_the_first_version_is_upgraded_in_place() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("gateway.db");
        let old = Connection::open(&path).unwrap();
        for statements in MIGRATIONS[0] {
            old.execute_batch(statements).unwrap();
        }
        old.execute_batch(
            "INSERT INTO sessions (session_id, node_id, owner, document_name, reason, status, start_ms)
             VALUES ('alice-1', 'mi-1', 'arn:alice', 'SSM-SessionManagerRunShell', '', 'Connected', 5);
             PRAGMA user_version = 1;",
        )
        .unwrap();
        drop(old);

        for _ in 0..2 {
            let store = Store::open(&path).unwrap();
            let id = SessionId::new("alice-1").unwrap();
            let session = store.session(&id).await.unwrap().unwrap();
            assert_eq!(session.status, SessionStatus::Connected);
            assert_eq!(session.limits, SessionLimits::default());
            let documents = store.documents(None, 10, |_| true).await.unwrap();
            assert!(documents.items.is_empty());
        }
    }
}

//! The tables and how an older file is brought up to date.
//!
//! `user_version` counts the migrations that a file has seen. Each runs in one transaction with its
//! new count, so that a file is never between two versions.

use rusqlite::{Connection, TransactionBehavior};

use super::{StoreError, access, activations, node_credentials, nodes, sessions};

/// All migrations in order. What is released here is never edited; a change is a new entry.
const MIGRATIONS: &[&[&str]] = &[&[
    nodes::SCHEMA,
    node_credentials::SCHEMA,
    activations::SCHEMA,
    access::SCHEMA,
    sessions::SCHEMA,
]];

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

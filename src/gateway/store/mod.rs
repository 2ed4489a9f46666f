//! What the gateway remembers: nodes and their credentials, activations, access keys, sessions and
//! their recordings, documents, commands, parameters, inventory.
//!
//! One SQLite file, one connection. Every call runs on the blocking pool, so that a slow disk never
//! holds up the relay. Secrets that must be known in the clear to check a signature (access keys,
//! node credentials) are in the file, which only its owner can read; everything else that opens a
//! door (activation codes, session tokens) is stored hashed. Secure strings are encrypted with a key
//! in a file of its own.

pub mod access;
pub mod activations;
pub mod commands;
pub mod documents;
pub mod inventory;
pub mod node_credentials;
pub mod nodes;
pub mod parameters;
pub mod recordings;
pub mod secret;
pub mod sessions;
pub mod tags;

mod schema;
mod seal;
mod timestamp;

use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rusqlite::Connection;

use self::seal::{Seal, WrongKey};
use crate::runtime::atomic_file;

pub use secret::Secret;

/// How long a call waits for another process that writes (`ssm-gateway access create` beside a
/// running gateway); writes take milliseconds.
const BUSY_TIMEOUT: Duration = Duration::from_secs(10);

/// Statements that are kept prepared: more than there are.
const STATEMENTS: usize = 256;

/// Name of the file with the key of secure strings, beside the database.
const SEAL: &str = "parameters.key";

/// Mode of the database and its side files: it holds secret keys.
const FILE_MODE: u32 = 0o600;

/// The gateway's memory. Clones share one connection.
#[derive(Clone)]
pub struct Store {
    connection: Arc<Mutex<Connection>>,
    seal: Arc<Seal>,
}

/// Why the store cannot answer.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The file or its folder cannot be made or read.
    #[error("cannot open the store {path}", path = path.display())]
    Open {
        /// The database file.
        path: PathBuf,
        /// Cause.
        #[source]
        source: io::Error,
    },
    /// A newer gateway wrote the file.
    #[error("the store has schema version {got}, this gateway knows versions up to {supported}")]
    Newer {
        /// Version of the file.
        got: i64,
        /// Newest version known here.
        supported: i64,
    },
    /// SQLite failed.
    #[error("the store failed")]
    Query(#[from] rusqlite::Error),
    /// A secure string cannot be encrypted.
    #[error("a value cannot be encrypted")]
    Seal,
    /// A secure string cannot be decrypted.
    #[error("the value of parameter {name} cannot be decrypted")]
    WrongKey {
        /// The parameter.
        name: String,
        /// Cause.
        #[source]
        source: WrongKey,
    },
    /// The runtime is shutting down, or the call panicked.
    #[error("the store call did not finish")]
    Interrupted(#[from] tokio::task::JoinError),
}

/// One page of a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page<T> {
    /// The items, in the list's order.
    pub items: Vec<T>,
    /// Where the next page begins; none after the last.
    pub next: Option<String>,
}

impl Store {
    /// Opens the database at `path`, made with mode 0600 (its folder with 0700) if it is not there,
    /// and brings its schema up to date.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        let failed = |source| StoreError::Open {
            path: path.to_owned(),
            source,
        };
        if let Some(folder) = path.parent() {
            atomic_file::create_private_dir(folder).map_err(failed)?;
        }
        // SQLite gives its side files the mode of the database.
        std::fs::OpenOptions::new()
            .create(true)
            .append(true)
            .mode(FILE_MODE)
            .open(path)
            .map_err(failed)?;
        let connection = Connection::open(path)?;
        connection.pragma_update(None, "journal_mode", "WAL")?;
        // With WAL this survives a crash of the process; a power cut may lose the last calls, never
        // the file.
        connection.pragma_update(None, "synchronous", "NORMAL")?;
        let key = path.with_file_name(SEAL);
        let seal = Seal::open(&key).map_err(|source| StoreError::Open { path: key, source })?;
        Self::new(connection, seal)
    }

    /// A store that is gone with the process.
    ///
    /// # Errors
    /// [`StoreError::Query`], [`StoreError::Seal`].
    pub fn open_in_memory() -> Result<Self, StoreError> {
        let seal = Seal::of_this_process().ok_or(StoreError::Seal)?;
        Self::new(Connection::open_in_memory()?, seal)
    }

    fn new(mut connection: Connection, seal: Seal) -> Result<Self, StoreError> {
        connection.busy_timeout(BUSY_TIMEOUT)?;
        connection.pragma_update(None, "foreign_keys", true)?;
        connection.set_prepared_statement_cache_capacity(STATEMENTS);
        schema::migrate(&mut connection)?;
        Ok(Self {
            connection: Arc::new(Mutex::new(connection)),
            seal: Arc::new(seal),
        })
    }

    /// Runs `f` with the connection on the blocking pool.
    ///
    /// # Errors
    /// [`StoreError::Query`] with what `f` returned, [`StoreError::Interrupted`].
    pub(in crate::gateway) async fn call<T: Send + 'static>(
        &self,
        f: impl FnOnce(&mut Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, StoreError> {
        let connection = Arc::clone(&self.connection);
        let call = move || {
            // A call that panicked left no transaction open: dropping one rolls it back.
            let mut connection = connection.lock().unwrap_or_else(PoisonError::into_inner);
            f(&mut connection)
        };
        Ok(tokio::task::spawn_blocking(call).await??)
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[tokio::test]
    async fn database_is_readable_by_its_owner_only() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("new/gateway.db");

        let store = Store::open(&path).unwrap();
        store
            .call(|c| c.execute_batch("CREATE TABLE touched (x)"))
            .await
            .unwrap();

        let mode = |p: &Path| std::fs::metadata(p).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(path.parent().unwrap()), 0o700);
        for name in ["gateway.db", "gateway.db-wal", "gateway.db-shm"] {
            assert_eq!(mode(&path.with_file_name(name)), 0o600, "{name}");
        }
    }

    #[test]
    fn database_of_a_newer_gateway_is_refused_with_both_versions() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("gateway.db");
        drop(Store::open(&path).unwrap());
        let raw = Connection::open(&path).unwrap();
        raw.pragma_update(None, "user_version", 4711).unwrap();

        let error = Store::open(&path).err().unwrap();

        assert!(
            matches!(error, StoreError::Newer { got: 4711, .. }),
            "{error}"
        );
    }

    #[test]
    fn file_that_is_no_database_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("gateway.db");
        std::fs::write(&path, b"this is not a database, it only looks like a file").unwrap();

        assert!(matches!(Store::open(&path), Err(StoreError::Query(_))));
    }

    #[tokio::test]
    async fn call_that_panics_leaves_the_store_usable() {
        let store = Store::open_in_memory().unwrap();

        let panicked = store.call::<()>(|_| panic!("a bug in a call")).await;
        let after = store
            .call(|c| c.query_row("SELECT 1", [], |row| row.get::<_, i64>(0)))
            .await;

        assert!(matches!(panicked, Err(StoreError::Interrupted(_))));
        assert_eq!(after.unwrap(), 1);
    }
}

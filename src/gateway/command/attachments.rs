//! `ssm-gateway attachment`: the files of packages that the gateway has itself.

use std::path::{Path, PathBuf};

use anyhow::bail;
use clap::Subcommand;

use super::super::attachments::{Folder, Stored};
use super::administer::{existing_store, to_table};

const COLUMNS: [&str; 2] = ["Sha256", "Size"];

/// `ssm-gateway attachment`.
#[derive(Debug, Subcommand)]
pub(super) enum Attachment {
    /// Take a copy of a package's file; print its checksum and size as its manifest needs them
    #[command(after_help = "Example: ssm-gateway attachment add nginx-1.0.zip")]
    Add {
        /// The file
        file: PathBuf,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// List the files
    #[command(after_help = "Example: ssm-gateway attachment list --json")]
    List {
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Delete a file; packages that need it cannot be installed any more
    #[command(
        after_help = "Example: ssm-gateway attachment remove ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    )]
    Remove {
        /// Its checksum
        sha256: String,
    },
}

impl Attachment {
    /// Runs the command on the state folder `state` and returns what it has to print.
    pub(super) fn run(self, state: &Path) -> anyhow::Result<String> {
        // Only beside the rest of a gateway's state: a wrong folder would be filled for nothing.
        existing_store(state)?;
        let folder = Folder::new(state);
        match self {
            Self::Add { file, json } => {
                let stored = folder.add(&file)?;
                Ok(to_table(&COLUMNS, vec![row(&stored)], json))
            }
            Self::List { json } => {
                let stored = folder.list()?;
                Ok(to_table(&COLUMNS, stored.iter().map(row).collect(), json))
            }
            Self::Remove { sha256 } => {
                if !folder.remove(&sha256)? {
                    bail!("there is no file with the checksum {sha256}");
                }
                Ok(String::new())
            }
        }
    }
}

fn row(stored: &Stored) -> Vec<Option<String>> {
    vec![Some(stored.sha256.clone()), Some(stored.size.to_string())]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gateway::store::Store;

    #[test]
    fn file_is_added_listed_and_removed() {
        let state = tempfile::tempdir().unwrap();
        Store::open(&state.path().join("gateway.db")).unwrap();
        let file = state.path().join("p.zip");
        std::fs::write(&file, "abc").unwrap();

        let added = Attachment::Add { file, json: false }
            .run(state.path())
            .unwrap();
        let listed = Attachment::List { json: true }.run(state.path()).unwrap();
        let listed: serde_json::Value = serde_json::from_str(&listed).unwrap();
        let sha256 = listed[0]["Sha256"].as_str().unwrap().to_owned();

        assert!(
            added.contains(&sha256) && added.contains("  3\n"),
            "{added}"
        );
        let remove = || {
            Attachment::Remove {
                sha256: sha256.clone(),
            }
            .run(state.path())
        };
        assert_eq!(remove().unwrap(), "");
        assert!(remove().is_err());
    }

    #[test]
    fn folder_without_a_gateway_is_left_alone() {
        let state = tempfile::tempdir().unwrap();

        assert!(Attachment::List { json: false }.run(state.path()).is_err());
        assert_eq!(std::fs::read_dir(state.path()).unwrap().count(), 0);
    }
}

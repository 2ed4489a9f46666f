//! What can go wrong with inventory. The texts are the reference's.

use std::io;
use std::path::PathBuf;

use crate::aws::CallError;

/// Why a gatherer has nothing.
#[derive(Debug, thiserror::Error)]
pub enum GatherError {
    /// A program that was to tell failed.
    #[error("{program} {reason}")]
    Tool {
        /// The program.
        program: &'static str,
        /// What is wrong.
        reason: String,
    },
    /// The filter is not one.
    #[error("the filter of files is not understood")]
    Filter(#[source] serde_json::Error),
    /// More files match than are reported.
    #[error("File Count Limit Exceeded")]
    FileCount,
    /// More folders are to be looked through than may be.
    #[error("Directory Scan Limit Exceeded")]
    DirectoryScan,
    /// Looking through files takes too long.
    #[error("the files cannot be looked through within {0} s")]
    Slow(u64),
    /// A file or folder cannot be read.
    #[error("cannot read {}", .path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        cause: io::Error,
    },
    /// The kernel does not tell.
    #[error("the kernel does not tell: {0}")]
    Kernel(String),
    /// The instance metadata do not tell.
    #[error("the instance metadata do not tell: {0}")]
    Metadata(String),
}

/// Why there is no inventory.
#[derive(Debug, thiserror::Error)]
pub enum InventoryError {
    /// A gatherer failed.
    #[error("Encountered error while executing {type_name}. Error - {}", crate::runtime::cause::in_one_line(.cause))]
    Gather {
        /// What it gathers.
        type_name: &'static str,
        /// What went wrong; it is part of the text.
        cause: GatherError,
    },
    /// It is larger than may be sent.
    #[error("the size of the collected data exceeded the maximum allowable size")]
    Size,
    /// The service has not taken it.
    #[error("{} could not be uploaded to Systems Manager. Additional troubleshooting information - {}", what(.files_only), crate::runtime::cause::in_one_line(.cause))]
    Upload {
        /// It was the part with the files, which goes first when there is much.
        files_only: bool,
        /// What went wrong; it is part of the text.
        cause: CallError,
    },
}

fn what(files_only: &bool) -> &'static str {
    if *files_only {
        "File inventory data"
    } else {
        "inventory data"
    }
}

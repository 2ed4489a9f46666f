//! What every program of ours needs: back-off, files that are written whole or not at all, logging,
//! life cycle, TLS roots and proxies, exit codes.

pub mod atomic_file;
pub mod backoff;
pub mod exit;
pub mod lifecycle;
pub mod logging;
pub mod proxy;
pub mod tls;

//! What every program of ours needs: back-off, files that are written whole or not at all, logging,
//! life cycle, resource limits, memory, TLS roots and proxies, exit codes.

pub mod atomic_file;
pub mod background;
pub mod backoff;
pub mod cause;
pub mod clock;
pub mod exit;
pub mod lifecycle;
pub mod limits;
pub mod logging;
pub mod memory;
pub mod network;
pub mod proxy;
pub mod systemd;
pub mod tls;

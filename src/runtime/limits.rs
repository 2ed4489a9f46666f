//! Resource limits of the process.

use std::io;

use nix::sys::resource::{Resource, getrlimit, setrlimit};

/// A soft and a hard limit on open files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NofileLimit {
    /// What is enforced.
    pub soft: u64,
    /// How far the process may raise it.
    pub hard: u64,
}

/// Raises the soft limit on open files to the hard one, because a session needs several and the usual
/// soft limit of 1024 ends the daemon at a few hundred sessions. Returns what it was, so that a
/// session can be given it back: programs that use `select` break above 1024.
///
/// # Errors
/// If the kernel refuses to tell or to set it.
pub fn raise_nofile_limit() -> io::Result<NofileLimit> {
    let original = nofile_limit()?;
    setrlimit(Resource::RLIMIT_NOFILE, original.hard, original.hard)?;
    Ok(original)
}

/// The limit on open files as it is now.
///
/// # Errors
/// If the kernel refuses to tell.
pub fn nofile_limit() -> io::Result<NofileLimit> {
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    Ok(NofileLimit { soft, hard })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_soft_limit_is_raised_to_the_hard_one_and_the_original_returned() {
        let before = nofile_limit().unwrap();

        let original = raise_nofile_limit().unwrap();

        assert_eq!(original, before);
        let raised = NofileLimit {
            soft: before.hard,
            hard: before.hard,
        };
        assert_eq!(nofile_limit().unwrap(), raised);
    }
}

//! A disk of its own for a story, which is as small as the story wants it.

use std::path::{Path, PathBuf};

use crate::namespace::sh;

/// A file system in memory, for as long as this lives.
pub struct Disk {
    path: PathBuf,
}

impl Disk {
    /// Mounts one with these options of tmpfs(5).
    pub fn mount(options: &str) -> Self {
        let path = PathBuf::from("/home/disk");
        let shown = path.display();
        sh(&format!(
            "mkdir -p {shown}; mount -t tmpfs -o mode=755,{options} tmpfs {shown}"
        ));
        Self { path }
    }

    /// With so many blocks of 4 KiB.
    pub fn of_blocks(blocks: u32) -> Self {
        Self::mount(&format!("size={}", blocks * 4096))
    }

    /// With so many inodes.
    pub fn of_inodes(inodes: u32) -> Self {
        Self::mount(&format!("nr_inodes={inodes}"))
    }

    /// Changes an option.
    pub fn remount(&self, options: &str) {
        sh(&format!(
            "mount -o remount,{options} {}",
            self.path.display()
        ));
    }

    /// A path on it.
    pub fn at(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // Blocking threads may still have a file open.
        sh(&format!("umount --lazy {}", self.path.display()));
    }
}

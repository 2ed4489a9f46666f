//! Where content goes: what a document names as the destination.
//!
//! | destination path | a file named `n` becomes | a tree goes into |
//! |---|---|---|
//! | absent or empty | `<downloads>/n` | `<downloads>` |
//! | `scripts/` or a folder that is there | `<downloads>/scripts/n` | `<downloads>/scripts` |
//! | `scripts` | `<downloads>/scripts` | `<downloads>/scripts` |
//! | `/opt/scripts/`, `/opt/scripts` | the same at that place | the same at that place |

use std::path::{Path, PathBuf};

use super::DownloadError;

/// What a document names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Destination {
    /// As it is told.
    shown: String,
    /// The folder of downloads, or an absolute path that was named.
    base: PathBuf,
    /// The way from there.
    below: Vec<String>,
    /// Whether a file goes into it.
    is_folder: bool,
}

/// A folder that has to be opened as it is, with the links that lead there, and a way from it that
/// no link may be part of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) base: PathBuf,
    pub(super) below: Vec<String>,
}

impl Place {
    /// Its path.
    pub(super) fn path(&self) -> PathBuf {
        let mut path = self.base.clone();
        path.extend(&self.below);
        path
    }
}

impl Destination {
    /// The destination `named` by a document whose folder of downloads is `downloads`.
    pub(super) fn of(downloads: &Path, named: &str) -> Result<Self, DownloadError> {
        let absolute = Path::new(named).is_absolute();
        let (base, below) = if absolute {
            (PathBuf::from(named), Vec::new())
        } else {
            let below = segments(named)?;
            let below = below.into_iter().map(str::to_owned).collect();
            (downloads.to_owned(), below)
        };
        let mut whole = base.clone();
        whole.extend(&below);
        let shown = if absolute {
            named.to_owned()
        } else {
            format!("{}/{named}", downloads.display())
        };
        Ok(Self {
            is_folder: shown.ends_with('/') || whole.is_dir(),
            shown,
            base,
            below,
        })
    }

    /// As it is told.
    pub(super) fn shown(&self) -> &str {
        &self.shown
    }

    /// Where a tree goes.
    pub(super) fn tree(&self) -> Place {
        Place {
            base: self.base.clone(),
            below: self.below.clone(),
        }
    }

    /// Where a file goes that is called `name` at its source: a folder, and its name there.
    pub(super) fn file(&self, name: &str) -> Result<(Place, String), DownloadError> {
        let mut place = self.tree();
        if self.is_folder {
            let [name] = segments(name)?[..] else {
                return Err(DownloadError::Leaves(name.to_owned()));
            };
            return Ok((place, name.to_owned()));
        }
        if let Some(last) = place.below.pop() {
            return Ok((place, last));
        }
        let (parent, last) = (place.base.parent(), place.base.file_name());
        match (parent, last.and_then(|last| last.to_str())) {
            (Some(parent), Some(last)) => {
                let last = last.to_owned();
                place.base = parent.to_owned();
                Ok((place, last))
            }
            _ => Err(DownloadError::Leaves(self.shown.clone())),
        }
    }
}

/// The segments of a path that stays below where it begins; empty ones and `.` say nothing.
pub(super) fn segments(path: &str) -> Result<Vec<&str>, DownloadError> {
    let mut segments = Vec::new();
    for segment in path.split('/') {
        match segment {
            "" | "." => {}
            ".." => return Err(DownloadError::Leaves(path.to_owned())),
            name if name.contains('\0') => return Err(DownloadError::Leaves(path.to_owned())),
            name => segments.push(name),
        }
    }
    Ok(segments)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_and_trees_go_where_the_table_says() {
        let root = tempfile::tempdir().unwrap();
        let downloads = root.path().join("downloads");
        let there = root.path().join("there");
        std::fs::create_dir_all(downloads.join("made")).unwrap();
        std::fs::create_dir(&there).unwrap();
        let there = there.to_str().unwrap();
        let within = |name: &str| downloads.join(name);
        for (named, file, tree) in [
            ("", within("n"), within("")),
            ("scripts/", within("scripts/n"), within("scripts")),
            ("made", within("made/n"), within("made")),
            ("a/./b", within("a/b"), within("a/b")),
            (there, PathBuf::from(there).join("n"), PathBuf::from(there)),
            ("/x/y/", "/x/y/n".into(), "/x/y".into()),
            ("/x/y", "/x/y".into(), "/x/y".into()),
        ] {
            let destination = Destination::of(&downloads, named).unwrap();
            let (place, name) = destination.file("n").unwrap();
            assert_eq!(place.path().join(name), file, "{named}");
            assert_eq!(destination.tree().path(), tree, "{named}");
        }
        let shown = Destination::of(&downloads, "").unwrap();
        assert_eq!(shown.shown(), format!("{}/", downloads.display()));
    }

    #[test]
    fn ways_out_are_refused() {
        let downloads = Path::new("/downloads");
        for named in ["..", "a/../../b", "../x/", "a/.."] {
            let refused = Destination::of(downloads, named).unwrap_err();
            assert_eq!(
                refused.to_string(),
                format!("{named:?} would leave the destination folder")
            );
        }
        let folder = Destination::of(downloads, "").unwrap();
        for name in ["..", "a/b", "", "../x", "a\0b"] {
            assert!(folder.file(name).is_err(), "{name:?}");
        }
    }
}

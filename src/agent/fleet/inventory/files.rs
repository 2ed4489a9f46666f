//! `AWS:File`: files that a filter names.
//!
//! However large a folder is, no more of it is in memory than the matches, of which there are few.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use regex::Regex;
use serde::Deserialize;
use tracing::{debug, warn};

use super::error::GatherError;
use super::item::{Item, Row};

/// The type of the item.
pub(super) const TYPE: &str = "AWS:File";
const SCHEMA: &str = "1.0";

/// Most files that are told.
const FILES: usize = 500;
/// Most folders that a filter has looked through.
const FOLDERS: usize = 5000;
/// Longest search, over all filters.
const PATIENCE: Duration = Duration::from_secs(60);
/// Entries between two looks at the clock.
const BETWEEN_LOOKS: usize = 1024;

/// What to look for.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
#[derive(Default)]
struct Filter {
    path: String,
    pattern: Vec<String>,
    recursive: bool,
    dir_scan_limit: Option<usize>,
}

/// The item of the files that `filters`, as JSON, name.
///
/// # Errors
/// [`GatherError`].
pub(super) fn item(filters: &str) -> Result<Item, GatherError> {
    item_in(filters, |name| std::env::var(name).ok())
}

fn item_in(filters: &str, variable: impl Fn(&str) -> Option<String>) -> Result<Item, GatherError> {
    // Paths of Windows are meant, as in the reference.
    let filters = filters.replace('\\', "/");
    let filters: Vec<Filter> = serde_json::from_str(&filters).map_err(GatherError::Filter)?;
    let mut search = Search {
        found: BTreeSet::new(),
        until: Instant::now() + PATIENCE,
        entries: 0,
    };
    for filter in &filters {
        search.run(filter, &expand(&filter.path, &variable))?;
    }
    let rows = search.found.iter().filter_map(|path| row(path));
    Ok(Item::new(TYPE, SCHEMA, rows.collect()))
}

/// A search under way.
struct Search {
    found: BTreeSet<PathBuf>,
    until: Instant,
    entries: usize,
}

impl Search {
    fn run(&mut self, filter: &Filter, path: &str) -> Result<(), GatherError> {
        let patterns: Vec<Regex> = filter
            .pattern
            .iter()
            .filter_map(|text| glob(text))
            .collect();
        let limit = filter.dir_scan_limit.unwrap_or(FOLDERS).min(FOLDERS);
        let mut folders = vec![PathBuf::from(path)];
        let mut seen = 1;
        while let Some(folder) = folders.pop() {
            if seen > limit {
                return Err(GatherError::DirectoryScan);
            }
            let entries = match fs::read_dir(&folder) {
                Ok(entries) => entries,
                Err(error) => {
                    warn!(folder = %folder.display(), %error, "a folder is not looked through");
                    continue;
                }
            };
            for entry in entries.flatten() {
                self.look_at_clock()?;
                // That of a link: where links lead is not looked through.
                let Ok(kind) = entry.file_type() else {
                    continue;
                };
                if kind.is_dir() {
                    if filter.recursive {
                        seen += 1;
                        if seen > limit {
                            return Err(GatherError::DirectoryScan);
                        }
                        folders.push(entry.path());
                    }
                    continue;
                }
                let name = entry.file_name();
                let name = name.to_string_lossy();
                if patterns.iter().any(|pattern| pattern.is_match(&name)) {
                    self.found.insert(entry.path());
                    if self.found.len() > FILES {
                        return Err(GatherError::FileCount);
                    }
                }
            }
        }
        Ok(())
    }

    fn look_at_clock(&mut self) -> Result<(), GatherError> {
        self.entries += 1;
        if self.entries.is_multiple_of(BETWEEN_LOOKS) && Instant::now() > self.until {
            return Err(GatherError::Slow(PATIENCE.as_secs()));
        }
        Ok(())
    }
}

/// What is told of a file; none of one that is gone or leads nowhere.
fn row(path: &Path) -> Option<Row> {
    let metadata = fs::metadata(path).ok()?;
    let modified = metadata.modified().ok();
    let modified = modified.and_then(|time| Timestamp::try_from(time).ok());
    let modified = modified.map_or_else(String::new, |time| {
        time.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
    });
    let text = |part: Option<&std::ffi::OsStr>| {
        part.map_or_else(String::new, |part| part.to_string_lossy().into_owned())
    };
    let empty = String::new;
    Some(Row::of([
        ("Name", text(path.file_name())),
        ("Size", metadata.len().to_string()),
        ("Description", empty()),
        ("FileVersion", empty()),
        ("InstalledDate", empty()),
        ("ModificationTime", modified),
        ("LastAccessTime", empty()),
        ("ProductName", empty()),
        ("InstalledDir", text(path.parent().map(Path::as_os_str))),
        ("CompanyName", empty()),
        ("ProductVersion", empty()),
        ("ProductLanguage", empty()),
    ]))
}

/// Replaces `$NAME` and `${NAME}`; what is not set is nothing.
fn expand(path: &str, variable: impl Fn(&str) -> Option<String>) -> String {
    let mut values = BTreeMap::new();
    let mut expanded = String::new();
    let mut rest = path;
    while let Some(at) = rest.find('$') {
        expanded.push_str(&rest[..at]);
        rest = &rest[at + 1..];
        let braced = rest.strip_prefix('{').and_then(|rest| rest.split_once('}'));
        let name;
        (name, rest) = braced.unwrap_or_else(|| {
            let is_part = |c: char| c.is_ascii_alphanumeric() || c == '_';
            rest.split_at(rest.find(|c| !is_part(c)).unwrap_or(rest.len()))
        });
        let value = values
            .entry(name)
            .or_insert_with(|| variable(name).unwrap_or_default());
        expanded.push_str(value);
    }
    expanded.push_str(rest);
    expanded
}

/// A pattern for the name of a file: `*`, `?`, `[a-z]`, `[^a-z]`.
fn glob(pattern: &str) -> Option<Regex> {
    let mut expression = String::from("(?s)^");
    let mut characters = pattern.chars();
    while let Some(c) = characters.next() {
        match c {
            '*' => expression.push_str(".*"),
            '?' => expression.push('.'),
            '[' => {
                expression.push('[');
                let mut is_first = true;
                loop {
                    match characters.next()? {
                        ']' if !is_first => break,
                        '^' if is_first => {
                            expression.push('^');
                            continue;
                        }
                        '-' => expression.push('-'),
                        c => expression.push_str(&regex::escape(&c.to_string())),
                    }
                    is_first = false;
                }
                expression.push(']');
            }
            c => expression.push_str(&regex::escape(&c.to_string())),
        }
    }
    expression.push('$');
    Regex::new(&expression)
        .inspect_err(|error| debug!(pattern, %error, "a pattern of files is not understood"))
        .ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(item: &Item) -> Vec<&str> {
        item.content.iter().map(|row| row.get("Name")).collect()
    }

    fn tree() -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for name in ["a.conf", "b.txt", "deep/c.conf", "deep/deeper/d.conf"] {
            let path = folder.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "12345").unwrap();
        }
        folder
    }

    fn filter(folder: &Path, rest: &str) -> String {
        format!(r#"[{{"Path":"{}",{rest}}}]"#, folder.display())
    }

    #[test]
    fn files_are_found_by_pattern_in_a_folder_or_below_it() {
        let tree = tree();

        let flat = item(&filter(tree.path(), r#""Pattern":["*.conf"]"#)).unwrap();
        let deep = filter(
            tree.path(),
            r#""Pattern":["*.conf","?.txt"],"Recursive":true"#,
        );
        let deep = item(&deep).unwrap();

        assert_eq!(names(&flat), ["a.conf"]);
        assert_eq!(names(&deep), ["a.conf", "b.txt", "c.conf", "d.conf"]);
        let row = &flat.content[0];
        assert_eq!(row.get("Size"), "5");
        assert_eq!(row.get("InstalledDir"), tree.path().to_str().unwrap());
        assert!(row.get("ModificationTime").ends_with('Z'));
    }

    #[test]
    fn variables_of_the_environment_are_replaced() {
        let variable = |name: &str| (name == "HOME").then(|| "/root".to_owned());

        for (path, expected) in [
            ("$HOME/x", "/root/x"),
            ("${HOME}x", "/rootx"),
            ("/a$NONE/b", "/a/b"),
            ("/a$", "/a"),
            ("plain", "plain"),
        ] {
            assert_eq!(expand(path, variable), expected, "{path}");
        }
    }

    #[test]
    fn patterns_match_whole_names() {
        let matches = |pattern: &str, name: &str| glob(pattern).unwrap().is_match(name);

        assert!(matches("*.conf", "a.conf") && !matches("*.conf", "a.confx"));
        assert!(matches("a?c", "abc") && !matches("a?c", "ac"));
        assert!(matches("[a-c]1", "b1") && !matches("[^a-c]1", "b1"));
        assert!(!matches("a.c", "abc"));
        assert!(glob("[a").is_none());
    }

    #[test]
    fn more_files_than_may_be_told_are_an_error() {
        let folder = tempfile::tempdir().unwrap();
        for number in 0..=FILES {
            fs::write(folder.path().join(number.to_string()), "").unwrap();
        }

        let error = item(&filter(folder.path(), r#""Pattern":["*"]"#)).unwrap_err();

        assert_eq!(error.to_string(), "File Count Limit Exceeded");
    }

    #[test]
    fn more_folders_than_may_be_looked_through_are_an_error() {
        let tree = tree();
        let rest = r#""Pattern":["*"],"Recursive":true,"DirScanLimit":2"#;

        let error = item(&filter(tree.path(), rest)).unwrap_err();

        assert_eq!(error.to_string(), "Directory Scan Limit Exceeded");
    }

    #[test]
    fn links_are_told_and_not_followed() {
        let tree = tree();
        std::os::unix::fs::symlink(tree.path(), tree.path().join("loop")).unwrap();
        std::os::unix::fs::symlink("/nonexistent", tree.path().join("gone")).unwrap();

        let rest = r#""Pattern":["*"],"Recursive":true"#;
        let item = item(&filter(tree.path(), rest)).unwrap();

        assert_eq!(
            names(&item),
            ["a.conf", "b.txt", "c.conf", "d.conf", "loop"]
        );
    }

    #[test]
    fn filter_that_is_none_is_an_error_and_a_folder_that_is_not_there_is_not() {
        assert!(matches!(item("files"), Err(GatherError::Filter(_))));
        let nowhere = filter(Path::new("/nonexistent"), r#""Pattern":["*"]"#);
        assert!(item(&nowhere).unwrap().content.is_empty());
    }
}

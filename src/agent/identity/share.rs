//! The shared credentials file, where AWS tools on the host find the node's credentials.

use std::fmt::Write as _;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use crate::aws::Credentials;
use crate::runtime::atomic_file;

const DEFAULT_PROFILE: &str = "default";
const FILE_MODE: u32 = 0o600;

/// Where credentials are shared.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// The file.
    pub file: PathBuf,
    /// The profile in it; empty for `default`.
    pub profile: String,
    /// Replace a file that cannot be understood.
    pub force: bool,
}

/// Why credentials are not shared.
#[derive(Debug, thiserror::Error)]
pub enum ShareError {
    /// The file cannot be read or written.
    #[error("shared credentials file {} cannot be updated", .path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        cause: io::Error,
    },
    /// The file is not a credentials file.
    #[error("shared credentials file {} is not understood at line {line}", .path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
    },
}

impl Settings {
    /// Puts `credentials` into the profile; the rest of the file stays as it is.
    ///
    /// # Errors
    /// [`ShareError`].
    pub fn store(&self, credentials: &Credentials) -> Result<(), ShareError> {
        let failed = |cause| ShareError::Io {
            path: self.file.clone(),
            cause,
        };
        // Through a symbolic link, so that it stays one.
        let path = fs::canonicalize(&self.file).unwrap_or_else(|_| self.file.clone());
        let old = match fs::read(&path) {
            Ok(old) => Some(old),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(failed(error)),
        };
        let text = self.merge(old.as_deref().unwrap_or_default(), credentials)?;
        write(&path, &text).map_err(failed)
    }

    fn merge(&self, old: &[u8], credentials: &Credentials) -> Result<String, ShareError> {
        let profile = match self.profile.as_str() {
            "" => DEFAULT_PROFILE,
            profile => profile,
        };
        let values = [
            ("aws_access_key_id", credentials.access_key_id()),
            ("aws_secret_access_key", credentials.secret_access_key()),
            (
                "aws_session_token",
                credentials.session_token().unwrap_or_default(),
            ),
        ];
        let merged = match std::str::from_utf8(old) {
            Ok(text) => with_values(text, profile, &values),
            Err(_) => Err(1),
        };
        match merged {
            Ok(text) => Ok(text),
            Err(_) if self.force => Ok(with_values("", profile, &values).unwrap_or_default()),
            Err(line) => Err(ShareError::Malformed {
                path: self.file.clone(),
                line,
            }),
        }
    }
}

/// Writes the file for its owner alone: who owned it before owns it still.
fn write(path: &Path, text: &str) -> io::Result<()> {
    if let Some(folder) = path.parent() {
        atomic_file::create_private_dir(folder)?;
    }
    let owner = fs::metadata(path).ok();
    atomic_file::write(path, text.as_bytes(), FILE_MODE)?;
    if let Some(owner) = owner {
        std::os::unix::fs::chown(path, Some(owner.uid()), Some(owner.gid()))?;
    }
    Ok(())
}

/// `text` with `values` in section `profile`, which is added if it is not there. Fails with the
/// number of the first line that is neither a section, a setting, a comment nor blank.
fn with_values(text: &str, profile: &str, values: &[(&str, &str)]) -> Result<String, usize> {
    let mut lines: Vec<String> = Vec::new();
    // Where the settings of the profile end, once it has been seen.
    let mut end = None;
    let mut inside = false;
    for (number, line) in text.lines().enumerate() {
        match parse_line(line).ok_or(number + 1)? {
            Line::Section(name) => inside = name == profile,
            Line::Setting(name) if inside => {
                if values.iter().any(|(key, _)| key.eq_ignore_ascii_case(name)) {
                    continue;
                }
            }
            Line::Setting(_) => {}
            Line::Other => {
                lines.push(line.to_owned());
                continue;
            }
        }
        lines.push(line.to_owned());
        if inside {
            end = Some(lines.len());
        }
    }
    let end = end.unwrap_or_else(|| {
        if lines.last().is_some_and(|line| !line.trim().is_empty()) {
            lines.push(String::new());
        }
        lines.push(format!("[{profile}]"));
        lines.len()
    });
    let settings = values.iter().map(|(key, value)| format!("{key} = {value}"));
    lines.splice(end..end, settings);
    Ok(lines.iter().fold(String::new(), |mut text, line| {
        // Writing to a string does not fail.
        let _ = writeln!(text, "{line}");
        text
    }))
}

enum Line<'a> {
    Section(&'a str),
    Setting(&'a str),
    /// A comment, a blank line, or the indented part of a nested setting.
    Other,
}

fn parse_line(line: &str) -> Option<Line<'_>> {
    let trimmed = line.trim();
    if trimmed.is_empty() || trimmed.starts_with(['#', ';']) || line.starts_with([' ', '\t']) {
        return Some(Line::Other);
    }
    if let Some(rest) = trimmed.strip_prefix('[') {
        return rest
            .split_once(']')
            .map(|(name, _)| Line::Section(name.trim()));
    }
    let (name, _) = trimmed.split_once(['=', ':'])?;
    Some(Line::Setting(name.trim()))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn credentials() -> Credentials {
        Credentials::new("ASIA1", "secret", Some("token".into()), None, "test")
    }

    fn merged(old: &str, profile: &str, force: bool) -> Result<String, ShareError> {
        let settings = Settings {
            file: "/x/credentials".into(),
            profile: profile.into(),
            force,
        };
        settings.merge(old.as_bytes(), &credentials())
    }

    const OURS: &str =
        "aws_access_key_id = ASIA1\naws_secret_access_key = secret\naws_session_token = token\n";

    #[test]
    fn empty_file_gets_the_default_section() {
        assert_eq!(merged("", "", false).unwrap(), format!("[default]\n{OURS}"));
    }

    #[test]
    fn other_sections_settings_and_comments_stay() {
        let old = "# mine\n[work]\naws_access_key_id=AKIA\n\n[default]\naws_access_key_id = OLD\nregion = eu-west-1\naws_session_token=OLD\n\n[last]\na = b\n";

        assert_eq!(
            merged(old, "", false).unwrap(),
            format!(
                "# mine\n[work]\naws_access_key_id=AKIA\n\n[default]\nregion = eu-west-1\n{OURS}\n[last]\na = b\n"
            )
        );
    }

    #[test]
    fn second_refresh_changes_nothing_but_values() {
        let first = merged("[a]\nb = c\n", "ssm", false).unwrap();

        assert_eq!(merged(&first, "ssm", false).unwrap(), first);
        assert_eq!(first, format!("[a]\nb = c\n\n[ssm]\n{OURS}"));
    }

    #[test]
    fn file_that_is_not_understood_is_left_alone_unless_forced() {
        let old = "[default]\nwhat is this\n";

        assert!(matches!(
            merged(old, "", false),
            Err(ShareError::Malformed { line: 2, .. })
        ));
        assert_eq!(merged(old, "", true).unwrap(), format!("[default]\n{OURS}"));
    }

    #[test]
    fn file_and_folder_are_made_for_the_owner_alone() {
        let home = tempfile::tempdir().unwrap();
        let file = home.path().join(".aws/credentials");
        let settings = Settings {
            file: file.clone(),
            profile: String::new(),
            force: false,
        };

        settings.store(&credentials()).unwrap();

        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(
            fs::read_to_string(&file).unwrap(),
            format!("[default]\n{OURS}")
        );
        assert_eq!((mode(&file), mode(file.parent().unwrap())), (0o600, 0o700));
    }

    #[test]
    fn symbolic_link_stays_a_link() {
        let home = tempfile::tempdir().unwrap();
        let target = home.path().join("target");
        let link = home.path().join("link");
        fs::write(&target, "").unwrap();
        std::os::unix::fs::symlink(&target, &link).unwrap();
        let settings = Settings {
            file: link.clone(),
            profile: String::new(),
            force: false,
        };

        settings.store(&credentials()).unwrap();

        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
        assert!(fs::read_to_string(&target).unwrap().contains("ASIA1"));
    }
}

//! Whether the credentials that the agent shares with other programs can be read, and are fresh.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use jiff::Timestamp;
use serde::Deserialize;

use super::subject::Subject;
use super::verdict::Verdict;

/// Where the agent writes who it is, below its state folder.
const RUNTIME_CONFIG: &str = "runtimeconfig/identity_config.json";

/// What it writes there, as far as it matters here.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
#[derive(Default)]
struct RuntimeConfig {
    share_file: String,
    share_profile: String,
    credentials_expires_at: String,
}

/// Looks at the file that the agent says it shares.
pub(super) fn check(subject: &Subject) -> Verdict {
    let path = subject.places.state.join(RUNTIME_CONFIG);
    let text = match fs::read(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Verdict::skipped("the agent has not had credentials yet");
        }
        Err(error) => {
            return Verdict::failed(
                format!("{} cannot be read: {error}", path.display()),
                "run it as root",
            );
        }
    };
    match serde_json::from_slice::<RuntimeConfig>(&text) {
        Ok(config) => judge(&config, Timestamp::now()),
        Err(error) => Verdict::failed(
            format!("{} is damaged: {error}", path.display()),
            "restart the agent, which writes it anew",
        ),
    }
}

fn judge(config: &RuntimeConfig, now: Timestamp) -> Verdict {
    if config.share_file.is_empty() {
        return Verdict::skipped("the agent shares no credentials");
    }
    let file = Path::new(&config.share_file);
    let shown = file.display();
    let text = match fs::read_to_string(file) {
        Ok(text) => text,
        Err(error) => {
            return Verdict::failed(
                format!("{shown} cannot be read: {error}"),
                "restart the agent, which writes it anew; SsmAgent and others may need HOME in the unit",
            );
        }
    };
    let profile = match config.share_profile.as_str() {
        "" => "default",
        profile => profile,
    };
    if !text
        .lines()
        .any(|line| line.trim() == format!("[{profile}]"))
    {
        return Verdict::failed(
            format!("{shown} has no profile {profile}"),
            "restart the agent, which writes it anew",
        );
    }
    let mode = fs::metadata(file).map_or(0, |metadata| metadata.mode());
    if mode & 0o077 != 0 {
        return Verdict::failed(
            format!("{shown} may be read by others (mode {:04o})", mode & 0o7777),
            format!("chmod 600 {shown}"),
        );
    }
    match config.credentials_expires_at.parse::<Timestamp>() {
        Ok(expiry) if expiry <= now => Verdict::failed(
            format!("the credentials in {shown} expired at {expiry:.0}"),
            "start the agent, which renews them; if it runs, the check AWS Credentials tells why it cannot",
        ),
        Ok(expiry) => Verdict::success(format!("{shown} has credentials until {expiry:.0}")),
        Err(_) => Verdict::success(format!("{shown} has credentials")),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::super::verdict::Outcome;
    use super::*;

    #[test]
    fn credentials_are_fresh_readable_and_private_or_it_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("credentials");
        let now: Timestamp = "2026-11-24T12:00:00Z".parse().unwrap();
        let config = |expiry: &str| RuntimeConfig {
            share_file: file.display().to_string(),
            share_profile: String::new(),
            credentials_expires_at: expiry.to_owned(),
        };
        let (fresh, stale) = ("2026-11-24T12:30:00Z", "2026-11-24T11:30:00Z");
        let look = |expiry| judge(&config(expiry), now);

        assert!(look(fresh).note.contains("cannot be read"));
        fs::write(&file, "[other]\n").unwrap();
        assert!(look(fresh).note.contains("no profile default"));
        fs::write(&file, "[default]\naws_access_key_id = A\n").unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).unwrap();
        assert!(look(fresh).note.contains("mode 0644"));
        fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
        assert_eq!(look(fresh).status, Outcome::Success);
        let expired = look(stale);
        assert_eq!(expired.status, Outcome::Failed);
        assert!(expired.note.contains("expired at 2026-11-24T11:30:00Z"));
        assert_eq!(
            judge(&RuntimeConfig::default(), now).status,
            Outcome::Skipped
        );
    }
}

//! Tells whether a keeper's sessions are configured as the agent's next ones shall be.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;

use aws_lc_rs::digest::{Context, SHA256};

use crate::agent::config::Settings;

/// The beginnings of variables that sessions or their records depend on.
const VARIABLES: [&str; 4] = ["AWS_", "LANG", "LC_", "SSL_CERT_"];
/// The end of others, in any case.
const PROXY: &str = "_proxy";

/// The digest of `settings` and of what the environment adds to them.
pub fn of(settings: &Settings) -> String {
    digest(settings, std::env::vars_os().collect())
}

fn digest(settings: &Settings, mut variables: Vec<(OsString, OsString)>) -> String {
    variables.retain(|(name, _)| matters(name));
    variables.sort();
    let mut hash = Context::new(&SHA256);
    hash.update(format!("{settings:?}").as_bytes());
    for (name, value) in variables {
        for part in [name, value] {
            hash.update(&[0]);
            hash.update(part.as_bytes());
        }
    }
    let digest = hash.finish();
    digest
        .as_ref()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

fn matters(name: &OsStr) -> bool {
    let Some(name) = name.to_str() else {
        return false;
    };
    VARIABLES.iter().any(|start| name.starts_with(start))
        || name.to_ascii_lowercase().ends_with(PROXY)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::agent::config;

    #[test]
    fn other_settings_and_proxies_have_another_digest_and_invocations_the_same() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "{}").unwrap();
        let (settings, _) = config::load(file.path()).unwrap();
        let mut others = settings.clone();
        others.session.drain += Duration::from_secs(1);
        let variables = |pairs: &[(&str, &str)]| {
            let pairs = pairs.iter();
            pairs
                .map(|&(name, value)| (name.into(), value.into()))
                .collect::<Vec<(OsString, OsString)>>()
        };
        let first = digest(
            &settings,
            variables(&[("https_proxy", "a"), ("INVOCATION_ID", "1")]),
        );

        let again = variables(&[("INVOCATION_ID", "2"), ("https_proxy", "a")]);
        assert_eq!(digest(&settings, again.clone()), first);
        assert_ne!(digest(&others, again), first);
        for changed in [("https_proxy", "b"), ("HTTPS_PROXY", "a")] {
            assert_ne!(digest(&settings, variables(&[changed])), first);
        }
    }
}

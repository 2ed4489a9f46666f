//! Whether there is somebody whose certificates are believed.

use super::subject::Subject;
use super::verdict::Verdict;
use crate::runtime::tls;

/// Counts the system's authorities, and tells of our own.
pub(super) fn check(subject: &Subject) -> Verdict {
    if let Err(missing) = &subject.tls {
        return Verdict::failed(&missing.note, &missing.hint);
    }
    let own = match &subject.settings {
        Ok(settings) => settings.ca_file.as_deref(),
        Err(_) => None,
    };
    judge(
        tls::trusted_authorities(),
        own.map(|file| file.display().to_string()),
    )
}

fn judge(authorities: usize, own: Option<String>) -> Verdict {
    match (authorities, own) {
        (0, None) => Verdict::failed(
            "this host trusts no certificate authority",
            "install the package ca-certificates, or name a PEM file in SSL_CERT_FILE or SsmAgent.CaFile",
        ),
        (_, None) => Verdict::success(format!("{authorities} of the system")),
        (_, Some(file)) => Verdict::success(format!("{authorities} of the system, and {file}")),
    }
}

#[cfg(test)]
mod tests {
    use super::super::verdict::Outcome;
    use super::*;

    #[test]
    fn host_without_authorities_trusts_only_the_configured_one() {
        assert_eq!(judge(0, None).status, Outcome::Failed);
        assert_eq!(judge(0, Some("/ca.pem".into())).status, Outcome::Success);
        assert_eq!(judge(140, None).note, "140 of the system");
    }
}

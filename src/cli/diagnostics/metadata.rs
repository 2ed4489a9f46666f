//! Whether instance metadata answer, on a host that has no registration of its own.

use std::sync::Arc;

use super::subject::Subject;
use super::verdict::Verdict;
use crate::agent::identity::Kind;
use crate::aws::metadata::{Metadata, MetadataError, Patience};
use crate::runtime::cause::in_one_line;
use crate::runtime::tls;

const HINT: &str = "on EC2, turn instance metadata on and let this host reach 169.254.169.254 (in a container, raise the hop limit to 2); elsewhere, register it with `ssm-agent register`";

/// Asks who the instance is.
pub(super) async fn check(subject: Arc<Subject>) -> Verdict {
    match &subject.who {
        Ok(who) if who.kind == Kind::OnPrem => {
            return Verdict::skipped("Instance has hybrid registration");
        }
        Ok(who) if who.kind == Kind::Custom => {
            return Verdict::skipped("the configuration states the identity");
        }
        Ok(_) | Err(_) => {}
    }
    match metadata(&subject).instance().await {
        Ok(instance) => Verdict::success(format!(
            "IMDS is accessible and has instance id {} in region {}",
            instance.id, instance.region
        )),
        Err(MetadataError::Disabled) => Verdict::skipped("AWS_EC2_METADATA_DISABLED is set"),
        Err(error) => Verdict::failed(
            format!("Failed to query IMDS: {}", in_one_line(&error)),
            HINT,
        ),
    }
}

/// The instance metadata that the agent would ask.
pub(super) fn metadata(subject: &Subject) -> Metadata {
    let tls = subject.tls.clone().unwrap_or_else(|_| tls::client_config());
    let patience = Patience {
        retries: 0,
        ..Patience::CERTAIN
    };
    Metadata::new(&subject.metadata, tls, patience)
}

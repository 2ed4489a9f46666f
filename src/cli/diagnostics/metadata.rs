//! Whether instance metadata answer, on a host that has no registration of its own.

use std::sync::Arc;
use std::time::Duration;

use http::Method;
use tokio::time::timeout;

use super::subject::Subject;
use super::verdict::Verdict;
use crate::agent::identity::Kind;
use crate::cli::probe::{LINE, ProbeError, exchange};
use crate::runtime::cause::in_one_line;
use crate::runtime::{proxy, tls};

/// An address on this host's own link answers at once or never.
const PATIENCE: Duration = Duration::from_secs(2);
const HINT: &str = "on EC2, turn instance metadata on and let this host reach 169.254.169.254; elsewhere, register it with `ssm-agent register`";

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
    match timeout(PATIENCE, ask(&subject)).await {
        Ok(Ok(Some((instance, region)))) => Verdict::success(format!(
            "IMDS is accessible and has instance id {instance} in region {region}"
        )),
        Ok(Ok(None)) => Verdict::failed("Failed to query IMDS: it refuses to answer", HINT),
        Ok(Err(error)) => Verdict::failed(
            format!("Failed to query IMDS: {}", in_one_line(&error)),
            HINT,
        ),
        Err(_) => Verdict::failed("IMDS request timeout", HINT),
    }
}

/// The instance and its region; none if it does not want to tell.
async fn ask(subject: &Subject) -> Result<Option<(String, String)>, ProbeError> {
    let (tls, no_proxy) = (tls::client_config(), proxy::Settings::default());
    let call = async |method, path: &str, header: (&'static str, &str)| {
        let mut url = subject.metadata.clone();
        url.set_path(path);
        let answer = exchange(method, &url, &[header], &tls, &no_proxy, LINE).await?;
        Ok::<_, ProbeError>((answer.status == 200).then_some(answer.body))
    };
    let life = ("x-aws-ec2-metadata-token-ttl-seconds", "60");
    let Some(token) = call(Method::PUT, "/latest/api/token", life).await? else {
        return Ok(None);
    };
    let token = ("x-aws-ec2-metadata-token", token.as_str());
    let instance = call(Method::GET, "/latest/meta-data/instance-id", token).await?;
    let region = call(Method::GET, "/latest/meta-data/placement/region", token).await?;
    Ok(instance.zip(region))
}

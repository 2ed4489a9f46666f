//! Whether the service gives this node credentials.

use std::sync::Arc;
use std::time::SystemTime;

use jiff::Timestamp;

use super::subject::Subject;
use super::verdict::Verdict;
use crate::agent::identity::{Kind, Vault};
use crate::aws::{
    CallError, ChainCredentials, Client, CredentialSource as _, NoCredentials, NodeKey, NodeSigner,
};
use crate::runtime::cause::in_one_line;

const REGISTER: &str =
    "register this host again with `ssm-agent register --code CODE --id ID --region REGION`";

/// Asks for credentials as the agent does. Those that it has stay valid.
pub(super) async fn check(subject: Arc<Subject>) -> Verdict {
    let who = match &subject.who {
        Ok(who) => who,
        Err(missing) => {
            return Verdict::failed(
                format!("No credentials available: {}", missing.note),
                &missing.hint,
            );
        }
    };
    match who.kind {
        Kind::OnPrem => of_registration(&subject).await,
        Kind::Custom => {
            let chain = ChainCredentials::new(None, Some(&who.region));
            match chain.credentials().await {
                Ok(credentials) => available(&who.node_id, credentials.expiry()),
                Err(error) => Verdict::failed(
                    format!("No credentials available: {}", in_one_line(&error)),
                    "give the agent credentials of the default AWS chain: environment, profile or metadata",
                ),
            }
        }
        Kind::Ec2 | Kind::Ecs => Verdict::skipped("not looked at for this kind of identity"),
    }
}

async fn of_registration(subject: &Subject) -> Verdict {
    let (Ok(endpoints), Ok(tls)) = (&subject.endpoints, &subject.tls) else {
        return Verdict::skipped("Unable to fetch AWS region details");
    };
    let vault = Vault::new(&subject.places.state);
    let (registration, fingerprint) = match (vault.registration(), vault.fingerprint()) {
        (Ok(Some(registration)), Ok(fingerprint)) => (registration, fingerprint),
        (Ok(None), _) => return Verdict::skipped("Instance does not have hybrid registration"),
        (Err(error), _) | (_, Err(error)) => {
            return Verdict::failed(in_one_line(&error), "run it as root");
        }
    };
    let key = match NodeKey::parse(&registration.private_key) {
        Ok(key) => key,
        Err(error) => return Verdict::failed(in_one_line(&error), REGISTER),
    };
    let client = Client::with_proxies(
        endpoints.clone(),
        Arc::clone(tls),
        Arc::new(NoCredentials),
        &subject.proxies,
    );
    let signer = NodeSigner {
        node_id: &registration.node_id,
        key: &key,
    };
    let fingerprint = fingerprint.unwrap_or_default().fingerprint;
    match client.request_role_token(signer, &fingerprint).await {
        Ok(token) => available(&registration.node_id, Some(token.expires)),
        Err(error) => Verdict::failed(
            format!("No credentials available: {}", in_one_line(&error)),
            hint(&error),
        ),
    }
}

fn hint(error: &CallError) -> &'static str {
    match (error.code(), error.status()) {
        (Some("MachineFingerprintDoesNotMatch"), _) => {
            "this host is a copy of the one that was registered, or its hardware has changed: register it anew with `ssm-agent register --yes --code CODE --id ID --region REGION`; the other one keeps its id"
        }
        (_, Some(400..=499)) => REGISTER,
        (_, Some(_)) => "the service is overloaded or broken: wait, and check again",
        (_, None) => "the checks of connectivity tell where the way to the service ends",
    }
}

fn available(node: &str, expiry: Option<SystemTime>) -> Verdict {
    let expiry = expiry.and_then(|time| Timestamp::try_from(time).ok());
    Verdict::success(match expiry {
        Some(time) => format!("Credentials are for {node} and will expire at {time:.0}"),
        None => format!("Credentials are for {node} and will not expire"),
    })
}

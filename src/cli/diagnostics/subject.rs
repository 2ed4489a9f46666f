//! What the checks look at: this host's places, configuration, identity and running agent.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::agent::config::{self, Settings};
use crate::agent::identity::{self, Who};
use crate::agent::{Places, setup};
use crate::aws::{Endpoints, Overrides, metadata};
use crate::cli::agent::{self, AgentError};
use crate::protocol::wire::local::AgentStatus;
use crate::runtime::cause::in_one_line;
use crate::runtime::{proxy, tls};

/// The variable that names further certificates.
const CERTIFICATES_VARIABLE: &str = "SSL_CERT_FILE";

/// Something that is not there, and the next step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Missing {
    /// What is wrong.
    pub(crate) note: String,
    /// What to do.
    pub(crate) hint: String,
}

/// What the checks look at.
pub(crate) struct Subject {
    /// Folders and files.
    pub(crate) places: Places,
    /// The configuration.
    pub(crate) settings: Result<Settings, Missing>,
    /// What is odd in it.
    pub(crate) warnings: Vec<String>,
    /// Who this host is.
    pub(crate) who: Result<Who, Missing>,
    /// Where the services are.
    pub(crate) endpoints: Result<Endpoints, Missing>,
    /// Whom to trust.
    pub(crate) tls: Result<Arc<rustls::ClientConfig>, Missing>,
    /// The environment of the agent, or else ours.
    pub(crate) environment: BTreeMap<String, String>,
    /// The proxies in it.
    pub(crate) proxies: proxy::Settings,
    /// What the running agent says.
    pub(crate) agent: Result<AgentStatus, AgentError>,
    /// Where instance metadata are.
    pub(crate) metadata: metadata::Places,
}

impl Subject {
    /// Reads what there is, and asks the agent.
    pub(crate) async fn gather(places: Places) -> Self {
        let agent = agent::status(&places.socket()).await;
        let pid = agent.as_ref().ok().map(|status| status.pid);
        let environment = environment_of(pid);
        Self::of(places, agent, environment).await
    }

    /// The subject of these parts.
    pub(super) async fn of(
        places: Places,
        agent: Result<AgentStatus, AgentError>,
        environment: BTreeMap<String, String>,
    ) -> Self {
        let (settings, warnings) = match config::load(&places.config) {
            Ok((settings, warnings)) => (Ok(settings), warnings),
            Err(error) => {
                let missing = Missing {
                    note: in_one_line(&error),
                    hint: "correct the file; `ssm-agent check-config` checks it".to_owned(),
                };
                (Err(missing), Vec::new())
            }
        };
        let lookup = |name: &str| environment.get(name).cloned();
        let tls = settings
            .clone()
            .and_then(|settings| trust(&settings, &environment));
        let who = match &settings {
            Ok(settings) => {
                let tls = tls.clone().unwrap_or_else(|_| tls::client_config());
                let identity = setup::identity_in(settings, &places.state, lookup);
                identity::who(&identity, &tls)
                    .await
                    .map_err(|error| Missing {
                        note: in_one_line(&error),
                        hint: error.hint().to_owned(),
                    })
            }
            Err(missing) => Err(missing.clone()),
        };
        let endpoints = settings.clone().and_then(|settings| {
            let overrides = setup::overrides_in(&settings, lookup);
            endpoints(&settings, &overrides, who.as_ref().ok())
        });
        Self {
            proxies: proxy::Settings::from_lookup(|name| environment.get(name).cloned()),
            metadata: metadata::Places::from_lookup(lookup),
            places,
            settings,
            warnings,
            who,
            endpoints,
            tls,
            environment,
            agent,
        }
    }
}

fn endpoints(
    settings: &Settings,
    overrides: &Overrides,
    who: Option<&Who>,
) -> Result<Endpoints, Missing> {
    let region = match who {
        Some(who) => who.region.as_str(),
        None => settings.endpoints.region.as_str(),
    };
    if region.is_empty() {
        return Err(Missing {
            note: "Unable to fetch AWS region details".to_owned(),
            hint: "register this host".to_owned(),
        });
    }
    let endpoints = overrides.resolve(region);
    endpoints.map_err(|error| Missing {
        note: in_one_line(&error),
        hint: "check the region and the endpoints of the configuration".to_owned(),
    })
}

/// The TLS that the agent has: it may have been started with certificates that we were not.
fn trust(
    settings: &Settings,
    environment: &BTreeMap<String, String>,
) -> Result<Arc<rustls::ClientConfig>, Missing> {
    let named = environment.get(CERTIFICATES_VARIABLE);
    let theirs = named.filter(|file| std::env::var(CERTIFICATES_VARIABLE).as_ref() != Ok(*file));
    let mut pem = Vec::new();
    if let Some(certificates) = theirs.and_then(|file| std::fs::read(file).ok()) {
        pem.extend(certificates);
        pem.push(b'\n');
    }
    let Some(file) = &settings.ca_file else {
        if pem.is_empty() {
            return Ok(tls::client_config());
        }
        return tls::client_config_with(&pem).map_err(|error| Missing {
            note: format!("the SSL_CERT_FILE of the agent cannot be used: {error}"),
            hint: "name a PEM file with certificates in the agent's unit".to_owned(),
        });
    };
    let certificates = std::fs::read(file).and_then(|own| {
        // What is in the agent's variable must not hide that there is nothing in the file.
        tls::client_config_with(&own)?;
        pem.extend(own);
        tls::client_config_with(&pem)
    });
    certificates.map_err(|error| Missing {
        note: format!("SsmAgent.CaFile {} cannot be used: {error}", file.display()),
        hint: "name a readable PEM file with the certificate of the gateway's authority".to_owned(),
    })
}

/// The environment of the agent, whose proxies may be set in its unit; ours if it cannot be read.
fn environment_of(pid: Option<u32>) -> BTreeMap<String, String> {
    let theirs = pid.and_then(|pid| std::fs::read(format!("/proc/{pid}/environ")).ok());
    let Some(bytes) = theirs else {
        return std::env::vars_os()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
            .collect();
    };
    let text = String::from_utf8_lossy(&bytes);
    let pairs = text.split('\0').filter_map(|pair| pair.split_once('='));
    pairs
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect()
}

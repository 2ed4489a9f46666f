//! Whether the names of the services have addresses.

use std::collections::BTreeMap;
use std::sync::Arc;

use tokio::net::lookup_host;
use url::{Host, Url};

use super::subject::Subject;
use super::verdict::Verdict;

/// Looks up the names of the two services that the agent cannot do without.
pub(super) async fn check(subject: Arc<Subject>) -> Verdict {
    let Ok(endpoints) = &subject.endpoints else {
        return Verdict::skipped("Unable to fetch AWS region details");
    };
    let mut names = BTreeMap::new();
    for url in [&endpoints.ssm, &endpoints.messages] {
        match name_of(url) {
            Some(_) if subject.proxies.proxy_for(url).is_some() => {}
            Some(name) => {
                names.insert(name, url.port_or_known_default().unwrap_or_default());
            }
            None => {}
        }
    }
    if names.is_empty() {
        return Verdict::skipped("not needed: the endpoints are addresses, or reached by a proxy");
    }
    let mut found = Vec::new();
    for (name, port) in names {
        match lookup_host((name.as_str(), port)).await {
            Ok(addresses) => {
                let addresses: Vec<String> =
                    addresses.map(|address| address.ip().to_string()).collect();
                found.push(format!("{name} is {}", addresses.join(", ")));
            }
            Err(error) => {
                return Verdict::failed(
                    format!("{name} cannot be looked up: {error}"),
                    "check /etc/resolv.conf and that its servers answer; a private endpoint needs its private DNS",
                );
            }
        }
    }
    Verdict::success(found.join("; "))
}

fn name_of(url: &Url) -> Option<String> {
    match url.host()? {
        Host::Domain(name) => Some(name.to_owned()),
        Host::Ipv4(_) | Host::Ipv6(_) => None,
    }
}

//! Which proxies the agent has, and whether they can be used. Passwords in them are not shown.

use super::subject::Subject;
use super::verdict::Verdict;
use crate::runtime::proxy::Proxy;

/// Variables that name a proxy; small letters go before large ones.
const PROXIES: [&str; 6] = [
    "https_proxy",
    "HTTPS_PROXY",
    "http_proxy",
    "HTTP_PROXY",
    "all_proxy",
    "ALL_PROXY",
];
/// Variables that name what is reached without.
const EXEMPTIONS: [&str; 2] = ["no_proxy", "NO_PROXY"];

/// Reads the variables.
pub(super) fn check(subject: &Subject) -> Verdict {
    let value = |name: &str| {
        let value = subject.environment.get(name)?.trim();
        (!value.is_empty()).then_some(value)
    };
    let mut set = Vec::new();
    for name in PROXIES {
        let Some(value) = value(name) else { continue };
        match Proxy::parse(value) {
            Ok(proxy) => set.push(format!("{name}={proxy}")),
            Err(error) => {
                return Verdict::failed(
                    format!("{name} is not used: {error}"),
                    "write it as http://HOST:PORT",
                );
            }
        }
    }
    if set.is_empty() {
        return Verdict::skipped("No proxy configuration detected");
    }
    for name in EXEMPTIONS {
        if let Some(value) = value(name) {
            set.push(format!("{name}={value}"));
        }
    }
    let whose = match subject.agent {
        Ok(_) => "",
        Err(_) => " (of this terminal: the agent does not run)",
    };
    Verdict::success(format!(
        "Detected proxy configuration: {}{whose}",
        set.join(", ")
    ))
}

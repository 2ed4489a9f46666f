//! Each check against a host, a service or an agent that is not as it should be.

mod instance;

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::sync::Arc;

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::task::JoinSet;

use super::connectivity::Service;
use super::*;
use crate::agent::Places;
use crate::agent::identity::Vault;
use crate::agent::identity::vault::Registration;
use crate::aws::NodeKey;
use crate::aws::tests::server::{Reply, TestServer};
use crate::cli::agent::AgentError;
use crate::protocol::wire::local::{
    AgentStatus, ChannelState, Commands, ControlChannel, Problem, Time,
};
use crate::transport::local_socket::AskError;

const NODE: &str = "mi-0123456789abcdef0";

#[tokio::test]
async fn service_that_answers_is_reachable_whatever_it_answers() {
    let server = TestServer::start(|_, _| Reply::refusal("Nonsense")).await;
    let host = Host::new();
    host.configure(&format!("http://{}", server.address));

    let verdict = connectivity::check(host.subject().await, Service::Ssm).await;

    assert_eq!(verdict.status, Outcome::Success, "{verdict:?}");
    assert!(verdict.note.starts_with("127.0.0.1 is reachable"));
    assert!(verdict.note.contains("status 400"), "{verdict:?}");
}

#[tokio::test]
async fn closed_port_and_unknown_name_are_told_apart() {
    let host = Host::new();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let closed = listener.local_addr().unwrap();
    drop(listener);

    host.configure(&format!("https://{closed}"));
    let refused = connectivity::check(host.subject().await, Service::Ssm).await;
    host.configure("https://no-such-host.invalid");
    let unknown = connectivity::check(host.subject().await, Service::Ssm).await;
    let name = names::check(host.subject().await).await;

    failed(
        &refused,
        "127.0.0.1 is not reachable: cannot connect",
        "firewall",
    );
    failed(
        &unknown,
        "cannot look up no-such-host.invalid",
        "resolv.conf",
    );
    failed(
        &name,
        "no-such-host.invalid cannot be looked up",
        "resolv.conf",
    );
}

#[tokio::test]
async fn certificate_of_an_unknown_authority_is_told_with_what_to_trust() {
    let server = TestServer::start_tls(|_, _| Reply::json("{}")).await;
    let host = Host::new();
    host.configure(&format!("https://{}", server.address));

    let verdict = connectivity::check(host.subject().await, Service::SsmMessages).await;

    failed(&verdict, "not signed by an authority", "SSL_CERT_FILE");
}

#[tokio::test]
async fn something_else_than_http_is_told() {
    let (address, _task) = say("SSH-2.0-OpenSSH_9.2\r\n".to_owned()).await;
    let host = Host::new();
    host.configure(&format!("http://{address}"));

    let verdict = connectivity::check(host.subject().await, Service::Ssm).await;

    failed(&verdict, "it does not speak HTTP", "something else");
}

#[tokio::test]
async fn proxy_that_wants_a_password_is_told() {
    let answer = "HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n";
    let (address, _task) = say(answer.to_owned()).await;
    let mut host = Host::new();
    host.environment("https_proxy", &format!("http://{address}"));
    host.configure("https://ssm.example");

    let verdict = connectivity::check(host.subject().await, Service::Ssm).await;
    let names = names::check(host.subject().await).await;

    failed(&verdict, "status 407", "HTTPS_PROXY");
    // Whoever uses a proxy leaves the names to it.
    assert_eq!(names.status, Outcome::Skipped, "{names:?}");
}

#[tokio::test(start_paused = true)]
async fn service_that_says_nothing_costs_no_more_than_the_deadline() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let host = Host::new();
    host.configure(&format!("http://{}", listener.local_addr().unwrap()));

    let check = connectivity::check(host.subject().await, Service::Ssm);
    let finding = finish(remote("Connectivity to ssm endpoint", check)).await;

    failed(&finding.verdict, "no answer within 6 s", "firewall");
}

#[tokio::test]
async fn services_of_aws_are_left_alone_where_the_service_is_ones_own() {
    let host = Host::new();
    host.configure("http://127.0.0.1:9");
    for service in [
        Service::S3,
        Service::Kms,
        Service::Logs,
        Service::Monitoring,
    ] {
        let verdict = connectivity::check(host.subject().await, service).await;

        assert_eq!(verdict.status, Outcome::Skipped, "{verdict:?}");
    }
    fs::write(&host.places.config, "{}").unwrap();
    let nobody = connectivity::check(host.subject().await, Service::Ssm).await;
    assert_eq!(nobody.note, "Unable to fetch AWS region details");
}

#[tokio::test]
async fn clock_that_differs_by_hours_is_told() {
    let host = Host::new();
    for (date, status, note) in [
        (
            "Date: Mon, 01 Jan 2024 00:00:00 GMT\r\n",
            Outcome::Failed,
            "ahead of",
        ),
        (
            "Date: Sat, 01 Jan 2124 00:00:00 GMT\r\n",
            Outcome::Failed,
            "behind",
        ),
        ("", Outcome::Skipped, "has no date"),
    ] {
        let (address, _task) = say(format!(
            "HTTP/1.1 404 Not Found\r\n{date}Content-Length: 0\r\n\r\n"
        ))
        .await;
        host.configure(&format!("http://{address}"));

        let verdict = clock::check(host.subject().await).await;

        assert_eq!(verdict.status, status, "{verdict:?}");
        assert!(verdict.note.contains(note), "{verdict:?}");
    }
    let server = TestServer::start(|_, _| Reply::json("{}")).await;
    host.configure(&format!("http://{}", server.address));
    assert_eq!(
        clock::check(host.subject().await).await.status,
        Outcome::Success
    );
}

#[tokio::test]
async fn service_decides_whether_the_registration_is_worth_credentials() {
    let host = Host::new();
    host.register();
    let token = json!({
        "AccessKeyId": "ASIA", "SecretAccessKey": "s", "SessionToken": "t",
        "TokenExpirationDate": 1_795_348_800, "UpdateKeyPair": false,
    });
    let good = TestServer::start(move |_, _| Reply::json(&token.to_string())).await;
    let changed = TestServer::start(|_, _| Reply::refusal("MachineFingerprintDoesNotMatch")).await;
    let gone = TestServer::start(|_, _| Reply::refusal("InvalidInstanceId")).await;

    host.configure_registered(&format!("http://{}", good.address));
    let verdict = credentials::check(host.subject().await).await;
    assert_eq!(
        verdict.note,
        format!("Credentials are for {NODE} and will expire at 2026-11-22T12:00:00Z")
    );
    assert_eq!(
        good.seen()[0].operation(),
        "RequestManagedInstanceRoleToken"
    );
    host.configure_registered(&format!("http://{}", changed.address));
    let verdict = credentials::check(host.subject().await).await;
    failed(&verdict, "MachineFingerprintDoesNotMatch", "hardware");
    host.configure_registered(&format!("http://{}", gone.address));
    let verdict = credentials::check(host.subject().await).await;
    failed(&verdict, "No credentials available", "ssm-agent register");
}

#[tokio::test]
async fn registration_is_named_and_its_absence_or_damage_told() {
    let host = Host::new();
    host.configure_registered("http://127.0.0.1:9");

    let none = registration::check(&*host.subject().await);
    let nobody = identity::check(&*host.subject().await);
    host.register();
    let registered = registration::check(&*host.subject().await);
    let imds = metadata::check(host.subject().await).await;
    fs::write(host.places.state.join("Vault/Store/RegistrationKey"), "{").unwrap();
    let damaged = registration::check(&*host.subject().await);

    assert_eq!(none.note, "Instance does not have hybrid registration");
    failed(&nobody, "this host has no identity", "ssm-agent register");
    assert_eq!(
        registered.note,
        format!("Instance has hybrid registration with instance id {NODE} in region us-east-1")
    );
    assert_eq!(imds.note, "Instance has hybrid registration");
    failed(&damaged, "RegistrationKey is damaged", "register");
}

#[tokio::test]
async fn agent_that_is_away_not_connected_outdated_or_somebody_else_is_told() {
    let mut host = Host::new();
    host.configure("http://127.0.0.1:9");
    let away = service::check(host.subject().await).await;
    failed(&away, "Unable to find ssm agent", "start it");
    assert_eq!(
        channel::check(&*host.subject().await).status,
        Outcome::Skipped
    );

    let mut status = a_status();
    host.agent = Some(status.clone());
    let running = service::check(host.subject().await).await;
    assert_eq!(running.status, Outcome::Success, "{running:?}");
    assert_eq!(
        channel::check(&*host.subject().await).status,
        Outcome::Success
    );
    assert_eq!(
        version::check(&*host.subject().await).status,
        Outcome::Success
    );
    assert_eq!(
        identity::check(&*host.subject().await).status,
        Outcome::Success
    );

    status.control_channel.state = ChannelState::Waiting;
    status.agent_version = "0.0.1".into();
    status.node_id = "mi-other".into();
    host.agent = Some(status);
    failed(
        &channel::check(&*host.subject().await),
        "not connected since 1970-01-01T00:00:00Z: refused",
        "connectivity",
    );
    failed(
        &version::check(&*host.subject().await),
        "ssm-agent 0.0.1 runs",
        "restart",
    );
    failed(
        &identity::check(&*host.subject().await),
        "runs as mi-other",
        "restart",
    );
}

#[tokio::test]
async fn configuration_and_authorities_that_cannot_be_used_are_told() {
    let host = Host::new();
    host.configure("http://127.0.0.1:9");
    assert_eq!(
        configuration::check(&*host.subject().await).status,
        Outcome::Success
    );

    fs::write(&host.places.config, r#"{"Odd": 1}"#).unwrap();
    let odd = configuration::check(&*host.subject().await);
    fs::write(&host.places.config, r#"{"Mgs": {"Endpoint": 7}}"#).unwrap();
    let wrong = configuration::check(&*host.subject().await);
    fs::write(
        &host.places.config,
        r#"{"SsmAgent": {"CaFile": "/no/such.pem"}}"#,
    )
    .unwrap();
    let untrusted = trust::check(&*host.subject().await);

    assert!(odd.note.contains("Odd: unknown key"), "{odd:?}");
    failed(&wrong, "Mgs.Endpoint must be a string", "check-config");
    failed(&untrusted, "/no/such.pem cannot be used", "PEM");
}

#[tokio::test]
async fn proxies_are_shown_without_passwords_and_bad_ones_told() {
    let mut host = Host::new();
    assert_eq!(
        proxies::check(&*host.subject().await).status,
        Outcome::Skipped
    );

    host.environment("https_proxy", "http://user:hidden@proxy:3128");
    host.environment("no_proxy", "169.254.169.254");
    let shown = proxies::check(&*host.subject().await);
    host.environment("https_proxy", "socks5://proxy");
    let bad = proxies::check(&*host.subject().await);

    assert!(
        shown
            .note
            .contains("https_proxy=http://proxy:3128, no_proxy=169.254.169.254")
    );
    assert!(!shown.note.contains("hidden"), "{shown:?}");
    failed(&bad, "https_proxy is not used", "http://HOST:PORT");
}

#[tokio::test]
async fn every_check_is_named_as_documented_and_says_what_to_do() {
    let mut host = Host::new();
    host.environment("AWS_EC2_METADATA_SERVICE_ENDPOINT", "http://127.0.0.1:9");
    fs::write(&host.places.config, "{}").unwrap();

    let findings = examine(host.subject().await).await;

    let names: Vec<&str> = findings
        .iter()
        .map(|finding| finding.check.as_str())
        .collect();
    let of_the_reference = [
        "EC2 IMDS",
        "Hybrid instance registration",
        "Connectivity to ssm endpoint",
        "Connectivity to ec2messages endpoint",
        "Connectivity to ssmmessages endpoint",
        "Connectivity to s3 endpoint",
        "Connectivity to kms endpoint",
        "Connectivity to logs endpoint",
        "Connectivity to monitoring endpoint",
        "AWS Credentials",
        "Agent service",
        "Proxy configuration",
        "SSM Agent version",
    ];
    assert_eq!(names[..of_the_reference.len()], of_the_reference);
    for finding in &findings {
        let Verdict { status, hint, note } = &finding.verdict;
        assert!(!note.is_empty(), "{finding:?}");
        assert_eq!(*status == Outcome::Failed, hint.is_some(), "{finding:?}");
    }
    let printed: Value = serde_json::from_str(&to_json(&findings)).unwrap();
    let first = &printed["DiagnosticsOutput"][0];
    assert_eq!(first["Check"], "EC2 IMDS");
    assert_eq!(first["Status"], "Failed");
    assert!(first["Note"].is_string() && first["Hint"].is_string());
    assert!(
        to_json(&findings).starts_with("{\n  \"DiagnosticsOutput\": [\n    {\n      \"Check\"")
    );
}

fn failed(verdict: &Verdict, note: &str, hint: &str) {
    assert_eq!(verdict.status, Outcome::Failed, "{verdict:?}");
    assert!(verdict.note.contains(note), "{verdict:?}");
    assert!(verdict.hint.as_ref().unwrap().contains(hint), "{verdict:?}");
}

/// A host without an agent.
struct Host {
    places: Places,
    environment: BTreeMap<String, String>,
    agent: Option<AgentStatus>,
    _folder: tempfile::TempDir,
}

impl Host {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        fs::create_dir(path("state")).unwrap();
        Self {
            places: Places {
                config: path("config.json"),
                state: path("state"),
                logs: path("logs"),
                runtime: Some(path("run")),
            },
            environment: BTreeMap::new(),
            agent: None,
            _folder: folder,
        }
    }

    /// It has a stated identity, and its service is at `url`.
    fn configure(&self, url: &str) {
        self.write(&json!({
            "Ssm": {"Endpoint": url},
            "Mgs": {"Endpoint": url},
            "Identity": {
                "ConsumptionOrder": ["CustomIdentity"],
                "CustomIdentities": [{"InstanceID": NODE, "Region": "us-east-1"}],
            },
        }));
    }

    /// It has the identity of its registration, and its service is at `url`.
    fn configure_registered(&self, url: &str) {
        self.write(&json!({"Ssm": {"Endpoint": url}, "Mgs": {"Endpoint": url},
                          "Identity": {"ConsumptionOrder": ["OnPrem"]}}));
    }

    fn write(&self, config: &Value) {
        fs::write(&self.places.config, config.to_string()).unwrap();
    }

    fn register(&self) {
        let registration = Registration {
            node_id: NODE.into(),
            region: "us-east-1".into(),
            private_key: NodeKey::generate().unwrap().private_text().unwrap(),
            private_key_type: "Rsa".into(),
            ..Registration::default()
        };
        let vault = Vault::new(&self.places.state);
        vault.store_registration(&registration).unwrap();
    }

    fn environment(&mut self, name: &str, value: &str) {
        self.environment.insert(name.into(), value.into());
    }

    async fn subject(&self) -> Arc<Subject> {
        let agent = match &self.agent {
            Some(status) => Ok(status.clone()),
            None => {
                let socket: PathBuf = self.places.socket();
                Err(AgentError::NoAnswer(AskError::NobodyThere(socket)))
            }
        };
        let (places, environment) = (self.places.clone(), self.environment.clone());
        Arc::new(Subject::of(places, agent, environment).await)
    }
}

fn a_status() -> AgentStatus {
    AgentStatus {
        node_id: NODE.into(),
        region: "us-east-1".into(),
        registration: "CustomIdentity".into(),
        agent_version: env!("CARGO_PKG_VERSION").into(),
        wire_version: "3.3.1.0".into(),
        pid: std::process::id(),
        started: Time::from_unix_ms(0),
        control_channel: ControlChannel {
            state: ChannelState::Connected,
            since: Time::from_unix_ms(0),
        },
        sessions: Vec::new(),
        open_sessions: 0,
        recordings: None,
        sinks: Vec::new(),
        commands: Commands::default(),
        problems: vec![Problem {
            at: Time::from_unix_ms(0),
            subject: "control channel".into(),
            text: "refused".into(),
            times: 1,
        }],
    }
}

/// Says `text` to whoever connects and has said something.
async fn say(text: String) -> (std::net::SocketAddr, JoinSet<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let mut task = JoinSet::new();
    task.spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = [0; 4096];
            let _ = stream.read(&mut request).await;
            let _ = stream.write_all(text.as_bytes()).await;
        }
    });
    (address, task)
}

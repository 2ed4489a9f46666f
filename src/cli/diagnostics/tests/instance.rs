//! Instances of EC2, and endpoints of AWS in their variants.

use super::*;

#[tokio::test]
async fn endpoints_of_the_agents_environment_are_looked_at_and_missing_ones_told() {
    let mut host = Host::new();
    host.write(&json!({"Identity": {
        "ConsumptionOrder": ["CustomIdentity"],
        "CustomIdentities": [{"InstanceID": NODE, "Region": "us-gov-east-1"}],
    }}));

    host.environment("AWS_USE_DUALSTACK_ENDPOINT", "true");
    let subject = host.subject().await;
    host.environment("AWS_USE_FIPS_ENDPOINT", "true");
    host.write(&json!({"Identity": {
        "ConsumptionOrder": ["CustomIdentity"],
        "CustomIdentities": [{"InstanceID": NODE, "Region": "eu-west-1"}],
    }}));
    let missing = connectivity::check(host.subject().await, Service::Ssm).await;

    let endpoints = subject.endpoints.as_ref().unwrap();
    assert_eq!(endpoints.ssm.host_str(), Some("ssm.us-gov-east-1.api.aws"));
    failed(
        &missing,
        "no FIPS endpoint of ssm in eu-west-1",
        "endpoints",
    );
}

#[tokio::test]
async fn instance_has_the_credentials_of_its_profile_if_the_service_takes_them() {
    let given = json!({"Code": "Success", "AccessKeyId": "ASIA", "SecretAccessKey": "s",
        "Token": "t", "Expiration": "2099-01-01T00:00:00Z"});
    let metadata = TestServer::start(move |_, seen| match seen.path.as_str() {
        "/latest/api/token" => Reply::json("TOKEN"),
        "/latest/meta-data/instance-id" => Reply::json("i-1"),
        "/latest/dynamic/instance-identity/document" => Reply::json(r#"{"region":"eu-west-1"}"#),
        path if path.ends_with("security-credentials/") => Reply::json("role"),
        path if path.ends_with("role") => Reply::json(&given.to_string()),
        _ => Reply(404, vec![], String::new()),
    })
    .await;
    let good = TestServer::start(|_, _| Reply::json("{}")).await;
    let denying = TestServer::start(|_, _| Reply::refusal("AccessDeniedException")).await;
    let mut host = Host::new();
    let variable = "AWS_EC2_METADATA_SERVICE_ENDPOINT";
    host.environment(variable, &format!("http://{}", metadata.address));
    let at = |server: &TestServer| {
        json!({"Ssm": {"Endpoint": format!("http://{}", server.address)},
               "Identity": {"ConsumptionOrder": ["EC2"]}})
    };

    host.write(&at(&good));
    let taken = credentials::check(host.subject().await).await;
    host.write(&at(&denying));
    let denied = credentials::check(host.subject().await).await;

    assert_eq!(
        taken.note,
        "Credentials are for i-1 and will expire at 2099-01-01T00:00:00Z"
    );
    failed(
        &denied,
        "the instance profile is refused",
        "AmazonSSMManagedInstanceCore",
    );
}

#[tokio::test]
async fn instance_metadata_are_asked_with_a_token() {
    let server = TestServer::start(|_, seen| match seen.path.as_str() {
        "/latest/api/token" if seen.method == "PUT" => Reply::json("TOKEN"),
        _ if seen.header("x-aws-ec2-metadata-token") != "TOKEN" => Reply::refusal("NoToken"),
        "/latest/meta-data/instance-id" => Reply::json("i-1"),
        "/latest/dynamic/instance-identity/document" => Reply::json(r#"{"region":"eu-west-1"}"#),
        _ => Reply(404, vec![], String::new()),
    })
    .await;
    let refusing = TestServer::start(|_, _| Reply::refusal("Off")).await;
    let mut host = Host::new();
    fs::write(&host.places.config, "{}").unwrap();
    let variable = "AWS_EC2_METADATA_SERVICE_ENDPOINT";

    host.environment(variable, &format!("http://{}", server.address));
    let there = metadata::check(host.subject().await).await;
    host.environment(variable, &format!("http://{}", refusing.address));
    let off = metadata::check(host.subject().await).await;
    host.environment(variable, "http://127.0.0.1:9");
    let away = metadata::check(host.subject().await).await;

    assert_eq!(
        there.note,
        "IMDS is accessible and has instance id i-1 in region eu-west-1"
    );
    failed(&off, "instance metadata refused", "169.254.169.254");
    failed(
        &away,
        "Failed to query IMDS: instance metadata gave no answer: cannot connect",
        "ssm-agent register",
    );
}

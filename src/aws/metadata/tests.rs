use serde_json::json;

use super::*;
use crate::aws::tests::server::{Reply, Seen, TestServer};

const QUICK: Patience = Patience {
    timeout: Duration::from_secs(5),
    retries: 2,
};

#[tokio::test]
async fn instance_is_asked_for_with_one_token() {
    let server = serve(instance).await;
    let metadata = metadata(&server);

    let instance = metadata.instance().await.unwrap();

    let expected = Instance {
        id: "i-0123456789abcdef0".into(),
        region: "eu-west-1".into(),
        availability_zone: "eu-west-1b".into(),
        availability_zone_id: "euw1-az2".into(),
    };
    assert_eq!(instance, expected);
    let seen = server.seen();
    assert_eq!(seen[0].method, Method::PUT);
    assert_eq!(
        seen[0].header("x-aws-ec2-metadata-token-ttl-seconds"),
        "21600"
    );
    assert_eq!(seen.iter().filter(|seen| seen.path == TOKEN).count(), 1);
    let asked = &seen[1..];
    assert!(
        asked
            .iter()
            .all(|seen| seen.header("x-aws-ec2-metadata-token") == "TOKEN")
    );
}

#[tokio::test]
async fn what_a_stand_in_does_not_have_is_left_empty() {
    let server = serve(|path| match path {
        INSTANCE_ID => Reply::json("i-1"),
        REGION => Reply::json("test-1\n"),
        _ => missing(),
    })
    .await;

    let instance = metadata(&server).instance().await.unwrap();

    assert_eq!(
        (instance.id.as_str(), instance.region.as_str()),
        ("i-1", "test-1")
    );
    assert_eq!(instance.availability_zone, "");
}

#[tokio::test]
async fn id_that_could_change_a_path_is_refused() {
    for id in ["", "../i-1", "i-1/x", "i 1", &"i".repeat(65)] {
        let id = id.to_owned();
        let server = serve(move |_| Reply::json(&id)).await;

        let error = metadata(&server).instance().await.unwrap_err();

        assert!(matches!(error, MetadataError::Malformed { .. }), "{error}");
    }
}

#[tokio::test]
async fn credentials_of_the_profile_are_those_of_its_role() {
    let server = serve(|path| match path {
        PROFILE => Reply::json("role\n"),
        "/latest/meta-data/iam/security-credentials/role" => given("Success"),
        _ => missing(),
    })
    .await;

    let credentials = metadata(&server).profile_credentials().await.unwrap();

    assert_eq!(credentials.access_key_id(), "ASIA1");
    assert_eq!(credentials.secret_access_key(), "secret");
    assert_eq!(credentials.session_token(), Some("token"));
    let expiry = credentials.expiry().unwrap();
    assert_eq!(
        jiff::Timestamp::try_from(expiry).unwrap().to_string(),
        "2026-11-22T12:00:00Z"
    );
}

#[tokio::test]
async fn instance_without_a_usable_profile_is_told_from_one_that_has_trouble() {
    let without = serve(|_| missing()).await;
    let unauthorized = serve(|path| match path {
        PROFILE => Reply::json("role"),
        _ => given("AssumeRoleUnauthorizedAccess"),
    })
    .await;
    let broken = serve(|_| Reply(500, vec![], String::new())).await;

    let is_without = async |server: &TestServer| {
        let answer = metadata(server).profile_credentials().await;
        answer.unwrap_err().is_without_profile()
    };

    assert!(is_without(&without).await);
    assert!(is_without(&unauthorized).await);
    assert!(!is_without(&broken).await);
}

#[tokio::test]
async fn refused_token_is_replaced() {
    let server = TestServer::start(|count, seen| match (count, seen.path.as_str()) {
        (_, TOKEN) => Reply::json(&format!("TOKEN{count}")),
        (1, _) => Reply(401, vec![], String::new()),
        _ => Reply::json("i-1"),
    })
    .await;

    let answer = metadata(&server).get(INSTANCE_ID).await;

    assert_eq!(answer.unwrap(), "i-1");
    let token = server.seen()[3]
        .header("x-aws-ec2-metadata-token")
        .to_owned();
    assert_eq!(token, "TOKEN2");
}

#[tokio::test]
async fn place_that_nobody_answers_at_is_passed_over() {
    let server = serve(instance).await;
    let places = Places {
        urls: vec![
            Url::parse("http://127.0.0.1:9/").unwrap(),
            Url::parse(&format!("http://{}/", server.address)).unwrap(),
        ],
        named: false,
    };

    let metadata = Metadata::new(&places, server.tls(), QUICK);

    assert_eq!(metadata.instance().await.unwrap().region, "eu-west-1");
}

#[tokio::test]
async fn nobody_is_asked_longer_than_patience_allows() {
    let places = Places {
        urls: vec![Url::parse("http://127.0.0.1:9/").unwrap()],
        named: false,
    };
    let tls = TestServer::start(|_, _| missing()).await.tls();

    let answer = Metadata::new(&places, tls, Patience::DOUBTFUL)
        .instance()
        .await;

    assert!(matches!(answer, Err(MetadataError::Unreachable(_))));
}

#[tokio::test]
async fn networks_of_all_interfaces_are_told_once_each() {
    const MACS: &str = "/latest/meta-data/network/interfaces/macs/";
    let server = serve(|path| match path.strip_prefix(MACS) {
        Some("") => Reply::json("02:29:96:8f:6a:2d/\n06:29:96:8f:6a:2d/"),
        Some("02:29:96:8f:6a:2d/vpc-ipv4-cidr-block") => Reply::json("10.0.0.0/16"),
        Some("02:29:96:8f:6a:2d/vpc-ipv4-cidr-blocks") => Reply::json("10.0.0.0/16\n100.64.0.0/24"),
        Some("06:29:96:8f:6a:2d/vpc-ipv4-cidr-block") => Reply::json("10.0.0.0/16"),
        Some("06:29:96:8f:6a:2d/vpc-ipv6-cidr-blocks") => Reply::json("2600:1f16:a:b00::/56\n"),
        _ => missing(),
    })
    .await;
    let without = serve(|_| missing()).await;
    let broken = serve(|_| Reply(500, vec![], String::new())).await;

    let networks = metadata(&server).vpc_networks().await.unwrap();

    let expected = ["10.0.0.0/16", "100.64.0.0/24", "2600:1f16:a:b00::/56"];
    assert_eq!(networks, expected);
    assert_eq!(metadata(&without).vpc_networks().await.unwrap(), [""; 0]);
    assert!(metadata(&broken).vpc_networks().await.is_err());
}

#[tokio::test]
async fn interface_that_could_change_a_path_is_refused() {
    let server = serve(|_| Reply::json("../../api/")).await;

    let error = metadata(&server).vpc_networks().await.unwrap_err();

    assert!(matches!(error, MetadataError::Malformed { .. }), "{error}");
}

#[test]
fn environment_says_where_metadata_are() {
    let places = |variables: &[(&str, &str)]| {
        let variables = variables.to_vec();
        Places::from_lookup(move |name| {
            let found = variables.iter().find(|(variable, _)| *variable == name);
            found.map(|(_, value)| (*value).to_owned())
        })
    };
    let urls = |places: &Places| places.urls.iter().map(Url::to_string).collect::<Vec<_>>();

    let own = places(&[]);
    let six = places(&[(MODE_VARIABLE, "IPv6")]);
    let named = places(&[(ENDPOINT_VARIABLE, "http://127.0.0.1:1338")]);
    let nonsense = places(&[(ENDPOINT_VARIABLE, "over there")]);
    let off = places(&[(DISABLED_VARIABLE, "true"), (ENDPOINT_VARIABLE, "http://x")]);

    assert_eq!(urls(&own), ADDRESSES);
    assert_eq!(urls(&six), [ADDRESSES[1], ADDRESSES[0]]);
    assert_eq!(urls(&named), ["http://127.0.0.1:1338/"]);
    assert!(urls(&nonsense).is_empty() && urls(&off).is_empty());
    assert!(named.are_named() && !own.are_named());
}

#[tokio::test]
async fn metadata_that_shall_not_be_used_are_not() {
    let off = Places::from_lookup(|name| (name == DISABLED_VARIABLE).then(|| "true".into()));
    let tls = TestServer::start(|_, _| missing()).await.tls();

    let answer = Metadata::new(&off, tls, QUICK).instance().await;

    assert!(matches!(answer, Err(MetadataError::Disabled)));
}

async fn serve(answer: impl Fn(&str) -> Reply + Send + Sync + 'static) -> TestServer {
    TestServer::start(move |_, seen: &Seen| match seen.path.as_str() {
        TOKEN => Reply::json("TOKEN"),
        path => answer(path),
    })
    .await
}

fn metadata(server: &TestServer) -> Metadata {
    let url = format!("http://{}", server.address);
    let places = Places::from_lookup(|name| (name == ENDPOINT_VARIABLE).then(|| url.clone()));
    Metadata::new(&places, server.tls(), QUICK)
}

fn instance(path: &str) -> Reply {
    match path {
        INSTANCE_ID => Reply::json("i-0123456789abcdef0"),
        DOCUMENT => Reply::json(
            r#"{"region":"eu-west-1","availabilityZone":"eu-west-1b","billingProducts":null}"#,
        ),
        ZONE_ID => Reply::json("euw1-az2"),
        _ => missing(),
    }
}

fn given(code: &str) -> Reply {
    let body = json!({
        "Code": code, "LastUpdated": "2026-11-22T06:00:00Z", "Type": "AWS-HMAC",
        "AccessKeyId": "ASIA1", "SecretAccessKey": "secret", "Token": "token",
        "Expiration": "2026-11-22T12:00:00Z",
    });
    Reply::json(&body.to_string())
}

fn missing() -> Reply {
    Reply(404, vec![], "<html>not found</html>".into())
}

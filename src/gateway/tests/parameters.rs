//! Parameter Store through the API: versions, lists, tags, and how calls are refused.

use serde_json::{Value, json};

use super::caller::Tool;
use super::gateway;

#[tokio::test]
async fn what_is_missing_is_the_parameter_or_its_version() {
    let gateway = gateway().await;
    let alice = gateway.person("alice").await;
    put(&alice, "/a/b", json!({})).await.unwrap();
    put(&alice, "plain", json!({})).await.unwrap();
    let arn = |name: &str| format!("arn:aws:ssm:us-east-1:000000000000:parameter/{name}");
    let get = async |name: &str| alice.ssm("GetParameter", json!({"Name": name})).await;

    for (name, found) in [
        ("/a/b:1", "/a/b"),
        (arn("a/b").as_str(), "/a/b"),
        (arn("a/b:1").as_str(), "/a/b"),
        (arn("plain").as_str(), "plain"),
    ] {
        assert_eq!(get(name).await.unwrap()["Parameter"]["Name"], found);
    }
    for (name, code) in [
        ("/a/c", "ParameterNotFound"),
        ("/a/c:1", "ParameterNotFound"),
        (arn("a/c").as_str(), "ParameterNotFound"),
        (arn("a/c:1").as_str(), "ParameterNotFound"),
        ("/a/b:2", "ParameterVersionNotFound"),
        ("/a/b:label", "ParameterVersionNotFound"),
        (arn("a/b:2").as_str(), "ParameterVersionNotFound"),
    ] {
        assert_eq!(get(name).await.unwrap_err(), code, "{name}");
    }
}

#[tokio::test]
async fn parameters_are_refused_in_codes_of_aws() {
    let gateway = gateway().await;
    let alice = gateway.person("alice").await;
    put(&alice, "known", json!({})).await.unwrap();
    let tag = |key: &str| json!([{"Key": key, "Value": "v"}]);
    let many: Vec<Value> = (0..51)
        .map(|number| json!({"Key": format!("key-{number}"), "Value": "v"}))
        .collect();

    for (name, request, code) in [
        (
            "/a".repeat(16).as_str(),
            json!({}),
            "HierarchyLevelLimitExceededException",
        ),
        ("known", json!({}), "ParameterAlreadyExists"),
        ("new", json!({"Tier": "Advanced"}), "ValidationException"),
        ("new", json!({"Tier": "Golden"}), "ValidationException"),
        (
            "new",
            json!({"Policies": "[{\"Type\":\"Expiration\"}]"}),
            "ValidationException",
        ),
        (
            "known",
            json!({"Tags": tag("k"), "Overwrite": true}),
            "ValidationException",
        ),
        ("new", json!({"Tags": tag("aws:k")}), "ValidationException"),
        ("new", json!({"Tags": tag("k!")}), "ValidationException"),
        ("new", json!({"Tags": many}), "TooManyTagsError"),
    ] {
        let refused = put(&alice, name, request.clone()).await;
        assert_eq!(refused.unwrap_err(), code, "{name} {request:.200}");
    }
    let unknown = alice.ssm("GetParameter", json!({"Name": "new"})).await;
    assert_eq!(unknown.unwrap_err(), "ParameterNotFound");
}

#[tokio::test]
async fn standard_tier_is_what_there_is() {
    let gateway = gateway().await;
    let alice = gateway.person("alice").await;

    for (name, request) in [
        ("a", json!({})),
        ("b", json!({"Tier": "Standard", "Policies": "[]"})),
        ("c", json!({"Tier": "Intelligent-Tiering", "Policies": ""})),
    ] {
        let written = put(&alice, name, request).await;
        assert_eq!(written, Ok(json!({"Version": 1, "Tier": "Standard"})));
    }
}

#[tokio::test]
async fn parameters_have_tags_until_they_are_deleted() {
    let gateway = gateway().await;
    let alice = gateway.person("alice").await;
    let tag = |key: &str, value: &str| json!({"Key": key, "Value": value});
    let tagging = async |operation: &str, mut request: Value| {
        request["ResourceType"] = "Parameter".into();
        request["ResourceId"] = "/a/b".into();
        alice.ssm(operation, request).await
    };
    let tags = async || {
        let listed = tagging("ListTagsForResource", json!({})).await?;
        Ok::<_, String>(listed["TagList"].clone())
    };

    let unknown = tagging("AddTagsToResource", json!({"Tags": [tag("k", "1")]})).await;
    assert_eq!(unknown.unwrap_err(), "InvalidResourceId");
    let first = json!({"Tags": [tag("team", "red"), tag("of", "alice")]});
    put(&alice, "/a/b", first).await.unwrap();
    assert_eq!(
        tags().await.unwrap(),
        json!([tag("of", "alice"), tag("team", "red")])
    );

    let again = json!({"Overwrite": true});
    put(&alice, "/a/b", again.clone()).await.unwrap();
    let change = json!({"Tags": [tag("team", "blue")]});
    tagging("AddTagsToResource", change).await.unwrap();
    put(&alice, "/a/b", again).await.unwrap();
    let keys = json!({"TagKeys": ["of"]});
    tagging("RemoveTagsFromResource", keys).await.unwrap();
    assert_eq!(tags().await.unwrap(), json!([tag("team", "blue")]));

    let named = json!({"Name": "/a/b"});
    alice.ssm("DeleteParameter", named).await.unwrap();
    assert_eq!(tags().await.unwrap_err(), "InvalidResourceId");
    put(&alice, "/a/b", json!({})).await.unwrap();
    assert_eq!(tags().await.unwrap(), json!([]));
}

#[tokio::test]
async fn parameters_are_listed_by_path_type_and_key() {
    let gateway = gateway().await;
    let alice = gateway.person("alice").await;
    for (name, kind) in [
        ("/a/list", "StringList"),
        ("/a/secret", "SecureString"),
        ("/a/text", "String"),
        ("/a/deep/text", "String"),
        ("plain", "String"),
    ] {
        put(&alice, name, json!({"Type": kind})).await.unwrap();
    }
    let list = async |operation: &str, request: Value| {
        let listed = alice.ssm(operation, request).await?;
        let listed = listed["Parameters"].as_array().unwrap().iter();
        let names = listed.map(|found| found["Name"].as_str().unwrap().to_owned());
        Ok::<Vec<String>, String>(names.collect())
    };
    let filtered = |key: &str, option: Option<&str>, value: &str| {
        let mut filter = json!({"Key": key, "Values": [value]});
        if let Some(option) = option {
            filter["Option"] = option.into();
        }
        json!({"Path": "/a", "ParameterFilters": [filter]})
    };

    for (request, names) in [
        (filtered("Type", None, "String"), vec!["/a/text"]),
        (
            filtered("Type", Some("Equals"), "StringList"),
            vec!["/a/list"],
        ),
        (filtered("KeyId", None, "alias/aws/ssm"), vec!["/a/secret"]),
        (filtered("KeyId", None, "alias/mine"), vec![]),
    ] {
        let listed = list("GetParametersByPath", request.clone()).await;
        assert_eq!(listed.unwrap(), names, "{request}");
    }
    for (request, names) in [
        (
            filtered("Path", None, "/a"),
            vec!["/a/list", "/a/secret", "/a/text"],
        ),
        (
            filtered("Path", Some("Recursive"), "/a"),
            vec!["/a/deep/text", "/a/list", "/a/secret", "/a/text"],
        ),
        (
            filtered("Type", None, "String"),
            vec!["/a/deep/text", "/a/text", "plain"],
        ),
    ] {
        let listed = list("DescribeParameters", request.clone()).await;
        assert_eq!(listed.unwrap(), names, "{request}");
    }
    let (by_path, describe) = ("GetParametersByPath", "DescribeParameters");
    for (operation, request, code) in [
        (by_path, filtered("Label", None, "x"), "InvalidFilterKey"),
        (by_path, filtered("Name", None, "x"), "InvalidFilterKey"),
        (
            by_path,
            filtered("Type", Some("BeginsWith"), "S"),
            "InvalidFilterOption",
        ),
        (
            describe,
            filtered("Type", Some("BeginsWith"), "S"),
            "InvalidFilterOption",
        ),
        (
            describe,
            filtered("Path", Some("Equals"), "/a"),
            "InvalidFilterOption",
        ),
        (
            describe,
            filtered("Colour", None, "red"),
            "InvalidFilterKey",
        ),
    ] {
        let refused = list(operation, request.clone()).await;
        assert_eq!(refused.unwrap_err(), code, "{operation} {request}");
    }
}

/// Writes a parameter of type String with the members of `request`.
async fn put(tool: &Tool, name: &str, request: Value) -> Result<Value, String> {
    let mut whole = json!({"Name": name, "Type": "String", "Value": "v"});
    for (member, value) in request.as_object().unwrap() {
        whole[member] = value.clone();
    }
    tool.ssm("PutParameter", whole).await
}

//! People and their tools: signatures, sessions, lists.

use std::time::SystemTime;

use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use super::caller::{Host, Tool};
use super::{Gateway, activate, gateway};
use crate::gateway::store::sessions::{SessionRecord, SessionStatus};
use crate::gateway::{Settings, start};
use crate::protocol::wire::SessionId;

#[tokio::test]
async fn unsigned_wrongly_signed_and_unknown_calls_are_refused() {
    let gateway = gateway().await;
    let alice = gateway.person("alice").await;
    let target = "AmazonSSM.DescribeSessions";
    let wrong = Tool::new(
        &gateway.running,
        alice.access_key_id(),
        "wrong secret",
        None,
    );
    let stranger = Tool::new(&gateway.running, "AKIAUNKNOWN", "secret", None);
    let request = json!({"State": "Active"});

    for (outcome, code) in [
        (
            alice.unsigned(target, request.clone()).await,
            "MissingAuthenticationTokenException",
        ),
        (
            wrong.ssm("DescribeSessions", request.clone()).await,
            "InvalidSignatureException",
        ),
        (
            stranger.ssm("DescribeSessions", request.clone()).await,
            "UnrecognizedClientException",
        ),
        (
            alice.ssm("DescribeEverything", json!({})).await,
            "UnknownOperationException",
        ),
        (
            alice.unsigned("DynamoDB.ListTables", json!({})).await,
            "UnknownOperationException",
        ),
    ] {
        assert_eq!(outcome.unwrap_err(), code);
    }
}

#[tokio::test]
async fn body_that_is_too_large_is_refused_with_its_limit() {
    let gateway = gateway().await;
    let alice = gateway.person("alice").await;

    let request = json!({"Text": "x".repeat(3 << 20)});
    let refused = alice
        .unsigned("AmazonSSM.RegisterManagedInstance", request)
        .await;

    assert_eq!(refused.unwrap_err(), "RequestEntityTooLargeException");
}

#[tokio::test]
async fn sessions_are_refused_for_unknown_targets_documents_and_parameters() {
    let gateway = gateway().await;
    let alice = gateway.person("alice").await;
    let target = "mi-0123456789abcdef0";

    for (request, code) in [
        (json!({"Target": target}), "TargetNotConnected"),
        (json!({}), "ValidationException"),
        (json!({"Target": ""}), "ValidationException"),
        (json!({"Target": 5}), "SerializationException"),
        (
            json!({"Target": target, "Reason": "x".repeat(257)}),
            "ValidationException",
        ),
        (
            json!({"Target": target, "DocumentName": "AWS-Nothing"}),
            "InvalidDocument",
        ),
        (
            json!({"Target": target, "Parameters": {"portNumber": ["22"]}}),
            "InvalidParameters",
        ),
    ] {
        let refused = alice.ssm("StartSession", request.clone()).await;
        assert_eq!(refused.unwrap_err(), code, "{request}");
    }
    let status = alice
        .ssm("GetConnectionStatus", json!({"Target": target}))
        .await
        .unwrap();
    assert_eq!(status, json!({"Target": target, "Status": "notconnected"}));
    for operation in ["ResumeSession", "TerminateSession"] {
        for id in ["alice-0123456789abcdef0", "../etc"] {
            let refused = alice.ssm(operation, json!({"SessionId": id})).await;
            assert_eq!(
                refused.unwrap_err(),
                "DoesNotExistException",
                "{operation} {id}"
            );
        }
    }
}

/// Past sessions `alice-0` to `alice-4` on one node and `bob-0` on another.
async fn past_sessions(gateway: &Gateway) {
    let store = gateway.running.store();
    let record = async |id: &str, node_id: &str, owner: &str| {
        let id = SessionId::new(id).unwrap();
        let owner = format!("arn:aws:iam::000000000000:user/{owner}");
        let record = SessionRecord::new(id.clone(), node_id, &owner);
        store.insert_session(record).await.unwrap();
        let details = "it is over".to_owned();
        store
            .end_session(id, SessionStatus::Terminated, details)
            .await
            .unwrap();
    };
    for number in 0..5 {
        record(&format!("alice-{number}"), "mi-a", "alice").await;
    }
    record("bob-0", "mi-b", "bob").await;
}

#[tokio::test]
async fn sessions_are_listed_with_filters_and_pages() {
    let gateway = gateway().await;
    let alice = gateway.person("alice").await;
    past_sessions(&gateway).await;
    let describe = async |request: Value| {
        let page = alice.ssm("DescribeSessions", request).await.unwrap();
        (
            page["Sessions"].as_array().unwrap().clone(),
            page["NextToken"].clone(),
        )
    };
    let filtered = |key: &str, value: &str| json!({"State": "History", "Filters": [{"key": key, "value": value}]});

    let mut request = json!({"State": "History", "MaxResults": 4});
    let (first, token) = describe(request.clone()).await;
    request["NextToken"] = token;
    let (second, end) = describe(request).await;
    assert_eq!((first.len(), second.len(), end), (4, 2, Value::Null));
    let session = &describe(filtered("SessionId", "alice-3")).await.0[0];
    assert_eq!(session["Target"], "mi-a");
    assert_eq!(session["Status"], "Terminated");
    assert_eq!(session["Owner"], "arn:aws:iam::000000000000:user/alice");
    assert_eq!(session["Details"], "it is over");
    assert!(session["StartDate"].is_f64() && session["EndDate"].is_f64());
    for (key, value, count) in [
        ("Target", "mi-b", 1),
        ("Owner", "arn:aws:iam::000000000000:user/alice", 5),
        ("Status", "Failed", 0),
        ("InvokedAfter", "2099-01-01T00:00:00Z", 0),
        ("InvokedBefore", "2099-01-01T00:00:00Z", 6),
        ("AccessType", "JustInTime", 0),
        ("AccessType", "Standard", 6),
    ] {
        assert_eq!(
            describe(filtered(key, value)).await.0.len(),
            count,
            "{key} {value}"
        );
    }
    assert_eq!(describe(json!({"State": "Active"})).await.0.len(), 0);
}

#[tokio::test]
async fn lists_of_sessions_refuse_what_the_model_does_not_know() {
    let gateway = gateway().await;
    let alice = gateway.person("alice").await;
    let filtered = |key: &str, value: &str| json!({"State": "Active", "Filters": [{"key": key, "value": value}]});

    for (request, code) in [
        (json!({}), "ValidationException"),
        (json!({"State": "Past"}), "ValidationException"),
        (
            json!({"State": "Active", "MaxResults": 201}),
            "ValidationException",
        ),
        (
            json!({"State": "Active", "NextToken": "x"}),
            "InvalidNextToken",
        ),
        (filtered("Colour", "red"), "InvalidFilterKey"),
        (filtered("Status", "Tired"), "ValidationException"),
        (filtered("InvokedAfter", "now"), "ValidationException"),
    ] {
        let refused = alice.ssm("DescribeSessions", request.clone()).await;
        assert_eq!(refused.unwrap_err(), code, "{request}");
    }
}

#[tokio::test]
async fn session_is_resumed_by_its_owner_only_and_not_once_it_is_over() {
    let gateway = gateway().await;
    let alice = gateway.person("alice").await;
    past_sessions(&gateway).await;

    let resumed = alice
        .ssm("ResumeSession", json!({"SessionId": "alice-0"}))
        .await;
    let refused = alice
        .ssm("ResumeSession", json!({"SessionId": "bob-0"}))
        .await;
    let terminated = alice
        .ssm("TerminateSession", json!({"SessionId": "alice-0"}))
        .await;

    let over = json!({"SessionId": "alice-0", "TokenValue": null, "StreamUrl": null});
    assert_eq!(resumed, Ok(over));
    assert_eq!(refused.unwrap_err(), "AccessDeniedException");
    assert_eq!(terminated, Ok(json!({"SessionId": "alice-0"})));
}

#[tokio::test]
async fn activations_and_nodes_are_paged() {
    let gateway = gateway().await;
    let alice = gateway.person("alice").await;
    for _ in 0..3 {
        activate(&alice, json!({})).await;
    }
    let now = SystemTime::now();
    for number in 0..6 {
        let node_id = format!("i-0000000{number}");
        gateway
            .running
            .store()
            .create_node_access_key("lab", &node_id, now)
            .await
            .unwrap();
    }

    for (operation, list, size, pages) in [
        ("DescribeActivations", "ActivationList", 2, [2, 1]),
        (
            "DescribeInstanceInformation",
            "InstanceInformationList",
            5,
            [5, 1],
        ),
    ] {
        let mut request = json!({"MaxResults": size});
        for length in pages {
            let page = alice.ssm(operation, request.clone()).await.unwrap();
            assert_eq!(page[list].as_array().unwrap().len(), length, "{operation}");
            request["NextToken"] = page["NextToken"].clone();
        }
        assert_eq!(request["NextToken"], Value::Null, "{operation}");
    }
}

#[tokio::test]
async fn restarted_gateway_knows_its_nodes_and_keys() {
    let state = tempfile::tempdir().unwrap();
    let run = async || {
        let cancel = CancellationToken::new();
        let (running, serving) = start(Settings::on_loopback(state.path()), cancel.clone())
            .await
            .unwrap();
        (running, cancel, tokio::spawn(serving))
    };
    let (running, cancel, serving) = run().await;
    let key = running.create_access("alice").await.unwrap();
    let alice = Tool::new(&running, &key.access_key_id, key.secret.expose(), None);
    let (id, code) = activate(&alice, json!({})).await;
    let host = Host::new();
    let node_id = host.register(&running, &id, &code).await.unwrap();

    cancel.cancel();
    serving.await.unwrap();
    let (running, _cancel, _serving) = run().await;

    let alice = Tool::new(&running, &key.access_key_id, key.secret.expose(), None);
    let listed = alice
        .ssm("DescribeInstanceInformation", json!({}))
        .await
        .unwrap();
    assert_eq!(
        listed["InstanceInformationList"][0]["InstanceId"],
        node_id.as_str()
    );
    assert!(host.credentials(&running, &node_id).await.is_ok());
}

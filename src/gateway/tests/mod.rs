//! The gateway as its callers see it: over TLS, signed, in AWS's shapes.

mod caller;

use std::time::{Duration, SystemTime};

use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use super::*;
use caller::{Host, Tool};

/// A gateway on loopback with state of its own; gone with the value.
struct Gateway {
    running: Running,
    _serving: AbortOnDropHandle<()>,
    _state: tempfile::TempDir,
}

async fn gateway() -> Gateway {
    let state = tempfile::tempdir().unwrap();
    let settings = Settings::on_loopback(state.path());
    let (running, serving) = start(settings, CancellationToken::new()).await.unwrap();
    Gateway {
        running,
        _serving: AbortOnDropHandle::new(tokio::spawn(serving)),
        _state: state,
    }
}

impl Gateway {
    async fn person(&self, name: &str) -> Tool {
        let key = self.running.create_access(name).await.unwrap();
        Tool::new(&self.running, &key.access_key_id, key.secret.expose(), None)
    }
}

/// An activation made by `tool` with the members of `request`.
async fn activate(tool: &Tool, mut request: Value) -> (String, String) {
    request["IamRole"] = "role".into();
    let issued = tool.ssm("CreateActivation", request).await.unwrap();
    let text = |member: &str| issued[member].as_str().unwrap().to_owned();
    (text("ActivationId"), text("ActivationCode"))
}

#[tokio::test]
async fn host_registers_gets_credentials_reports_and_is_listed() {
    let gateway = gateway().await;
    let alice = gateway.person("alice").await;
    let (id, code) = activate(&alice, json!({"DefaultInstanceName": "web"})).await;

    let host = Host::new();
    let node_id = host.register(&gateway.running, &id, &code).await.unwrap();
    let agent = host.credentials(&gateway.running, &node_id).await.unwrap();
    let report = json!({
        "InstanceId": node_id, "AgentName": "amazon-ssm-agent", "AgentVersion": "3.3.0.0",
        "AgentStatus": "Active", "PlatformType": "Linux", "PlatformName": "Debian GNU/Linux",
        "PlatformVersion": "12", "ComputerName": "host.fqdn", "IPAddress": "10.0.0.5",
        "SSMConnectionChannel": "", "AvailabilityZone": ""
    });
    agent
        .ssm("UpdateInstanceInformation", report)
        .await
        .unwrap();
    let listed = alice
        .ssm("DescribeInstanceInformation", json!({}))
        .await
        .unwrap();

    let node = &listed["InstanceInformationList"][0];
    assert_eq!(node["InstanceId"], node_id.as_str());
    assert_eq!(node["PingStatus"], "Online");
    assert_eq!(node["Name"], "web");
    assert_eq!(node["ActivationId"], id.as_str());
    assert_eq!(node["IPAddress"], "10.0.0.5");
    assert_eq!(node["ResourceType"], "ManagedInstance");
    assert!(node["LastPingDateTime"].is_f64() && node["RegistrationDate"].is_f64());
    let activations = alice.ssm("DescribeActivations", json!({})).await.unwrap();
    assert_eq!(activations["ActivationList"][0]["RegistrationsCount"], 1);
}

#[tokio::test]
async fn refused_registrations_say_why_in_codes_that_agents_know() {
    let gateway = gateway().await;
    let alice = gateway.person("alice").await;
    let (id, code) = activate(&alice, json!({})).await;
    let register = async |host: &Host, id: &str, code: &str| {
        host.register(&gateway.running, id, code).await.unwrap_err()
    };
    let (first, second) = (Host::new(), Host::new());

    assert_eq!(
        register(&first, &id, "wrong code, long enough").await,
        "InvalidActivation"
    );
    assert_eq!(
        register(&first, "no uuid", &code).await,
        "InvalidActivation"
    );
    first.register(&gateway.running, &id, &code).await.unwrap();
    assert_eq!(
        register(&second, &id, &code).await,
        "RegistrationLimitExceeded"
    );

    let (id, code) = activate(&alice, json!({"RegistrationLimit": 5})).await;
    assert_eq!(
        register(&first, &id, &code).await,
        "PublicKeyAlreadyRegistered"
    );
    alice
        .ssm("DeleteActivation", json!({"ActivationId": id}))
        .await
        .unwrap();
    assert_eq!(register(&second, &id, &code).await, "InvalidActivation");
}

#[tokio::test]
async fn expired_activation_registers_nobody() {
    let gateway = gateway().await;
    let new = store::activations::NewActivation {
        description: None,
        default_instance_name: None,
        iam_role: "role".into(),
        registration_limit: 1,
        expires: SystemTime::now() - Duration::from_secs(1),
        tags: Vec::new(),
    };
    let issued = gateway.running.create_activation(new).await.unwrap();

    let code = issued.code.expose();
    let refused = Host::new()
        .register(&gateway.running, &issued.activation_id, code)
        .await;

    assert_eq!(refused.unwrap_err(), "ActivationExpired");
}

#[tokio::test]
async fn unusable_keys_are_refused_at_registration() {
    let gateway = gateway().await;
    let alice = gateway.person("alice").await;
    let (id, code) = activate(&alice, json!({})).await;

    for (key, error) in [
        ("short".to_owned(), "ValidationException"),
        ("A".repeat(392), "InvalidPublicKey"),
        ("not base64 ".repeat(40), "InvalidPublicKey"),
    ] {
        let request = json!({
            "ActivationId": id, "ActivationCode": code, "PublicKey": key,
            "PublicKeyType": "Rsa", "Fingerprint": "f"
        });
        let refused = alice
            .unsigned("AmazonSSM.RegisterManagedInstance", request)
            .await;
        assert_eq!(refused.unwrap_err(), error);
    }
}

#[tokio::test]
async fn node_speaks_for_itself_only() {
    let gateway = gateway().await;
    let alice = gateway.person("alice").await;
    let (id, code) = activate(&alice, json!({"RegistrationLimit": 2})).await;
    let (host, other) = (Host::new(), Host::new());
    let node_id = host.register(&gateway.running, &id, &code).await.unwrap();
    let other_id = other.register(&gateway.running, &id, &code).await.unwrap();
    let agent = host.credentials(&gateway.running, &node_id).await.unwrap();

    let for_other = json!({"InstanceId": other_id, "AgentVersion": "9.9.9.9"});
    for (operation, request) in [
        ("UpdateInstanceInformation", for_other.clone()),
        ("PutInventory", for_other.clone()),
        ("StartSession", json!({"Target": other_id})),
        ("CreateActivation", json!({"IamRole": "r"})),
        ("DeregisterManagedInstance", json!({"InstanceId": other_id})),
    ] {
        let refused = agent.ssm(operation, request).await;
        assert_eq!(refused.unwrap_err(), "AccessDeniedException", "{operation}");
    }
    let polled = json!({"Destination": other_id, "VisibilityTimeoutInSeconds": 0});
    let refused = agent.delivery("GetMessages", polled).await;
    assert_eq!(refused.unwrap_err(), "AccessDeniedException");
    let stolen = host.credentials(&gateway.running, &other_id).await;
    assert_eq!(stolen.err().unwrap(), "InvalidSignatureException");
    assert_eq!(
        alice
            .ssm("UpdateInstanceInformation", for_other)
            .await
            .unwrap_err(),
        "UnknownOperationException"
    );
}

#[tokio::test]
async fn key_is_replaced_by_a_request_that_the_old_key_signed() {
    let gateway = gateway().await;
    let alice = gateway.person("alice").await;
    let (id, code) = activate(&alice, json!({})).await;
    let (old, new) = (Host::new(), Host::new());
    let node_id = old.register(&gateway.running, &id, &code).await.unwrap();

    let request = json!({"NewPublicKey": new.public_key(), "NewPublicKeyType": "Rsa"});
    old.call(
        &gateway.running,
        &node_id,
        "UpdateManagedInstancePublicKey",
        request,
    )
    .await
    .unwrap();

    let refused = old.credentials(&gateway.running, &node_id).await;
    assert_eq!(refused.err().unwrap(), "InvalidSignatureException");
    assert!(new.credentials(&gateway.running, &node_id).await.is_ok());
}

#[tokio::test]
async fn key_on_another_machine_gets_no_credentials() {
    let gateway = gateway().await;
    let alice = gateway.person("alice").await;
    let (id, code) = activate(&alice, json!({})).await;
    let host = Host::new();
    let node_id = host.register(&gateway.running, &id, &code).await.unwrap();

    let request = json!({"Fingerprint": "another machine"});
    let refused = host
        .call(
            &gateway.running,
            &node_id,
            "RequestManagedInstanceRoleToken",
            request,
        )
        .await;

    assert_eq!(refused.unwrap_err(), "MachineFingerprintDoesNotMatch");
}

#[tokio::test]
async fn deregistered_node_is_locked_out_at_once() {
    let gateway = gateway().await;
    let alice = gateway.person("alice").await;
    let (id, code) = activate(&alice, json!({})).await;
    let host = Host::new();
    let node_id = host.register(&gateway.running, &id, &code).await.unwrap();
    let agent = host.credentials(&gateway.running, &node_id).await.unwrap();
    let deregister = json!({"InstanceId": node_id});

    alice
        .ssm("DeregisterManagedInstance", deregister.clone())
        .await
        .unwrap();

    let report = agent
        .ssm("UpdateInstanceInformation", json!({"InstanceId": node_id}))
        .await;
    assert_eq!(report.unwrap_err(), "UnrecognizedClientException");
    let credentials = host.credentials(&gateway.running, &node_id).await;
    assert_eq!(credentials.err().unwrap(), "UnrecognizedClientException");
    let again = alice.ssm("DeregisterManagedInstance", deregister).await;
    assert_eq!(again.unwrap_err(), "InvalidInstanceId");
}

#[tokio::test]
async fn node_with_an_access_key_of_its_own_needs_no_registration() {
    let gateway = gateway().await;
    let alice = gateway.person("alice").await;
    let node_id = "i-0123456789abcdef0";
    let now = SystemTime::now();
    let key = gateway
        .running
        .store()
        .create_node_access_key("lab", node_id, now)
        .await
        .unwrap();
    let agent = Tool::new(
        &gateway.running,
        &key.access_key_id,
        key.secret.expose(),
        None,
    );

    agent
        .ssm("UpdateInstanceInformation", json!({"InstanceId": node_id}))
        .await
        .unwrap();
    let listed = alice
        .ssm("DescribeInstanceInformation", json!({}))
        .await
        .unwrap();

    assert_eq!(listed["InstanceInformationList"][0]["InstanceId"], node_id);
    assert_eq!(
        listed["InstanceInformationList"][0]["ResourceType"],
        "EC2Instance"
    );
}

#[tokio::test]
async fn what_agents_ask_at_start_has_valid_answers() {
    let gateway = gateway().await;
    let alice = gateway.person("alice").await;
    let (id, code) = activate(&alice, json!({})).await;
    let host = Host::new();
    let node_id = host.register(&gateway.running, &id, &code).await.unwrap();
    let agent = host.credentials(&gateway.running, &node_id).await.unwrap();

    for (operation, request, answer) in [
        (
            "ListInstanceAssociations",
            json!({"InstanceId": node_id, "MaxResults": 20}),
            json!({"Associations": []}),
        ),
        (
            "PutInventory",
            json!({"InstanceId": node_id, "Items": []}),
            json!({}),
        ),
        (
            "PutComplianceItems",
            json!({"ResourceId": node_id}),
            json!({}),
        ),
        (
            "GetParameters",
            json!({"Names": ["a"]}),
            json!({"Parameters": [], "InvalidParameters": ["a"]}),
        ),
    ] {
        assert_eq!(
            agent.ssm(operation, request).await,
            Ok(answer),
            "{operation}"
        );
    }
    let document = agent.ssm("GetDocument", json!({"Name": "AWS-X"})).await;
    assert_eq!(document.unwrap_err(), "InvalidDocument");
    let poll =
        json!({"Destination": node_id, "MessagesRequestId": "r", "VisibilityTimeoutInSeconds": 0});
    let messages = agent.delivery("GetMessages", poll).await.unwrap();
    assert_eq!(
        messages,
        json!({"Destination": node_id, "MessagesRequestId": "r", "Messages": []})
    );
}

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

#[tokio::test]
async fn sessions_are_listed_with_filters_and_pages() {
    let gateway = gateway().await;
    let alice = gateway.person("alice").await;
    let describe = async |request: Value| alice.ssm("DescribeSessions", request).await;

    let none = describe(
        json!({"State": "Active", "Filters": [{"key": "AccessType", "value": "JustInTime"}]}),
    )
    .await;
    assert_eq!(none, Ok(json!({"Sessions": []})));
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
        (
            json!({"State": "Active", "Filters": [{"key": "Colour", "value": "red"}]}),
            "InvalidFilterKey",
        ),
        (
            json!({"State": "Active", "Filters": [{"key": "Status", "value": "Tired"}]}),
            "ValidationException",
        ),
        (
            json!({"State": "Active", "Filters": [{"key": "InvokedAfter", "value": "now"}]}),
            "ValidationException",
        ),
    ] {
        assert_eq!(
            describe(request.clone()).await.unwrap_err(),
            code,
            "{request}"
        );
    }
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

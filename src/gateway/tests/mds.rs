//! The message delivery service as an agent without a control channel sees it.

use serde_json::{Value, json};

use super::caller::{Host, Tool};
use super::{Gateway, activate, gateway};

#[tokio::test]
async fn command_is_polled_for_acknowledged_and_replied_to() {
    let (gateway, alice, agent, node_id) = world().await;
    let sent = json!({"InstanceIds": [node_id], "DocumentName": "AWS-RunShellScript",
        "Parameters": {"commands": ["true"]}});
    let sent = alice.ssm("SendCommand", sent).await.unwrap();
    let command = sent["Command"]["CommandId"].as_str().unwrap().to_owned();

    let poll =
        json!({"Destination": node_id, "MessagesRequestId": "r", "VisibilityTimeoutInSeconds": 10});
    let polled = agent.delivery("GetMessages", poll).await.unwrap();
    assert_eq!(polled["MessagesRequestId"], "r");
    let message = &polled["Messages"][0];
    let id = message["MessageId"].as_str().unwrap();
    assert_eq!(id, format!("aws.ssm.{command}.{node_id}"));
    assert_eq!(message["Destination"], node_id.as_str());
    assert_eq!(message["Topic"], "aws.ssm.sendCommand.AWS-RunShellScript");
    let created = message["CreatedDate"].as_str().unwrap();
    created.parse::<jiff::Timestamp>().unwrap();
    let payload: Value = serde_json::from_str(message["Payload"].as_str().unwrap()).unwrap();
    assert_eq!(payload["CommandId"], command.as_str());

    reply(&agent, id, "InProgress").await;
    let named = json!({"MessageId": id});
    agent
        .delivery("AcknowledgeMessage", named.clone())
        .await
        .unwrap();
    reply(&agent, id, "Success").await;
    agent.delivery("DeleteMessage", named).await.unwrap();

    let asked = json!({"CommandId": command, "InstanceId": node_id});
    let found = alice.ssm("GetCommandInvocation", asked).await.unwrap();
    assert_eq!(found["Status"], "Success");
    drop(gateway);
}

#[tokio::test]
async fn node_speaks_of_its_own_messages_alone() {
    let (gateway, alice, agent, node_id) = world().await;
    for operation in [
        "AcknowledgeMessage",
        "FailMessage",
        "DeleteMessage",
        "SendReply",
    ] {
        for id in ["aws.ssm.c.mi-ffffffffffffffff0", "nonsense", ""] {
            let refused = agent.delivery(operation, json!({"MessageId": id})).await;
            assert_eq!(
                refused.unwrap_err(),
                "InvalidMessageIdException",
                "{operation} {id}"
            );
        }
        let own = json!({"MessageId": format!("aws.ssm.c.{node_id}"), "Payload": "no report",
            "FailureType": "InternalHandlerException"});
        agent.delivery(operation, own).await.unwrap();
    }
    let other = json!({"Destination": "mi-ffffffffffffffff0"});
    for operation in ["GetMessages", "GetEndpoint"] {
        let refused = agent.delivery(operation, other.clone()).await;
        assert_eq!(refused.unwrap_err(), "AccessDeniedException");
    }
    let endpoint = agent
        .delivery("GetEndpoint", json!({"Destination": node_id}))
        .await;
    let url = gateway.running.url.as_str().trim_end_matches('/');
    assert_eq!(endpoint.unwrap(), json!({"Endpoint": url}));
    let person = alice.delivery("GetMessages", json!({})).await;
    assert_eq!(person.unwrap_err(), "AccessDeniedException");
    let unknown = agent.delivery("Dance", json!({})).await;
    assert_eq!(unknown.unwrap_err(), "AccessDeniedException");
}

/// A gateway, a person, and a node's agent.
pub(super) async fn world() -> (Gateway, Tool, Tool, String) {
    let gateway = gateway().await;
    let alice = gateway.person("alice").await;
    let (id, code) = activate(&alice, json!({})).await;
    let host = Host::new();
    let node_id = host.register(&gateway.running, &id, &code).await.unwrap();
    let agent = host.credentials(&gateway.running, &node_id).await.unwrap();
    (gateway, alice, agent, node_id)
}

async fn reply(agent: &Tool, message_id: &str, status: &str) {
    let report = json!({"additionalInfo": {"dateTime": "", "runId": ""}, "documentStatus": status,
        "documentTraceOutput": "", "runtimeStatus": null});
    let reply = json!({"MessageId": message_id, "Payload": report.to_string(), "ReplyId": "u"});
    let taken = agent.delivery("SendReply", reply).await.unwrap();
    assert_eq!(
        (&taken["MessageId"], &taken["ReplyId"]),
        (&message_id.into(), &"u".into())
    );
}

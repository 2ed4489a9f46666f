//! Run Command through the API: lists, steps, cancellations, and how calls are refused.

use std::time::{Duration, SystemTime};

use jiff::Timestamp;
use serde_json::{Value, json};
use uuid::Uuid;

use super::caller::Tool;
use super::mds::world;
use super::{Gateway, gateway};
use crate::gateway::store::commands::{CommandNode, CommandRecord, InvocationStatus};
use crate::protocol::wire::codec::Limit;
use crate::protocol::wire::job::CommandId;

const SHELL: &str = "AWS-RunShellScript";
const MINUTE: Duration = Duration::from_secs(60);

#[tokio::test]
async fn commands_are_listed_with_filters_and_pages() {
    let gateway = gateway().await;
    let alice = gateway.person("alice").await;
    let past = past_commands(&gateway).await;
    let list = async |request: Value| {
        let page = alice.ssm("ListCommands", request).await.unwrap();
        let commands = page["Commands"].as_array().unwrap().iter();
        let at = |command: &Value| past.ids.iter().position(|id| command["CommandId"] == **id);
        let commands: Vec<usize> = commands.map(|command| at(command).unwrap()).collect();
        (commands, page["NextToken"].clone())
    };

    let mut request = json!({"MaxResults": 3});
    let (first, token) = list(request.clone()).await;
    request["NextToken"] = token;
    let (second, end) = list(request).await;
    assert_eq!((first, second), (vec![4, 3, 2], vec![1, 0]));
    assert_eq!(end, Value::Null);
    for (key, value, expected) in [
        ("InvokedAfter", past.at(2), vec![4, 3]),
        ("InvokedBefore", past.at(2), vec![1, 0]),
        ("DocumentName", "Other".into(), vec![4, 3]),
        ("ExecutionStage", "Complete".into(), vec![1, 0]),
        ("ExecutionStage", "Executing".into(), vec![4, 3, 2]),
        ("Status", "Success".into(), vec![0]),
        ("Status", "Failed".into(), vec![1]),
        ("Status", "InProgress".into(), vec![4, 2]),
        ("Status", "Pending".into(), vec![3]),
        ("Status", "TimedOut".into(), vec![]),
    ] {
        let filtered = json!({"Filters": [{"key": key, "value": value}]});
        assert_eq!(list(filtered).await.0, expected, "{key} {value}");
    }
    let both = json!({"Filters": [
        {"key": "DocumentName", "value": "Other"}, {"key": "Status", "value": "Pending"},
    ]});
    assert_eq!(list(both).await.0, [3]);
    assert_eq!(list(json!({"InstanceId": "mi-b"})).await.0, [4]);
    assert_eq!(list(json!({"InstanceId": "mi-c"})).await.0, [0; 0]);
    assert_eq!(list(json!({"CommandId": past.ids[2]})).await.0, [2]);
}

#[tokio::test]
async fn listed_command_counts_its_invocations() {
    let gateway = gateway().await;
    let alice = gateway.person("alice").await;
    let past = past_commands(&gateway).await;

    let request = json!({"CommandId": past.ids[4]});
    let listed = alice.ssm("ListCommands", request).await.unwrap();

    let command = &listed["Commands"][0];
    let counts = ["TargetCount", "CompletedCount", "ErrorCount"].map(|name| &command[name]);
    assert_eq!(counts, [2, 1, 0]);
    assert_eq!(command["InstanceIds"], json!(["mi-a", "mi-b"]));
    assert_eq!(command["StatusDetails"], "InProgress");
}

#[tokio::test]
async fn invocations_are_listed_with_filters_and_pages() {
    let gateway = gateway().await;
    let alice = gateway.person("alice").await;
    let past = past_commands(&gateway).await;
    let list = async |request: Value| {
        let page = alice.ssm("ListCommandInvocations", request).await.unwrap();
        let invocations = page["CommandInvocations"].as_array().unwrap().len();
        (invocations, page["NextToken"].clone())
    };

    let mut request = json!({"MaxResults": 4});
    let (first, token) = list(request.clone()).await;
    request["NextToken"] = token;
    let (second, end) = list(request).await;
    assert_eq!((first, second, end), (4, 2, Value::Null));
    for (request, count) in [
        (json!({"CommandId": past.ids[4]}), 2),
        (json!({"CommandId": past.ids[4], "InstanceId": "mi-b"}), 1),
        (json!({"InstanceId": "mi-a"}), 5),
        (
            json!({"Filters": [{"key": "Status", "value": "Pending"}]}),
            2,
        ),
        (
            json!({"Filters": [{"key": "InvokedAfter", "value": past.at(3)}]}),
            2,
        ),
    ] {
        assert_eq!(list(request.clone()).await.0, count, "{request}");
    }
}

#[tokio::test]
async fn lists_of_commands_refuse_what_the_model_does_not_know() {
    let gateway = gateway().await;
    let alice = gateway.person("alice").await;
    let filtered = |key: &str, value: &str| json!({"Filters": [{"key": key, "value": value}]});
    let status = json!({"key": "Status", "value": "Success"});

    for (request, code) in [
        (filtered("Colour", "red"), "InvalidFilterKey"),
        (filtered("InvokedAfter", "now"), "ValidationException"),
        (filtered("DocumentName", ""), "ValidationException"),
        (json!({"Filters": vec![status; 6]}), "ValidationException"),
        (json!({"NextToken": "x"}), "InvalidNextToken"),
        (json!({"MaxResults": 51}), "ValidationException"),
        (json!({"CommandId": "short"}), "ValidationException"),
    ] {
        for operation in ["ListCommands", "ListCommandInvocations"] {
            let refused = alice.ssm(operation, request.clone()).await;
            assert_eq!(refused.unwrap_err(), code, "{operation} {request}");
        }
    }
    for (operation, value, code) in [
        ("ListCommands", "Late", "ValidationException"),
        ("ListCommandInvocations", "Complete", "InvalidFilterKey"),
    ] {
        let refused = alice
            .ssm(operation, filtered("ExecutionStage", value))
            .await;
        assert_eq!(refused.unwrap_err(), code, "{operation}");
    }
}

#[tokio::test]
async fn step_that_was_not_reported_is_pending_and_only_unknown_names_are_refused() {
    let (_gateway, alice, agent, node_id) = world().await;
    let sent = json!({"DocumentName": "AWS-RunRemoteScript", "InstanceIds": [node_id],
        "Parameters": {"sourceType": ["HTTP"], "sourceInfo": ["{\"url\":\"https://h/x\"}"]}});
    let sent = alice.ssm("SendCommand", sent).await.unwrap();
    let id = sent["Command"]["CommandId"].as_str().unwrap().to_owned();
    let job = format!("aws.ssm.{id}.{node_id}");
    let shown = async |name: &str| {
        let asked = json!({"CommandId": id, "InstanceId": node_id, "PluginName": name});
        let found = alice.ssm("GetCommandInvocation", asked).await?;
        let text = |member: &str| found[member].as_str().unwrap().to_owned();
        assert_eq!(text("PluginName"), name);
        Ok::<_, String>((
            text("Status"),
            text("StatusDetails"),
            found["ResponseCode"].as_i64(),
        ))
    };
    let stands = |status: &str, code: i64| Ok((status.into(), status.into(), Some(code)));
    let steps = ["downloadContent", "runShellScript"];

    for name in steps {
        assert_eq!(shown(name).await, stands("Pending", -1), "{name}");
    }
    assert_eq!(shown("other").await, Err("InvalidPluginName".into()));
    let download = step("aws:downloadContent", "Success", 0);
    report(
        &agent,
        &job,
        "InProgress",
        json!({"downloadContent": download}),
    )
    .await;
    assert_eq!(shown(steps[0]).await, stands("Success", 0));
    assert_eq!(shown(steps[1]).await, stands("Pending", -1));
    assert_eq!(shown("other").await, Err("InvalidPluginName".into()));
    // The report of the end overtakes that of the last step.
    report(&agent, &job, "Success", json!({})).await;
    assert_eq!(shown(steps[1]).await, stands("Pending", -1));
    let script = step("aws:runShellScript", "Success", 0);
    report(
        &agent,
        &job,
        "InProgress",
        json!({"runShellScript": script}),
    )
    .await;
    assert_eq!(shown(steps[1]).await, stands("Success", 0));
}

#[tokio::test]
async fn step_of_a_command_that_ended_without_it_stands_as_the_command_does() {
    let (_gateway, alice, agent, node_id) = world().await;
    let sent = json!({"DocumentName": "AWS-RunRemoteScript", "InstanceIds": [node_id],
        "Parameters": {"sourceType": ["HTTP"], "sourceInfo": ["{\"url\":\"https://h/x\"}"]}});
    let sent = alice.ssm("SendCommand", sent).await.unwrap();
    let id = sent["Command"]["CommandId"].as_str().unwrap();

    let job = format!("aws.ssm.{id}.{node_id}");
    report(&agent, &job, "Failed", Value::Null).await;

    let asked = json!({"CommandId": id, "InstanceId": node_id, "PluginName": "runShellScript"});
    let found = alice.ssm("GetCommandInvocation", asked).await.unwrap();
    assert_eq!(
        (&found["Status"], &found["ResponseCode"]),
        (&"Failed".into(), &(-1).into())
    );
}

#[tokio::test]
async fn cancellation_is_in_effect_when_it_is_answered() {
    let (_gateway, alice, _agent, node_id) = world().await;
    let sent = json!({"DocumentName": SHELL, "InstanceIds": [node_id],
        "Parameters": {"commands": ["true"]}});
    let sent = alice.ssm("SendCommand", sent).await.unwrap();
    let id = sent["Command"]["CommandId"].as_str().unwrap();
    let unknown = Uuid::new_v4().to_string();

    for (request, code) in [
        (json!({}), "ValidationException"),
        (json!({"CommandId": unknown}), "InvalidCommandId"),
        (
            json!({"CommandId": id, "InstanceIds": ["mi-ffffffffffffffff0"]}),
            "InvalidInstanceId",
        ),
    ] {
        let refused = alice.ssm("CancelCommand", request.clone()).await;
        assert_eq!(refused.unwrap_err(), code, "{request}");
    }
    let request = json!({"CommandId": id, "InstanceIds": [node_id]});
    assert_eq!(alice.ssm("CancelCommand", request).await, Ok(json!({})));

    let listed = alice
        .ssm("ListCommands", json!({"CommandId": id}))
        .await
        .unwrap();
    assert_eq!(listed["Commands"][0]["StatusDetails"], "Cancelled");
}

#[tokio::test]
async fn commands_are_refused_in_codes_of_aws() {
    let (_gateway, alice, agent, node_id) = world().await;
    let report = json!({"InstanceId": node_id, "AgentName": "amazon-ssm-agent",
        "AgentVersion": "3.3.0.0", "AgentStatus": "Active", "PlatformType": "Windows"});
    agent
        .ssm("UpdateInstanceInformation", report)
        .await
        .unwrap();
    let long = "x".repeat(Limit::PAYLOAD / 2);
    let send = |name: &str, nodes: &[&str], command: &str| json!({"DocumentName": name, "InstanceIds": nodes, "Parameters": {"commands": [command]}});
    let (node, power_shell) = (node_id.as_str(), "AWS-RunPowerShellScript");

    for (request, code) in [
        (send(SHELL, &[node], "true"), "UnsupportedPlatformType"),
        (send(power_shell, &[node], &long), "MaxDocumentSizeExceeded"),
        (send(power_shell, &[node, node], "1"), "DuplicateInstanceId"),
        (
            send(SHELL, &["mi-ffffffffffffffff0"], "true"),
            "InvalidInstanceId",
        ),
        (send("No-Doc", &[node], "true"), "InvalidDocument"),
        (send(SHELL, &[], "true"), "ValidationException"),
        (
            json!({"DocumentName": SHELL, "InstanceIds": [node]}),
            "InvalidParameters",
        ),
    ] {
        let refused = alice.ssm("SendCommand", request.clone()).await;
        assert_eq!(refused.unwrap_err(), code, "{request:.200}");
    }
    let taken = alice.ssm("SendCommand", send(power_shell, &[node], "1"));
    assert_eq!(taken.await.unwrap()["Command"]["Status"], "Pending");
}

#[tokio::test]
async fn tags_of_a_node_have_limits() {
    let (_gateway, alice, _agent, node_id) = world().await;
    let add = async |tags: Value| {
        let request =
            json!({"ResourceType": "ManagedInstance", "ResourceId": node_id, "Tags": tags});
        alice.ssm("AddTagsToResource", request).await
    };
    let tag = |key: String| json!({"Key": key, "Value": "v"});
    let numbered = |range: std::ops::Range<u32>| {
        let tags = range.map(|number| tag(format!("key-{number}")));
        Value::Array(tags.collect())
    };

    let reserved = add(json!([tag("aws:mine".into())])).await;
    assert_eq!(reserved.unwrap_err(), "ValidationException");
    assert_eq!(add(numbered(0..50)).await, Ok(json!({})));
    assert_eq!(add(numbered(40..50)).await, Ok(json!({})));
    let more = add(numbered(50..51)).await;
    assert_eq!(more.unwrap_err(), "TooManyTagsError");
}

/// Commands that were sent a minute apart, the oldest first.
struct Past {
    ids: Vec<String>,
    began: SystemTime,
}

impl Past {
    /// When the command of this number was sent.
    fn at(&self, number: u32) -> String {
        let at = Timestamp::try_from(self.began + number * MINUTE).unwrap();
        at.to_string()
    }
}

/// On node `mi-a` five commands that ended well, failed, run, wait, and, the last, that ended well there
/// and waits for `mi-b`. The last two are of document `Other`.
async fn past_commands(gateway: &Gateway) -> Past {
    use InvocationStatus::{Failed, InProgress, Pending, Success};

    let store = gateway.running.store();
    let mut past = Past {
        ids: Vec::new(),
        began: SystemTime::now() - 60 * MINUTE,
    };
    for (number, status) in (0..).zip([Success, Failed, InProgress, Pending, Success]) {
        let nodes: &[&str] = if number == 4 {
            &["mi-a", "mi-b"]
        } else {
            &["mi-a"]
        };
        let name = if number < 3 { SHELL } else { "Other" };
        let command = command(name, nodes, past.began + number * MINUTE);
        let id = command.command_id.clone();
        let nodes = nodes.iter().map(|node| CommandNode {
            node_id: (*node).to_owned(),
            name: String::new(),
        });
        store
            .insert_command(command, nodes.collect())
            .await
            .unwrap();
        past.ids.push(id.to_string());
        let stands = vec![(id, "mi-a".to_owned(), status)];
        store.set_invocations(stands).await.unwrap();
    }
    past
}

fn command(document: &str, nodes: &[&str], requested: SystemTime) -> CommandRecord {
    let text = String::new;
    CommandRecord {
        command_id: CommandId::new(Uuid::new_v4().to_string()).unwrap(),
        owner: "arn:aws:iam::000000000000:user/alice".into(),
        document_name: document.into(),
        document_version: text(),
        comment: text(),
        parameters: "{}".into(),
        node_ids: json!(nodes).to_string(),
        targets: "[]".into(),
        max_concurrency: "50".into(),
        max_errors: "0".into(),
        s3_bucket: text(),
        s3_prefix: text(),
        s3_region: text(),
        log_group: text(),
        log_enabled: false,
        requested,
        expires: requested + 120 * MINUTE,
        timeout_seconds: 7200,
        execution: MINUTE,
        content: "{}".into(),
        cancelled: false,
    }
}

fn step(plugin: &str, status: &str, code: i64) -> Value {
    json!({"name": plugin, "status": status, "code": code, "output": "",
        "startDateTime": "2024-10-15T21:22:05.123Z", "endDateTime": "2024-10-15T21:22:06.123Z",
        "outputS3BucketName": "", "outputS3KeyPrefix": "", "stepName": "", "standardOutput": "",
        "standardError": ""})
}

/// The node reports how the document stands, and these steps.
async fn report(agent: &Tool, job: &str, status: &str, steps: Value) {
    let report = json!({"additionalInfo": {"dateTime": "", "runId": ""}, "documentStatus": status,
        "documentTraceOutput": "", "runtimeStatus": steps});
    let reply = json!({"MessageId": job, "Payload": report.to_string(), "ReplyId": "u"});
    agent.delivery("SendReply", reply).await.unwrap();
}

//! A command as the API shows it.

use serde::Serialize;
use serde_json::Value;

use super::super::super::answer::epoch_seconds;
use crate::gateway::store::commands::{CommandRecord, CommandSummary, InvocationStatus};

/// `Command`.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Command {
    command_id: String,
    document_name: String,
    document_version: String,
    comment: String,
    expires_after: f64,
    parameters: Value,
    instance_ids: Value,
    targets: Value,
    requested_date_time: f64,
    status: &'static str,
    status_details: &'static str,
    #[serde(rename = "OutputS3Region", skip_serializing_if = "String::is_empty")]
    output_s3_region: String,
    #[serde(rename = "OutputS3BucketName")]
    output_s3_bucket_name: String,
    #[serde(rename = "OutputS3KeyPrefix")]
    output_s3_key_prefix: String,
    max_concurrency: String,
    max_errors: String,
    target_count: u64,
    completed_count: u64,
    error_count: u64,
    delivery_timed_out_count: u64,
    service_role: &'static str,
    notification_config: Notification,
    cloud_watch_output_config: CloudWatchOutput,
    timeout_seconds: i64,
}

/// `NotificationConfig`: there are none.
#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Notification {
    notification_arn: &'static str,
    notification_events: [&'static str; 0],
    notification_type: &'static str,
}

/// `CloudWatchOutputConfig`.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct CloudWatchOutput {
    cloud_watch_log_group_name: String,
    cloud_watch_output_enabled: bool,
}

impl CloudWatchOutput {
    pub(super) fn of(command: &CommandRecord) -> Self {
        Self {
            cloud_watch_log_group_name: command.log_group.clone(),
            cloud_watch_output_enabled: command.log_enabled,
        }
    }
}

impl From<CommandSummary> for Command {
    fn from(summary: CommandSummary) -> Self {
        let (status, status_details) = status(&summary);
        let count = |is_it: fn(InvocationStatus) -> bool| count(&summary, is_it);
        let (target_count, completed_count, error_count, delivery_timed_out_count) = (
            count(|_| true),
            count(InvocationStatus::is_final),
            count(InvocationStatus::is_error),
            count(|status| status == InvocationStatus::DeliveryTimedOut),
        );
        let command = summary.command;
        let json = |text: &str| serde_json::from_str(text).unwrap_or(Value::Null);
        Self {
            cloud_watch_output_config: CloudWatchOutput::of(&command),
            command_id: command.command_id.to_string(),
            document_name: command.document_name,
            document_version: command.document_version,
            comment: command.comment,
            expires_after: epoch_seconds(command.expires),
            parameters: json(&command.parameters),
            instance_ids: json(&command.node_ids),
            targets: json(&command.targets),
            requested_date_time: epoch_seconds(command.requested),
            status,
            status_details,
            output_s3_region: command.s3_region,
            output_s3_bucket_name: command.s3_bucket,
            output_s3_key_prefix: command.s3_prefix,
            max_concurrency: command.max_concurrency,
            max_errors: command.max_errors,
            target_count,
            completed_count,
            error_count,
            delivery_timed_out_count,
            service_role: "",
            notification_config: Notification::default(),
            timeout_seconds: command.timeout_seconds,
        }
    }
}

fn count(summary: &CommandSummary, is_it: impl Fn(InvocationStatus) -> bool) -> u64 {
    let counts = summary.counts.iter().filter(|(status, _)| is_it(*status));
    counts.map(|(_, count)| count).sum()
}

/// `Status` and `StatusDetails` of a command, by those of its invocations.
pub(super) fn status(summary: &CommandSummary) -> (&'static str, &'static str) {
    use InvocationStatus::{Cancelled, DeliveryTimedOut, Failed, Pending, Success};

    let count = |is_it: fn(InvocationStatus) -> bool| count(summary, is_it);
    let total = count(|_| true);
    if total == 0 {
        return ("Failed", "NoInstancesInTag");
    }
    if count(|status| !status.is_final()) > 0 {
        return if summary.command.cancelled {
            ("Cancelling", "Cancelling")
        } else if count(|status| status != Pending) > 0 {
            ("InProgress", "InProgress")
        } else {
            ("Pending", "Pending")
        };
    }
    if count(|status| status == Success) == total {
        return ("Success", "Success");
    }
    let max_errors = max_errors(&summary.command.max_errors, total);
    if count(InvocationStatus::is_error) > max_errors {
        return if count(|status| status == Failed) > 0 {
            ("Failed", "Failed")
        } else {
            ("TimedOut", "ExecutionTimedOut")
        };
    }
    if summary.command.cancelled || count(|status| status == Cancelled) > 0 {
        return ("Cancelled", "Cancelled");
    }
    // Documented as "max-errors or more".
    let undelivered = count(|status| status == DeliveryTimedOut);
    if undelivered == total || undelivered >= max_errors.max(1) {
        return ("TimedOut", "DeliveryTimedOut");
    }
    ("Failed", "Incomplete")
}

fn max_errors(text: &str, total: u64) -> u64 {
    match text.strip_suffix('%') {
        None => text.parse().unwrap_or(0),
        Some("0") => 0,
        Some(percent) => (total * percent.parse::<u64>().unwrap_or(0) / 100).max(1),
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, SystemTime};

    use super::*;
    use crate::protocol::wire::job::CommandId;

    #[test]
    fn command_stands_as_its_invocations_do() {
        use InvocationStatus::{
            Cancelled, Cancelling, DeliveryTimedOut, ExecutionTimedOut, Failed, InProgress,
            Pending, Success, Terminated, Undeliverable,
        };

        for (counts, max_errors, cancelled, expected) in [
            (vec![], "0", false, ("Failed", "NoInstancesInTag")),
            (vec![(Pending, 2)], "0", false, ("Pending", "Pending")),
            (
                vec![(Pending, 1), (Success, 1)],
                "0",
                false,
                ("InProgress", "InProgress"),
            ),
            (
                vec![(InProgress, 1)],
                "0",
                false,
                ("InProgress", "InProgress"),
            ),
            (
                vec![(Cancelling, 1)],
                "0",
                true,
                ("Cancelling", "Cancelling"),
            ),
            (vec![(Success, 3)], "0", false, ("Success", "Success")),
            (
                vec![(Success, 3), (Failed, 1)],
                "0",
                false,
                ("Failed", "Failed"),
            ),
            (
                vec![(Success, 3), (Failed, 1)],
                "1",
                false,
                ("Failed", "Incomplete"),
            ),
            (
                vec![(Success, 1), (Failed, 1)],
                "50%",
                false,
                ("Failed", "Incomplete"),
            ),
            (
                vec![(ExecutionTimedOut, 1)],
                "0",
                false,
                ("TimedOut", "ExecutionTimedOut"),
            ),
            (
                vec![(DeliveryTimedOut, 1)],
                "0",
                false,
                ("TimedOut", "DeliveryTimedOut"),
            ),
            (
                vec![(DeliveryTimedOut, 1), (Success, 9)],
                "0",
                false,
                ("TimedOut", "DeliveryTimedOut"),
            ),
            (
                vec![(DeliveryTimedOut, 2)],
                "5",
                false,
                ("TimedOut", "DeliveryTimedOut"),
            ),
            (
                vec![(DeliveryTimedOut, 1), (Success, 9)],
                "2",
                false,
                ("Failed", "Incomplete"),
            ),
            (
                vec![(DeliveryTimedOut, 1), (Failed, 1)],
                "0",
                false,
                ("Failed", "Failed"),
            ),
            (
                vec![(Undeliverable, 1), (Success, 1)],
                "0",
                false,
                ("Failed", "Incomplete"),
            ),
            (
                vec![(Cancelled, 1), (Success, 1)],
                "0",
                true,
                ("Cancelled", "Cancelled"),
            ),
            (
                vec![(Failed, 1), (Terminated, 9)],
                "0",
                false,
                ("Failed", "Failed"),
            ),
        ] {
            let summary = CommandSummary {
                command: command(max_errors, cancelled),
                counts: counts.clone(),
            };
            assert_eq!(status(&summary), expected, "{counts:?}");
        }
    }

    #[test]
    fn errors_are_counted_without_what_did_not_reach_its_node() {
        use InvocationStatus::{DeliveryTimedOut, ExecutionTimedOut, Failed, Undeliverable};

        let statuses = [DeliveryTimedOut, ExecutionTimedOut, Failed, Undeliverable];
        let shown = Command::from(CommandSummary {
            command: command("0", false),
            counts: statuses.map(|status| (status, 1)).to_vec(),
        });

        assert_eq!((shown.target_count, shown.completed_count), (4, 4));
        assert_eq!((shown.error_count, shown.delivery_timed_out_count), (2, 1));
    }

    fn command(max_errors: &str, cancelled: bool) -> CommandRecord {
        let text = String::new;
        CommandRecord {
            command_id: CommandId::new("c").unwrap(),
            owner: text(),
            document_name: text(),
            document_version: text(),
            comment: text(),
            parameters: text(),
            node_ids: text(),
            targets: text(),
            max_concurrency: "50".into(),
            max_errors: max_errors.into(),
            s3_bucket: text(),
            s3_prefix: text(),
            s3_region: text(),
            log_group: text(),
            log_enabled: false,
            requested: SystemTime::now(),
            expires: SystemTime::now(),
            timeout_seconds: 60,
            execution: Duration::ZERO,
            content: text(),
            cancelled,
        }
    }
}

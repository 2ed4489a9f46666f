use std::collections::BTreeMap;

use super::*;
use crate::protocol::wire::command::{Report, Status, StepReport};

#[tokio::test]
async fn command_is_kept_with_its_invocations() {
    let store = Store::open_in_memory().unwrap();
    let sent = send(&store, "c-1", &["mi-1", "mi-2"], 1000).await;

    let kept = store.command(&sent.command_id).await.unwrap();
    let (invocation, steps) = store
        .invocation(&sent.command_id, "mi-2")
        .await
        .unwrap()
        .unwrap();

    assert_eq!(kept, Some(sent.clone()));
    assert_eq!(invocation.status, InvocationStatus::Pending);
    assert_eq!(invocation.node_name, "name of mi-2");
    assert!(steps.is_empty());
    assert_eq!(
        store.invocation(&sent.command_id, "mi-3").await.unwrap(),
        None
    );
    let open = store.open_commands().await.unwrap();
    assert_eq!(open[0].1.len(), 2);
}

#[tokio::test]
async fn reports_are_merged_and_the_end_stays() {
    let store = Store::open_in_memory().unwrap();
    let id = send(&store, "c-1", &["mi-1"], 1000).await.command_id;
    let status = async || {
        let found = store.invocation(&id, "mi-1").await.unwrap();
        found
            .map(|(invocation, steps)| (invocation.status, steps.len()))
            .unwrap()
    };
    let apply = async |document, steps: &[(&str, Status)]| {
        let report = report(document, steps);
        store.apply_report(&id, "mi-1", report).await.unwrap()
    };

    assert_eq!(apply(Status::InProgress, &[]).await, Applied::Noted);
    assert_eq!(status().await, (InvocationStatus::InProgress, 0));
    apply(Status::InProgress, &[("a", Status::Success)]).await;
    // The last reply overtakes the one before it.
    let failed = InvocationStatus::Failed;
    assert_eq!(
        apply(Status::Failed, &[]).await,
        Applied::Ended(Ended { status: failed })
    );
    assert_eq!(
        apply(Status::InProgress, &[("b", Status::Failed)]).await,
        Applied::Noted
    );
    assert_eq!(apply(Status::Success, &[]).await, Applied::Noted);

    assert_eq!(status().await, (failed, 2));
    assert!(store.open_commands().await.unwrap().is_empty());
}

#[tokio::test]
async fn reboot_is_not_the_end() {
    let store = Store::open_in_memory().unwrap();
    let id = send(&store, "c-1", &["mi-1"], 1000).await.command_id;

    let report = report(Status::SuccessAndReboot, &[("a", Status::SuccessAndReboot)]);
    let applied = store.apply_report(&id, "mi-1", report).await.unwrap();

    assert_eq!(applied, Applied::Noted);
    let (invocation, _) = store.invocation(&id, "mi-1").await.unwrap().unwrap();
    assert_eq!(invocation.status, InvocationStatus::InProgress);
}

#[tokio::test]
async fn late_report_of_a_reboot_does_not_undo_the_end_of_a_step() {
    let store = Store::open_in_memory().unwrap();
    let id = send(&store, "c-1", &["mi-1"], 1000).await.command_id;
    let apply = async |document, step: Status| {
        let report = report(document, &[("a", step)]);
        store.apply_report(&id, "mi-1", report).await.unwrap()
    };
    let step = async || {
        let (_, steps) = store.invocation(&id, "mi-1").await.unwrap().unwrap();
        steps[0].status.clone()
    };

    apply(Status::SuccessAndReboot, Status::SuccessAndReboot).await;
    assert_eq!(step().await, "SuccessAndReboot");
    apply(Status::Success, Status::Success).await;
    for late in [
        Status::SuccessAndReboot,
        Status::InProgress,
        Status::NotStarted,
    ] {
        apply(Status::InProgress, late).await;
        assert_eq!(step().await, "Success");
    }
}

#[tokio::test]
async fn report_of_another_node_is_unknown() {
    let store = Store::open_in_memory().unwrap();
    let id = send(&store, "c-1", &["mi-1"], 1000).await.command_id;

    let report = report(Status::Success, &[]);
    let applied = store.apply_report(&id, "mi-2", report).await.unwrap();

    assert_eq!(applied, Applied::Unknown);
}

#[tokio::test]
async fn lists_are_filtered_and_paged_newest_first() {
    let store = Store::open_in_memory().unwrap();
    for (name, at) in [("c-1", 1000), ("c-2", 2000), ("c-3", 2000)] {
        send(&store, name, &["mi-1", "mi-2"], at).await;
    }
    let id = CommandId::new("c-2").unwrap();
    store
        .set_invocations(vec![(
            id,
            "mi-1".into(),
            InvocationStatus::DeliveryTimedOut,
        )])
        .await
        .unwrap();

    let mut seen = Vec::new();
    let mut from = None;
    loop {
        let page = store
            .commands(CommandFilter::default(), from, 2, |_| true)
            .await
            .unwrap();
        seen.extend(
            page.items
                .iter()
                .map(|item| item.command.command_id.to_string()),
        );
        from = match page.next {
            Some(next) => Before::parse(&next),
            None => break,
        };
    }
    assert_eq!(seen, ["c-3", "c-2", "c-1"]);

    let listed = async |filter: InvocationFilter| {
        let mut seen = Vec::new();
        let mut from = None;
        loop {
            let page = store.invocations(filter.clone(), from, 1).await.unwrap();
            for (invocation, command) in page.items {
                assert_eq!(invocation.command_id, command.command_id);
                seen.push(format!("{} {}", invocation.command_id, invocation.node_id));
            }
            from = match page.next {
                Some(next) => Before::parse(&next),
                None => break seen,
            };
        }
    };
    assert_eq!(listed(InvocationFilter::default()).await.len(), 6);
    let of_node = CommandFilter {
        node_id: Some("mi-2".into()),
        ..CommandFilter::default()
    };
    let of_node = InvocationFilter {
        commands: of_node,
        ..InvocationFilter::default()
    };
    assert_eq!(listed(of_node).await, ["c-3 mi-2", "c-2 mi-2", "c-1 mi-2"]);
    for status in ["TimedOut", "DeliveryTimedOut"] {
        let filter = InvocationFilter {
            status: Some(status.into()),
            ..InvocationFilter::default()
        };
        assert_eq!(listed(filter).await, ["c-2 mi-1"]);
    }
}

#[tokio::test]
async fn old_commands_are_forgotten_with_everything() {
    let store = Store::open_in_memory().unwrap();
    let old = send(&store, "c-1", &["mi-1"], 1000).await;
    let report = report(Status::Success, &[("a", Status::Success)]);
    store
        .apply_report(&old.command_id, "mi-1", report)
        .await
        .unwrap();

    let kept = store.forget_old_commands(old.requested + HISTORY).await;
    assert_eq!(kept.unwrap(), 0);
    let later = old.requested + HISTORY + Duration::from_secs(1);
    assert_eq!(store.forget_old_commands(later).await.unwrap(), 1);

    assert_eq!(store.command(&old.command_id).await.unwrap(), None);
    assert_eq!(
        store.invocation(&old.command_id, "mi-1").await.unwrap(),
        None
    );
}

#[test]
fn every_status_is_read_back_by_its_details() {
    for status in InvocationStatus::ALL {
        assert_eq!(InvocationStatus::of_details(status.details()), Some(status));
    }
}

async fn send(store: &Store, id: &str, nodes: &[&str], at_ms: u64) -> CommandRecord {
    let requested = SystemTime::UNIX_EPOCH + Duration::from_millis(at_ms);
    let command = CommandRecord {
        command_id: CommandId::new(id).unwrap(),
        owner: "arn:alice".into(),
        document_name: "AWS-RunShellScript".into(),
        document_version: String::new(),
        comment: "why".into(),
        parameters: r#"{"commands":["ls"]}"#.into(),
        node_ids: "[]".into(),
        targets: "[]".into(),
        max_concurrency: "50".into(),
        max_errors: "0".into(),
        s3_bucket: String::new(),
        s3_prefix: String::new(),
        s3_region: String::new(),
        log_group: String::new(),
        log_enabled: false,
        requested,
        expires: requested + Duration::from_secs(3600),
        timeout_seconds: 3600,
        execution: Duration::from_secs(60),
        content: "{}".into(),
        cancelled: false,
    };
    let nodes = nodes.iter().map(|node| CommandNode {
        node_id: (*node).into(),
        name: format!("name of {node}"),
    });
    store
        .insert_command(command.clone(), nodes.collect())
        .await
        .unwrap();
    command
}

fn report(document_status: Status, steps: &[(&str, Status)]) -> Report {
    let steps = steps.iter().map(|(name, status)| {
        let step = StepReport {
            status: status.clone(),
            ..StepReport::default()
        };
        ((*name).to_owned(), step)
    });
    Report {
        additional_info: Default::default(),
        document_status,
        document_trace_output: String::new(),
        runtime_status: Some(steps.collect::<BTreeMap<_, _>>()),
    }
}

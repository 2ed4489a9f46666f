use serde_json::json;

use super::*;
use crate::aws::tests::server::{Reply, TestServer};

#[tokio::test]
async fn group_is_found_among_those_that_begin_like_it_on_any_page() {
    let server = TestServer::start(|count, _| match count {
        0 => Reply::json(r#"{"logGroups":[{"logGroupName":"/grp-2"}],"nextToken":"t"}"#),
        _ => Reply::json(r#"{"logGroups":[{"logGroupName":"/grp","kmsKeyId":"arn"}]}"#),
    })
    .await;

    let group = server.client().log_group("/grp").await.unwrap().unwrap();

    assert_eq!(group.kms_key_id.as_deref(), Some("arn"));
    let seen = server.seen();
    assert_eq!(
        seen[0].header("x-amz-target"),
        "Logs_20140328.DescribeLogGroups"
    );
    assert!(
        seen[0]
            .header("authorization")
            .contains("/test-1/logs/aws4_request")
    );
    assert_eq!(seen[0].json(), json!({"logGroupNamePrefix": "/grp"}));
    assert_eq!(seen[1].json()["nextToken"], "t");
}

#[tokio::test]
async fn group_of_another_name_is_not_taken_for_it() {
    let server =
        TestServer::start(|_, _| Reply::json(r#"{"logGroups":[{"logGroupName":"/grp-2"}]}"#)).await;

    assert_eq!(server.client().log_group("/grp").await.unwrap(), None);
}

#[tokio::test]
async fn search_for_a_group_ends_though_pages_do_not() {
    let server = TestServer::start(|_, _| Reply::json(r#"{"logGroups":[],"nextToken":"t"}"#)).await;

    assert_eq!(server.client().log_group("/grp").await.unwrap(), None);

    assert_eq!(server.seen().len(), GROUP_PAGES);
}

#[tokio::test]
async fn stream_that_is_there_is_no_failure() {
    let server = TestServer::start(|count, _| match count {
        0 => Reply(200, vec![], String::new()),
        1 => Reply::refusal("ResourceAlreadyExistsException"),
        _ => Reply::refusal("ResourceNotFoundException"),
    })
    .await;
    let client = server.client();

    assert_eq!(
        client.create_log_stream(&stream()).await.unwrap(),
        Made::Now
    );
    assert_eq!(
        client.create_log_stream(&stream()).await.unwrap(),
        Made::Before
    );
    assert!(client.create_log_stream(&stream()).await.is_err());
    let seen = &server.seen()[0];
    assert_eq!(
        seen.json(),
        json!({"logGroupName": "/grp", "logStreamName": "alice-1"})
    );
}

#[tokio::test]
async fn events_go_out_once_whatever_the_answer() {
    for status in [500, 503, 400] {
        let server = TestServer::start(move |_, _| Reply(status, vec![], String::new())).await;
        let mut batch = LogBatch::default();
        batch.push(event(1)).unwrap();

        let answer = server
            .client()
            .put_log_events(&stream(), &batch, Some("t"))
            .await;

        assert!(answer.is_err());
        let seen = server.seen();
        assert_eq!(seen.len(), 1, "{status}");
        assert_eq!(
            seen[0].json(),
            json!({"logGroupName": "/grp", "logStreamName": "alice-1", "sequenceToken": "t",
                "logEvents": [{"timestamp": 7, "message": "x"}]})
        );
    }
}

#[tokio::test]
async fn events_that_were_not_stored_are_told_with_their_reason() {
    for (info, reason) in [
        (r#"{"tooNewLogEventStartIndex":0}"#, "in the future"),
        (r#"{"tooOldLogEventEndIndex":1}"#, "14 days"),
        (r#"{"expiredLogEventEndIndex":1}"#, "retention"),
    ] {
        let put: Put =
            serde_json::from_str(&format!(r#"{{"rejectedLogEventsInfo":{info}}}"#)).unwrap();

        assert!(put.rejected().unwrap().contains(reason), "{info}");
    }
    assert_eq!(Put::default().rejected(), None);
}

#[tokio::test]
async fn events_are_read_from_a_time_on() {
    let server = TestServer::start(|_, _| {
        Reply::json(
            r#"{"events":[{"timestamp":7,"message":"x","ingestionTime":8}],
                "nextForwardToken":"f/1","nextBackwardToken":"b/1"}"#,
        )
    })
    .await;

    let page = server
        .client()
        .log_events(&stream(), 7, None, 10)
        .await
        .unwrap();

    assert_eq!(page.events, [event(1)]);
    assert_eq!(page.next.as_deref(), Some("f/1"));
    assert_eq!(
        server.seen()[0].json(),
        json!({"logGroupName": "/grp", "logStreamName": "alice-1", "startTime": 7,
            "startFromHead": true, "limit": 10})
    );
}

#[tokio::test]
async fn token_of_the_stream_itself_is_read() {
    let server = TestServer::start(|_, _| {
        Reply::json(
            r#"{"logStreams":[{"logStreamName":"alice-10","uploadSequenceToken":"no"},
                {"logStreamName":"alice-1","uploadSequenceToken":"yes"}]}"#,
        )
    })
    .await;

    let token = server.client().log_sequence_token(&stream()).await.unwrap();

    assert_eq!(token.as_deref(), Some("yes"));
}

#[test]
fn batch_takes_what_the_service_takes() {
    let mut many = LogBatch::default();
    while many.push(event(1)).is_ok() {}
    let mut large = LogBatch::default();
    while large.push(event(MESSAGE_LIMIT)).is_ok() {}

    assert_eq!(many.events().len(), 10_000);
    assert_eq!(large.events().len(), 4);
    assert_eq!(large.bytes, 1 << 20);
}

fn event(bytes: usize) -> LogEvent {
    LogEvent {
        timestamp: 7,
        message: "x".repeat(bytes),
    }
}

fn stream() -> LogStream {
    LogStream {
        group: "/grp".into(),
        name: "alice-1".into(),
    }
}

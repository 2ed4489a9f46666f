mod fake;

use std::time::SystemTime;

use futures_util::FutureExt as _;

use super::*;
use crate::agent::transcript::End;
use crate::agent::transcript::file_sink::tests::about;
use crate::aws::tests::server::{Reply, TestServer};
use crate::aws::{Endpoints, StaticCredentials};
use crate::runtime::tls;
use fake::{Fake, Reason};

#[tokio::test]
async fn complete_lines_are_streamed_and_the_rest_follows_at_the_end() {
    let logs = Fake::start().await;
    let mut uploader = logs.uploader(Manner::Records, None);

    for entry in session() {
        assert_eq!(confirmed(&mut uploader, &[entry]).await, 1);
    }

    assert_eq!(logs.data(), ["one", "two", "three"]);
    assert_eq!(logs.messages().len(), 3, "one record an upload");
    assert_eq!(logs.operations()[0], "CreateLogStream");
    assert_eq!(uploader.place(), "/grp:alice-1");
}

#[tokio::test]
async fn text_goes_out_at_the_end_in_one_event() {
    let logs = Fake::start().await;
    let mut uploader = logs.uploader(Manner::Text, None);

    assert_eq!(confirmed(&mut uploader, &session()[..3]).await, 0);
    assert_eq!(logs.operations(), [""; 0]);
    assert_eq!(confirmed(&mut uploader, &session()).await, 4);

    let expected = concat!(
        "Script started on 1970-01-01 00:00:00+00:00 [COMMAND=\"/bin/bash\" <not executed on terminal>]\n",
        "one\r\ntwo\r\nthree\n",
        "Script done on 1970-01-01 00:00:00+00:00 [COMMAND_EXIT_CODE=\"0\"]"
    );
    assert_eq!(logs.messages(), [expected]);
}

#[tokio::test]
async fn text_of_a_long_session_goes_out_when_an_event_is_full() {
    let logs = Fake::start().await;
    let mut uploader = logs.uploader(Manner::Text, None);
    let line = "x".repeat(999) + "\n";
    let long = vec![output(line.repeat(201).leak()), output("rest\n")];

    assert_eq!(confirmed(&mut uploader, &long).await, 2);
    assert_eq!(confirmed(&mut uploader, &[end()]).await, 1);

    let sizes: Vec<_> = logs.messages().iter().map(String::len).collect();
    assert_eq!(sizes.len(), 3, "{sizes:?}");
    let text = logs.messages().join("\n");
    assert!(text.contains(&(line.repeat(201) + "rest\n\nScript done")));
}

#[tokio::test]
async fn full_batch_of_single_characters_is_confirmed() {
    let logs = Fake::start().await;
    let mut uploader = logs.uploader(Manner::Text, None);
    let many = vec![output("x"); BATCH.div_ceil(ENTRY_COST + 1)];

    assert_eq!(confirmed(&mut uploader, &many).await, many.len());
    assert_eq!(confirmed(&mut uploader, &[end()]).await, 1);

    let text = logs.messages().join("\n");
    assert!(text.contains(&("\n".to_owned() + &"x".repeat(many.len()) + "\n")));
}

#[tokio::test]
async fn session_without_a_byte_is_two_lines_of_text_and_no_stream_of_records() {
    let logs = Fake::start().await;

    confirmed(&mut logs.uploader(Manner::Records, None), &[end()]).await;
    assert_eq!(logs.operations(), [""; 0]);
    confirmed(&mut logs.uploader(Manner::Text, None), &[end()]).await;

    assert_eq!(logs.messages().len(), 1);
}

#[tokio::test]
async fn bytes_that_are_no_text_have_a_place_in_the_text() {
    let logs = Fake::start().await;
    let entries = [
        entry(Event::Output(vec![b'a', 0xff, b'b', b'\n'].into())),
        end(),
    ];

    confirmed(&mut logs.uploader(Manner::Records, None), &entries).await;

    assert_eq!(logs.data(), ["a\u{fffd}b"]);
}

#[tokio::test]
async fn batches_beyond_the_limits_of_a_call_go_in_several() {
    for line in ["\u{1}".repeat(32_000) + "\n", "\n".repeat(330_000)] {
        let logs = Fake::start().await;
        let count = 330_000_usize.div_ceil(line.len()) * 40;
        let entries: Vec<_> = vec![output(line.leak()); count / 40 * 16];
        let mut uploader = logs.uploader(Manner::Records, None);

        confirmed(&mut uploader, &entries).await;

        let puts = logs.operations();
        let puts = puts.iter().filter(|name| *name == "PutLogEvents").count();
        assert!(puts > 1, "{puts}");
        let lines: usize = entries.iter().map(lines_of).sum();
        assert_eq!(logs.data().len(), lines);
    }
}

#[tokio::test]
async fn events_keep_their_order_when_the_clock_steps_back() {
    let logs = Fake::start().await;
    let mut uploader = logs.uploader(Manner::Records, None);
    confirmed(&mut uploader, &[output("one\n")]).await;
    let future = logs.times()[0] + 3_600_000;
    // As if the clock had been an hour ahead.
    uploader.last = future;

    confirmed(&mut uploader, &[output("two\n")]).await;
    confirmed(&mut uploader, &[output("three\n")]).await;

    assert_eq!(logs.times()[1..], [future + 1, future + 2]);
    assert_eq!(logs.data(), ["one", "two", "three"]);
}

#[tokio::test]
async fn events_whose_answer_was_lost_are_not_stored_twice() {
    for manner in [Manner::Records, Manner::Text] {
        let logs = Fake::start().await;
        let mut uploader = logs.uploader(manner, None);
        logs.lose_answers(1);

        let failed = uploader.upload(&session()).await.unwrap_err();
        assert!(!failed.is_final());
        // More was shown meanwhile, the end among it.
        assert_eq!(confirmed(&mut uploader, &session()).await, 4);

        assert_eq!(whole(&logs, manner).matches("two").count(), 1);
        assert!(logs.operations().contains(&"GetLogEvents".to_owned()));
    }
}

#[tokio::test]
async fn events_that_a_call_did_not_get_to_are_sent_alone() {
    let logs = Fake::start().await;
    let mut uploader = logs.uploader(Manner::Records, None);
    let entries: Vec<_> = (0..16)
        .map(|n| output(format!("{n}{}\n", "\u{1}".repeat(32_000)).leak()))
        .collect();
    logs.lose_answers(1);

    assert!(uploader.upload(&entries).await.is_err());
    let first = logs.data().len();
    confirmed(&mut uploader, &entries).await;

    assert!(0 < first && first < 16, "{first}");
    assert_eq!(logs.data().len(), 16);
}

#[tokio::test]
async fn events_that_were_uploaded_and_not_confirmed_are_there_once() {
    for manner in [Manner::Records, Manner::Text] {
        for known in 0..=3 {
            let logs = Fake::start().await;
            let mut uploader = logs.uploader(manner, None);
            let long = || output(("x".repeat(999) + "\n").repeat(200).leak());
            let session = [long(), output("a\nb"), output("\r\nc\n"), long(), end()];
            let mut state = None;
            for (number, entry) in session[..4].iter().enumerate() {
                let batch = std::slice::from_ref(entry);
                if confirmed(&mut uploader, batch).await == 0 {
                    // Text that waits for more is not confirmed.
                    break;
                }
                if number < known {
                    state = Some((number + 1, uploader.state()));
                }
            }

            // The agent was killed before it noted more than this.
            let (from, state) = state.map_or((0, None), |(from, state)| (from, Some(state)));
            let mut next_run = logs.uploader(manner, state);
            let rest = &session[from..];
            assert_eq!(confirmed(&mut next_run, rest).await, rest.len());

            let text = whole(&logs, manner);
            let found = ["a", "b", "c"].map(|c| text.matches(&format!("\n{c}")).count());
            assert_eq!(found, [1, 1, 1], "{manner:?} {known}");
            let long = text.matches(&"x".repeat(999)).count();
            assert_eq!(long, 400, "{manner:?} {known}");
        }
    }
}

#[tokio::test]
async fn run_that_ends_before_it_came_to_what_is_there_is_followed_by_one_that_does() {
    let logs = Fake::start().await;
    let mut uploader = logs.uploader(Manner::Records, None);
    let session: Vec<_> = ["a\n", "b\n", "c\n", "d\n", "e\n"].map(output).into();
    confirmed(&mut uploader, &session[..1]).await;
    let state = uploader.state();
    confirmed(&mut uploader, &session[1..4]).await;

    // This one comes to the second line only.
    let mut next_run = logs.uploader(Manner::Records, Some(state));
    confirmed(&mut next_run, &session[1..2]).await;
    let mut last_run = logs.uploader(Manner::Records, Some(next_run.state()));
    confirmed(&mut last_run, &session[2..]).await;

    assert_eq!(logs.data(), ["a", "b", "c", "d", "e"]);
}

#[tokio::test]
async fn events_of_others_hold_back_no_line() {
    let logs = Fake::start().await;
    let mut uploader = logs.uploader(Manner::Records, None);
    confirmed(&mut uploader, &[output("one\n")]).await;
    let state = uploader.state();
    logs.intrude(logs.times()[0] + 5, r#"{"sessionData":["two","else"]}"#);
    logs.intrude(logs.times()[0] + 6, "no record");

    let mut next_run = logs.uploader(Manner::Records, Some(state));
    confirmed(&mut next_run, &[output("one more\n"), end()]).await;

    assert!(logs.messages().last().unwrap().contains("one more"));
}

#[tokio::test]
async fn without_the_right_to_look_what_is_in_doubt_is_sent_again() {
    let logs = Fake::start().await;
    let mut uploader = logs.uploader(Manner::Records, None);
    logs.refuse("GetLogEvents", Reason(400, "AccessDeniedException"));
    logs.lose_answers(1);

    assert!(uploader.upload(&[output("one\n")]).await.is_err());
    confirmed(&mut uploader, &[output("one\n")]).await;

    assert_eq!(logs.data(), ["one", "one"]);
}

#[tokio::test]
async fn upload_that_was_given_up_in_the_middle_is_made_again() {
    let logs = Fake::start().await;
    let mut uploader = logs.uploader(Manner::Records, None);
    confirmed(&mut uploader, &[output("one\n")]).await;
    let rest = [output("two\n"), end()];

    // Dropped at its first wait.
    let hung = uploader.upload(&rest).now_or_never();
    assert!(hung.is_none());
    assert_eq!(confirmed(&mut uploader, &rest).await, 2);

    assert_eq!(logs.data(), ["one", "two"]);
}

#[tokio::test]
async fn refusals_are_final_unless_a_later_attempt_can_help() {
    for (operation, status, code, is_final) in [
        ("PutLogEvents", 400, "AccessDeniedException", true),
        ("PutLogEvents", 400, "ResourceNotFoundException", true),
        ("PutLogEvents", 400, "InvalidParameterException", true),
        ("CreateLogStream", 400, "ResourceNotFoundException", true),
        ("CreateLogStream", 400, "AccessDeniedException", true),
        ("PutLogEvents", 400, "ThrottlingException", false),
        ("CreateLogStream", 400, "LimitExceededException", false),
        ("PutLogEvents", 503, "ServiceUnavailableException", false),
        ("PutLogEvents", 500, "", false),
    ] {
        let logs = Fake::start().await;
        logs.refuse(operation, Reason(status, code));
        let mut uploader = logs.uploader(Manner::Records, None);

        let error = uploader.upload(&[output("one\n")]).await.unwrap_err();
        logs.allow();

        assert_eq!(error.is_final(), is_final, "{code}");
        let text = in_one_line(&error);
        assert!(
            text.contains("the log group /grp") && text.contains(code),
            "{text}"
        );
        confirmed(&mut uploader, &[output("one\n")]).await;
        assert_eq!(logs.data(), ["one"], "{operation} {code}");
    }
}

#[tokio::test]
async fn events_that_the_service_did_not_store_are_sent_again() {
    let server = TestServer::start(|_, seen| match seen.header("x-amz-target") {
        "Logs_20140328.PutLogEvents" => {
            Reply::json(r#"{"rejectedLogEventsInfo":{"tooNewLogEventStartIndex":0}}"#)
        }
        _ => Reply::json(r#"{"events":[]}"#),
    })
    .await;
    let about = Arc::new(story());
    let mut uploader = CloudWatchUploader::new(server.client(), about, "/grp", false, true, None);

    let error = uploader.upload(&[output("one\n")]).await.unwrap_err();

    assert!(!error.is_final());
    let text = in_one_line(&error);
    assert!(
        text.contains("the log group /grp") && text.contains("2 h in the future"),
        "{text}"
    );
}

#[tokio::test]
async fn token_that_is_wrong_is_asked_for() {
    let logs = Fake::start().await;
    logs.want_token(7);
    let mut uploader = logs.uploader(Manner::Records, None);

    confirmed(&mut uploader, &[output("one\n")]).await;
    confirmed(&mut uploader, &[output("two\n")]).await;
    // Somebody else has written.
    logs.want_token(20);
    confirmed(&mut uploader, &[output("three\n")]).await;

    assert_eq!(logs.data(), ["one", "two", "three"]);
    let operations = logs.operations();
    let asked = operations
        .iter()
        .filter(|name| *name == "DescribeLogStreams");
    assert_eq!(asked.count(), 2, "{operations:?}");
}

#[tokio::test]
async fn token_that_is_wrong_again_and_again_is_a_failure() {
    let logs = Fake::start().await;
    logs.refuse("PutLogEvents", Reason(400, "InvalidSequenceTokenException"));
    let mut uploader = logs.uploader(Manner::Records, None);

    let error = uploader.upload(&[output("one\n")]).await.unwrap_err();

    assert!(!error.is_final());
    assert!(in_one_line(&error).contains("sequence token"));
}

#[tokio::test]
async fn events_that_were_accepted_before_are_there() {
    let logs = Fake::start().await;
    logs.refuse("PutLogEvents", Reason(400, "DataAlreadyAcceptedException"));

    let mut uploader = logs.uploader(Manner::Records, None);
    confirmed(&mut uploader, &[output("one\n")]).await;
    logs.allow();
    confirmed(&mut uploader, &[output("two\n")]).await;

    assert_eq!(logs.data(), ["two"]);
}

#[tokio::test]
async fn session_does_not_start_unless_a_group_that_has_to_be_encrypted_is() {
    let logs = Fake::start().await;

    let Err(CheckError::Unmet(text)) = logs.encrypted_uploader().check().await else {
        panic!("there is no key");
    };
    assert_eq!(text, UNENCRYPTED);
    logs.uploader(Manner::Records, None).check().await.unwrap();
    logs.encrypt();
    logs.encrypted_uploader().check().await.unwrap();

    logs.refuse("DescribeLogGroups", Reason(400, "AccessDeniedException"));
    let Err(CheckError::Unmet(text)) = logs.encrypted_uploader().check().await else {
        panic!("nobody may look");
    };
    let expected = "Couldn't start the session because we are unable to validate encryption on \
        CloudWatch Logs log group. Error: DescribeLogGroups was refused: AccessDeniedException";
    assert!(text.starts_with(expected), "{text}");
}

#[tokio::test(start_paused = true)]
async fn session_does_not_start_while_nobody_answers_whether_the_group_is_encrypted() {
    // Connections are made, by the kernel, and nobody reads them.
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let endpoints = Endpoints::for_region("test-1", None).and_then(|all| all.with_logs(&url));
    let credentials = Arc::new(StaticCredentials::new("AKID", "secret", None));
    let client = Client::new(endpoints.unwrap(), tls::client_config(), credentials);
    let mut uploader = CloudWatchUploader::new(client, Arc::new(story()), "/grp", true, true, None);

    let checked = uploader.check().await;

    assert!(matches!(checked, Err(CheckError::Unmet(_))), "{checked:?}");
}

#[tokio::test]
async fn missing_group_shows_in_the_check_with_its_name() {
    let server = TestServer::start(|_, _| Reply::json(r#"{"logGroups":[]}"#)).await;
    let uploader = |encrypted| {
        let about = Arc::new(story());
        CloudWatchUploader::new(server.client(), about, "/grp", encrypted, true, None)
    };

    let Err(CheckError::Upload(error)) = uploader(false).check().await else {
        panic!("there is no group");
    };
    assert!(error.is_final());
    assert!(in_one_line(&error).ends_with("there is no log group /grp"));
    let Err(CheckError::Unmet(text)) = uploader(true).check().await else {
        panic!("there is no group");
    };
    assert_eq!(text, UNENCRYPTED);
}

async fn confirmed(uploader: &mut CloudWatchUploader, entries: &[Entry]) -> usize {
    uploader.upload(entries).await.unwrap().entries
}

/// All that is there, as lines.
fn whole(logs: &Fake, manner: Manner) -> String {
    match manner {
        Manner::Records => logs.data().join("\n") + "\n",
        Manner::Text => logs.messages().join("\n") + "\n",
    }
}

fn lines_of(entry: &Entry) -> usize {
    match &entry.event {
        Event::Output(bytes) => bytes.iter().filter(|&&byte| byte == b'\n').count(),
        _ => 0,
    }
}

fn story() -> About {
    About {
        started: SystemTime::UNIX_EPOCH,
        ..about("alice-1")
    }
}

fn session() -> Vec<Entry> {
    vec![output("one\r\nt"), output("wo\r\n"), output("three"), end()]
}

fn entry(event: Event) -> Entry {
    let at = Duration::ZERO;
    Entry { at, event }
}

fn output(text: &'static str) -> Entry {
    entry(Event::Output(text.into()))
}

fn end() -> Entry {
    entry(Event::End(End {
        reason: "the shell exited".into(),
        exit_code: Some(0),
    }))
}

mod cast;
mod fake;

use std::time::SystemTime;

use super::*;
use crate::agent::transcript::End;
use crate::agent::transcript::file_sink::tests::about;
use crate::aws::tests::server::{Reply, TestServer};
use crate::aws::{Endpoints, StaticCredentials};
use crate::runtime::cause::in_one_line;
use crate::runtime::tls;
use fake::Fake;

const KEY: &str = "/my-logs/pre/fix/alice-1.log";
const CAST_KEY: &str = "/my-logs/pre/fix/alice-1.cast";

#[tokio::test]
async fn object_is_whole_after_each_upload_and_confirmed_at_the_end() {
    let s3 = Fake::start().await;
    let mut uploader = s3.uploader(None);

    let first = [output("one\r\n")];
    assert_eq!(confirmed(&mut uploader, &first).await, 0);
    assert_eq!(s3.text(), text(&first));
    let all = [output("one\r\n"), output("two"), end()];
    assert_eq!(confirmed(&mut uploader, &all).await, 3);

    assert_eq!(s3.text(), text(&all));
    assert_eq!(uploader.place(), "s3://my-logs/pre/fix/alice-1.log");
    let put = s3.requests("PUT").pop().unwrap();
    assert_eq!(put.path, KEY);
    assert_eq!(put.header("content-type"), "text/plain");
    assert_eq!(put.header("x-amz-acl"), "bucket-owner-full-control");
    assert_eq!(put.header("x-amz-server-side-encryption"), "AES256");
}

#[tokio::test]
async fn session_without_a_byte_has_an_object() {
    let s3 = Fake::start().await;

    assert_eq!(confirmed(&mut s3.uploader(None), &[end()]).await, 1);

    assert_eq!(s3.text(), text(&[end()]));
}

#[tokio::test]
async fn bytes_that_are_no_text_arrive_as_they_are() {
    let s3 = Fake::start().await;
    let all: Vec<u8> = (0..=255).filter(|&byte| byte != b'\n').collect();
    let entries = [entry(Event::Output(all.clone().into())), end()];

    confirmed(&mut s3.uploader(None), &entries).await;

    let text = s3.text();
    assert!(text.windows(all.len()).any(|part| part == all));
}

#[tokio::test]
async fn long_session_is_appended_to_the_object_and_stays_whole() {
    let s3 = Fake::start().await;
    let mut uploader = s3.uploader(None);
    let session = [large('a'), large('b'), output("c\n"), output("d"), end()];

    for (number, entry) in session.iter().enumerate() {
        let batch = std::slice::from_ref(entry);
        assert_eq!(confirmed(&mut uploader, batch).await, 1);
        if number == 2 {
            // Not enough for a part of its own, so that everything was shown.
            assert_eq!(s3.text(), text(&session[..3]));
        }
    }

    assert_eq!(s3.text(), text(&session));
    assert_eq!(s3.open_uploads(), 0);
}

#[tokio::test]
async fn text_that_was_uploaded_and_not_confirmed_is_in_the_object_once() {
    let s3 = Fake::start().await;
    let mut uploader = s3.uploader(None);
    let session = [large('a'), output("second\n"), output("third\n"), end()];
    confirmed(&mut uploader, &session[..1]).await;
    let states = [uploader.state(), {
        confirmed(&mut uploader, &session[1..2]).await;
        uploader.state()
    }];
    confirmed(&mut uploader, &session[2..3]).await;
    assert_eq!(s3.text(), text(&session[..3]));

    for (state, rest) in states.into_iter().zip([&session[1..], &session[2..]]) {
        // The agent was killed before it noted more than this.
        let mut next_run = s3.uploader(Some(state));
        assert_eq!(confirmed(&mut next_run, rest).await, rest.len());

        assert_eq!(s3.text(), text(&session));
    }
}

#[tokio::test]
async fn end_that_was_uploaded_and_not_confirmed_is_in_the_object_once() {
    for may_copy in [true, false] {
        let s3 = Fake::start().await;
        s3.may_copy(may_copy);
        let mut uploader = s3.uploader(None);
        let session = [large('a'), output("second\n"), end()];
        confirmed(&mut uploader, &session[..1]).await;
        let state = uploader.state();
        confirmed(&mut uploader, &session[1..]).await;

        let mut next_run = s3.uploader(Some(state));
        s3.may_look(true);
        assert_eq!(confirmed(&mut next_run, &session[1..]).await, 2);

        assert_eq!(s3.text(), text(&session), "{may_copy}");
    }
}

#[tokio::test]
async fn without_the_right_to_copy_parts_become_the_object_at_the_end() {
    let s3 = Fake::start().await;
    s3.may_copy(false);
    let mut uploader = s3.uploader(None);
    let session = [large('a'), large('b'), output("c\n"), output("d"), end()];

    for entry in &session[..2] {
        let batch = std::slice::from_ref(entry);
        assert_eq!(confirmed(&mut uploader, batch).await, 1);
    }
    assert_eq!(confirmed(&mut uploader, &session[2..3]).await, 0);
    assert_eq!(s3.text(), text(&session[..1]));
    let mut next_run = s3.uploader(Some(uploader.state()));
    assert_eq!(confirmed(&mut next_run, &session[2..]).await, 3);

    assert_eq!(s3.text(), text(&session));
    assert_eq!(s3.open_uploads(), 0);
}

#[tokio::test]
async fn upload_that_somebody_deleted_is_given_up_with_its_reason() {
    let s3 = Fake::start().await;
    s3.may_copy(false);
    let mut uploader = s3.uploader(None);
    confirmed(&mut uploader, &[large('a')]).await;

    s3.delete_uploads();
    let error = uploader.upload(&[end()]).await.unwrap_err();

    assert!(error.is_final());
    assert!(
        in_one_line(&error).contains("my-logs was deleted"),
        "{}",
        in_one_line(&error)
    );
}

#[tokio::test]
async fn refusals_are_final_unless_a_later_attempt_can_help() {
    for (status, code, is_final) in [
        (403, "AccessDenied", true),
        (404, "NoSuchBucket", true),
        (403, "AllAccessDisabled", true),
        (400, "KMS.DisabledException", true),
        (503, "SlowDown", false),
        (500, "InternalError", false),
        (400, "RequestTimeout", false),
        (400, "BadDigest", false),
        (403, "RequestTimeTooSkewed", false),
    ] {
        let s3 = Fake::start().await;
        s3.refuse("PUT", Some((status, code)));
        let mut uploader = s3.uploader(None);

        let error = uploader.upload(&[output("x")]).await.unwrap_err();
        s3.refuse("PUT", None);

        assert_eq!(error.is_final(), is_final, "{code}");
        let text = in_one_line(&error);
        assert!(
            text.contains("the bucket my-logs") && text.contains(code),
            "{text}"
        );
        assert_eq!(confirmed(&mut uploader, &[output("x"), end()]).await, 2);
    }
}

#[tokio::test]
async fn bucket_that_has_moved_is_looked_for_again() {
    let s3 = Fake::start().await;
    let mut uploader = s3.uploader(None);
    confirmed(&mut uploader, &[output("x")]).await;

    s3.refuse("PUT", Some((301, "PermanentRedirect")));
    assert!(
        !uploader
            .upload(&[output("x")])
            .await
            .unwrap_err()
            .is_final()
    );
    s3.refuse("PUT", None);
    confirmed(&mut uploader, &[output("x"), end()]).await;

    assert_eq!(s3.requests("HEAD").len(), 2);
}

#[tokio::test]
async fn upload_that_hung_and_was_given_up_is_made_again() {
    let s3 = Fake::start().await;
    let mut uploader = s3.uploader(None);
    confirmed(&mut uploader, &[large('a')]).await;
    let rest = [output("b"), end()];

    // Dropped at its first wait, wherever it stands.
    let hung = timeout(Duration::ZERO, uploader.upload(&rest)).await;
    assert!(hung.is_err());
    assert_eq!(confirmed(&mut uploader, &rest).await, 2);

    assert_eq!(s3.text(), text(&[large('a'), output("b"), end()]));
}

#[tokio::test]
async fn session_does_not_start_unless_a_bucket_that_has_to_be_encrypted_is() {
    let s3 = Fake::start().await;
    for (algorithm, is_encrypted) in [
        ("AES256", true),
        ("aws:kms", true),
        ("aws:kms:dsse", false),
        ("", false),
    ] {
        s3.encrypt(algorithm);

        let checked = s3.encrypted_uploader().check().await;

        match checked {
            Ok(()) => assert!(is_encrypted, "{algorithm}"),
            Err(CheckError::Unmet(text)) => {
                assert!(!is_encrypted && text == UNENCRYPTED, "{algorithm}: {text}");
            }
            Err(CheckError::Upload(error)) => panic!("{algorithm}: {error}"),
        }
    }
}

#[tokio::test]
async fn session_does_not_start_if_nobody_says_whether_the_bucket_is_encrypted() {
    let s3 = Fake::start().await;
    s3.refuse("GET", Some((403, "AccessDenied")));

    let checked = s3.encrypted_uploader().check().await;

    let Err(CheckError::Unmet(text)) = checked else {
        panic!("{checked:?}");
    };
    let expected = "Couldn't start the session because we are unable to validate encryption on \
        Amazon S3 bucket. Error: GetBucketEncryption was refused: AccessDenied";
    assert!(text.starts_with(expected), "{text}");
    // Without encryption in the preferences, nobody asks.
    s3.uploader(None).check().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn session_does_not_start_while_nobody_answers_whether_the_bucket_is_encrypted() {
    // Connections are made, by the kernel, and nobody reads them.
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let mut uploader = at(&url, true);

    let checked = uploader.check().await;

    assert!(matches!(checked, Err(CheckError::Unmet(_))), "{checked:?}");
}

#[tokio::test]
async fn missing_bucket_and_impossible_names_show_in_the_check() {
    let server = TestServer::start(|_, _| Reply(404, vec![], String::new())).await;
    let uploader = |bucket: &str, prefix: &str| {
        let about = Arc::new(about("alice-1"));
        let place = S3Place {
            bucket,
            key_prefix: prefix,
            ..fake::PLACE
        };
        S3Uploader::new(server.client(), about, &place, None)
    };

    for (bucket, prefix) in [("my-logs", ""), ("My Logs", ""), ("my-logs", "../x")] {
        let checked = uploader(bucket, prefix).check().await;

        let Err(CheckError::Upload(error)) = checked else {
            panic!("{bucket}: {checked:?}");
        };
        assert!(error.is_final(), "{bucket}");
    }
}

#[test]
fn large_objects_are_shown_less_often() {
    let server = |stored| S3Uploader {
        stored,
        ..at("http://127.0.0.1:1", false)
    };
    let parts = |bytes, copied| Stored::Parts {
        upload: String::new(),
        parts: Vec::new(),
        bytes,
        copied,
    };
    for (stored, seconds) in [
        (Stored::Nothing, 2),
        (Stored::Object { bytes: 6 << 20 }, 2),
        (parts(1 << 30, true), 18),
        (parts(1 << 30, false), 7),
    ] {
        assert_eq!(server(stored).interval().as_secs(), seconds);
    }
}

/// An uploader to the service at this URL.
fn at(url: &str, encrypted: bool) -> S3Uploader {
    let endpoints = Endpoints::for_region("test-1", None).and_then(|all| all.with_s3(url));
    let credentials = Arc::new(StaticCredentials::new("AKID", "secret", None));
    let client = Client::new(endpoints.unwrap(), tls::client_config(), credentials);
    let place = S3Place {
        key_prefix: "",
        encrypted,
        ..fake::PLACE
    };
    S3Uploader::new(client, Arc::new(about("a")), &place, None)
}

async fn confirmed(uploader: &mut S3Uploader, entries: &[Entry]) -> usize {
    uploader.upload(entries).await.unwrap().entries
}

/// What the object of a session with these entries holds.
fn text(entries: &[Entry]) -> Vec<u8> {
    script::text(&story(), entries, true)
}

fn story() -> About {
    About {
        started: SystemTime::UNIX_EPOCH,
        ..about("alice-1")
    }
}

fn entry(event: Event) -> Entry {
    let at = Duration::ZERO;
    Entry { at, event }
}

fn output(text: &'static str) -> Entry {
    entry(Event::Output(text.into()))
}

/// Enough for a part.
fn large(letter: char) -> Entry {
    entry(Event::Output(letter.to_string().repeat(PART).into()))
}

fn end() -> Entry {
    entry(Event::End(End {
        reason: "the shell exited".into(),
        exit_code: Some(0),
    }))
}

//! The argument contract of the AWS CLI, as the program keeps it.

use std::process::Output;

use ssm_agent::protocol::wire::version::CLIENT_WIRE_VERSION;

use crate::endpoint::Endpoint;
use crate::program::{REQUEST, arguments, piped};
use crate::stand_in::StandIn;

#[test]
fn version_is_one_line_above_what_the_aws_cli_looks_for() {
    let output = run(&["--version"]);

    assert_eq!(text(&output.stdout), format!("{CLIENT_WIRE_VERSION}\n"));
    assert_eq!(output.status.code(), Some(0));
    let parts: Vec<u32> = CLIENT_WIRE_VERSION
        .split('.')
        .map(|part| part.parse().unwrap())
        .collect();
    assert!(parts > vec![1, 2, 497, 0]);
}

#[test]
fn without_arguments_it_says_that_it_is_installed() {
    let output = run(&[]);

    assert!(text(&output.stdout).contains("installed"));
    assert_eq!(output.status.code(), Some(0));
}

#[test]
fn broken_command_lines_are_refused_with_a_hint() {
    let good = r#"{"SessionId":"s","TokenValue":"t","StreamUrl":"ws://127.0.0.1:1/"}"#;
    let null = r#"{"SessionId":"s","TokenValue":null,"StreamUrl":"ws://127.0.0.1:1/"}"#;
    let table: [(&[&str], &str); 5] = [
        (&["help"], "unknown operation \"help\""),
        (&[good, "r", "StopSession"], "invalid operation"),
        (&[null, "r", "StartSession"], "no usable TokenValue"),
        (&["nonsense", "r", "StartSession"], "not a JSON object"),
        (
            &["AWS_SSM_START_SESSION_RESPONSE", "r", "StartSession"],
            "environment variable AWS_SSM_START_SESSION_RESPONSE is not set",
        ),
    ];

    for (arguments, expected) in table {
        let output = run(arguments);

        let errors = text(&output.stderr);
        assert!(errors.starts_with("error: "), "{errors}");
        assert!(errors.contains(expected), "{errors}");
        assert!(errors.contains("hint: "), "{errors}");
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        assert!(output.stdout.is_empty());
    }
}

#[test]
fn region_that_is_none_is_refused() {
    let response = r#"{"SessionId":"s","TokenValue":"t","StreamUrl":"ws://127.0.0.1:1/"}"#;

    let output = run(&[response, "not a region", "StartSession", "", REQUEST, ""]);

    assert!(text(&output.stderr).contains("region"));
    assert_eq!(output.status.code(), Some(1));
}

#[tokio::test(flavor = "multi_thread")]
async fn response_is_taken_from_the_environment() {
    let mut stand_in = StandIn::shell().await;
    let endpoint = Endpoint::start([]).await;
    let [response, rest @ ..] = arguments(&stand_in, &endpoint);
    let name = "AWS_SSM_START_SESSION_RESPONSE_5c1f";
    let mut command = piped();
    command.arg(name).args(rest).env(name, response);

    let child = command.spawn().unwrap();
    stand_in.opened().await;
    stand_in.output("hello\n");
    stand_in.close(Some(0), "");
    let output = wait(child).await;

    assert_eq!(text(&output.stdout), "hello\n");
    assert_eq!(output.status.code(), Some(0));
}

fn run(arguments: &[&str]) -> Output {
    piped().args(arguments).output().unwrap()
}

async fn wait(child: std::process::Child) -> Output {
    tokio::task::spawn_blocking(move || child.wait_with_output().unwrap())
        .await
        .unwrap()
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

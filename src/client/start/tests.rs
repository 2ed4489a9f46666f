use super::*;

const RESPONSE: &str = r#"{"SessionId":"ada-0123456789abcdef0","TokenValue":"t0ken","StreamUrl":"wss://gw/v1/data-channel/ada-0123456789abcdef0","ResponseMetadata":{"HTTPStatusCode":200}}"#;
const REQUEST: &str = r#"{"Target":"mi-0123456789abcdef0","DocumentName":"d"}"#;

#[test]
fn no_arguments_ask_for_the_notice_and_the_version_flag_for_the_version() {
    assert_eq!(parse_with(&[]), Ok(Invocation::Notice));
    assert_eq!(parse_with(&["--version"]), Ok(Invocation::Version));
}

#[test]
fn six_arguments_of_the_aws_cli_are_read() {
    let start = start(&[
        RESPONSE,
        "eu-west-1",
        "StartSession",
        "work",
        REQUEST,
        "https://gw:8443",
    ]);

    assert_eq!(
        start,
        Start {
            response: response(),
            region: "eu-west-1".into(),
            profile: Some("work".into()),
            target: Some("mi-0123456789abcdef0".into()),
            endpoint: Some("https://gw:8443".into()),
        }
    );
}

#[test]
fn empty_profile_and_endpoint_mean_none() {
    let start = start(&[RESPONSE, "eu-west-1", "StartSession", "", REQUEST, ""]);

    assert_eq!(start.profile, None);
    assert_eq!(start.endpoint, None);
}

#[test]
fn old_command_lines_end_after_the_operation() {
    let start = start(&[RESPONSE, "eu-west-1", "StartSession"]);

    assert_eq!(start.response, response());
    assert_eq!(
        (start.profile, start.target, start.endpoint),
        (None, None, None)
    );
}

#[test]
fn arguments_beyond_the_sixth_are_ignored() {
    let arguments = [RESPONSE, "r", "StartSession", "", "{}", "", "later"];

    assert_eq!(start(&arguments).response, response());
}

#[test]
fn response_is_taken_from_the_variable_that_the_first_argument_names() {
    let name = "AWS_SSM_START_SESSION_RESPONSE_7f";
    let arguments = owned(&[name, "eu-west-1", "StartSession"]);

    let invocation = parse(&arguments, |asked| {
        assert_eq!(asked, name);
        Some(RESPONSE.into())
    });

    let Ok(Invocation::Start(start)) = invocation else {
        panic!("not a start: {invocation:?}");
    };
    assert_eq!(start.response, response());
}

#[test]
fn unset_variable_is_named() {
    let name = "AWS_SSM_START_SESSION_RESPONSE";

    let error = parse(&owned(&[name, "r", "StartSession"]), |_| None).unwrap_err();

    assert_eq!(error, UsageError::VariableMissing(name.into()));
}

#[test]
fn member_names_are_matched_without_regard_to_case() {
    let text = r#"{"sessionid":"s-1","TOKENVALUE":"t","streamUrl":"wss://x"}"#;

    let start = start(&[text, "r", "StartSession", "", r#"{"target":"i-1"}"#]);

    assert_eq!(start.response.session_id.as_str(), "s-1");
    assert_eq!(start.response.token, "t");
    assert_eq!(start.response.stream_url, "wss://x");
    assert_eq!(start.target.as_deref(), Some("i-1"));
}

#[test]
fn exact_member_name_wins_over_one_in_another_case() {
    let text =
        r#"{"sessionid":"wrong","SessionId":"right","TokenValue":"t","StreamUrl":"wss://x"}"#;

    assert_eq!(
        start(&[text, "r", "StartSession"])
            .response
            .session_id
            .as_str(),
        "right"
    );
}

#[test]
fn unusable_responses_are_refused_with_the_member_at_fault() {
    let table = [
        (
            r#"{"SessionId":null,"TokenValue":"t","StreamUrl":"u"}"#,
            UsageError::Member("SessionId"),
        ),
        (
            r#"{"SessionId":"s","TokenValue":null,"StreamUrl":"u"}"#,
            UsageError::Member("TokenValue"),
        ),
        (
            r#"{"SessionId":"s","TokenValue":"t","StreamUrl":null}"#,
            UsageError::Member("StreamUrl"),
        ),
        (
            r#"{"SessionId":"s","TokenValue":"t"}"#,
            UsageError::Member("StreamUrl"),
        ),
        (
            r#"{"SessionId":"s","TokenValue":"","StreamUrl":"u"}"#,
            UsageError::Member("TokenValue"),
        ),
        (
            r#"{"SessionId":7,"TokenValue":"t","StreamUrl":"u"}"#,
            UsageError::Member("SessionId"),
        ),
        (
            "[]",
            UsageError::Response("it is another kind of value".into()),
        ),
        (
            "null",
            UsageError::Response("it is another kind of value".into()),
        ),
    ];

    for (text, expected) in table {
        assert_eq!(
            parse_with(&[text, "r", "StartSession"]),
            Err(expected),
            "{text}"
        );
    }
}

#[test]
fn garbage_response_is_refused_without_repeating_it() {
    let error = parse_with(&["{\"TokenValue\":\"secret\"", "r", "StartSession"]).unwrap_err();

    assert!(matches!(error, UsageError::Response(_)), "{error:?}");
    assert!(!error.to_string().contains("secret"));
}

#[test]
fn session_id_that_could_leave_its_folder_is_refused() {
    let text = r#"{"SessionId":"../x","TokenValue":"t","StreamUrl":"u"}"#;

    let error = parse_with(&[text, "r", "StartSession"]).unwrap_err();

    assert!(matches!(error, UsageError::SessionId(_)), "{error:?}");
}

#[test]
fn other_command_lines_are_refused() {
    let table: [(&[&str], UsageError); 4] = [
        (&["help"], UsageError::UnknownOperation("help".into())),
        (&["a", "b"], UsageError::UnknownOperation("a".into())),
        (
            &["--version", "x"],
            UsageError::UnknownOperation("--version".into()),
        ),
        (
            &[RESPONSE, "r", "startsession"],
            UsageError::InvalidOperation("startsession".into()),
        ),
    ];

    for (arguments, expected) in table {
        assert_eq!(parse_with(arguments), Err(expected));
    }
}

#[test]
fn request_that_is_no_object_is_refused() {
    let error = parse_with(&[RESPONSE, "r", "StartSession", "", "[1]"]).unwrap_err();

    assert!(matches!(error, UsageError::Request(_)), "{error:?}");
}

fn owned(arguments: &[&str]) -> Vec<String> {
    arguments.iter().map(|&text| text.to_owned()).collect()
}

fn parse_with(arguments: &[&str]) -> Result<Invocation, UsageError> {
    parse(&owned(arguments), |name| panic!("asked for {name}"))
}

fn start(arguments: &[&str]) -> Start {
    match parse_with(arguments) {
        Ok(Invocation::Start(start)) => *start,
        other => panic!("not a start: {other:?}"),
    }
}

fn response() -> StartSessionResponse {
    StartSessionResponse {
        session_id: SessionId::new("ada-0123456789abcdef0").unwrap(),
        token: "t0ken".into(),
        stream_url: "wss://gw/v1/data-channel/ada-0123456789abcdef0".into(),
    }
}

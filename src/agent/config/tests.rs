use std::path::Path;

use super::*;

#[test]
fn missing_file_means_defaults_without_warnings() {
    let (settings, warnings) = load(Path::new("/nonexistent/agent.json")).unwrap();

    assert!(warnings.is_empty());
    assert!(settings.profile.share_credentials);
    assert_eq!(settings.health_interval, Duration::from_secs(300));
    assert_eq!(settings.session.limit, 1000);
    assert_eq!(settings.session.default_user, DefaultUser::ByPrivilege);
    assert_eq!(
        settings.identity.order,
        [
            IdentityKind::OnPrem,
            IdentityKind::Ec2,
            IdentityKind::Custom
        ]
    );
    assert_eq!(
        settings.transcript.unwrap().formats,
        [RecordingFormat::Cast, RecordingFormat::Log]
    );
}

#[test]
fn keys_are_found_in_any_case() {
    let (settings, warnings) =
        parse(r#"{"mgs":{"ENDPOINT":"https://h:1"},"SSM":{"healthFrequencyMinutes":7}}"#);

    assert_eq!(warnings, Vec::<String>::new());
    assert_eq!(settings.endpoints.messages, "https://h:1");
    assert_eq!(settings.health_interval, Duration::from_secs(420));
}

#[test]
fn number_out_of_range_is_replaced_by_the_default_and_warned_of() {
    let (settings, warnings) = parse(r#"{"Ssm":{"HealthFrequencyMinutes":61}}"#);

    assert_eq!(settings.health_interval, Duration::from_secs(300));
    assert_eq!(
        warnings,
        ["Ssm.HealthFrequencyMinutes: 61 is not within 5 to 60, the default 5 is used"]
    );
}

#[test]
fn unknown_keys_are_warned_of_and_known_ones_are_not() {
    let (_, warnings) = parse(
        r#"{"Agent":{"ContainerMode":false,"Shiny":1},"Kms":{"Endpoint":""},"Extra":{},"SsmAgent":{"Session":{"Drain":1}}}"#,
    );

    assert_eq!(warnings.len(), 3, "{warnings:?}");
    for expected in ["Agent.Shiny", "Extra", "SsmAgent.Session.Drain"] {
        assert!(
            warnings
                .iter()
                .any(|w| w.starts_with(&format!("{expected}: unknown key"))),
            "{warnings:?}"
        );
    }
}

#[test]
fn wrong_type_is_an_error_that_names_file_key_and_value() {
    for (text, key) in [
        (
            r#"{"Mgs":{"Endpoint":7}}"#,
            "Mgs.Endpoint must be a string, but is 7",
        ),
        (r#"{"Mgs":[]}"#, "Mgs must be an object, but is []"),
        (
            r#"{"Ssm":{"HealthFrequencyMinutes":"5"}}"#,
            "Ssm.HealthFrequencyMinutes must be a whole number",
        ),
        (
            r#"{"SsmAgent":{"Transcript":{"Enabled":"no"}}}"#,
            "SsmAgent.Transcript.Enabled must be true or false",
        ),
        (
            r#"{"Identity":{"ConsumptionOrder":[1]}}"#,
            "Identity.ConsumptionOrder must be a list of strings",
        ),
        (
            r#"{"Identity":{"CustomIdentities":{}}}"#,
            "Identity.CustomIdentities must be a list of objects",
        ),
    ] {
        let error = try_parse(text).unwrap_err().to_string();

        assert!(
            error.contains(key) && error.contains("agent.json"),
            "{error}"
        );
    }
}

#[test]
fn text_that_is_no_json_object_is_an_error() {
    for text in ["", "{", "[]", "null"] {
        assert!(
            matches!(try_parse(text), Err(ConfigError::Syntax { .. })),
            "{text}"
        );
    }
}

#[test]
fn folder_in_place_of_the_file_is_an_error() {
    let folder = tempfile::tempdir().unwrap();

    assert!(matches!(load(folder.path()), Err(ConfigError::Read { .. })));
}

#[test]
fn identities_that_cannot_be_used_are_left_out() {
    let (settings, warnings) = parse(
        r#"{"Identity":{"ConsumptionOrder":["CustomIdentity","Moon"],"CustomIdentities":[
            {"InstanceID":"i-1","Region":"us-east-1","CredentialsProvider":"DEFAULT"},{"InstanceID":"","Region":"r"}]}}"#,
    );

    assert_eq!(settings.identity.order, [IdentityKind::Custom]);
    assert_eq!(settings.identity.custom.len(), 1);
    assert_eq!(warnings.len(), 2, "{warnings:?}");
}

#[test]
fn recording_can_be_switched_off_and_directed() {
    let (settings, _) = parse(r#"{"SsmAgent":{"Transcript":{"Enabled":false}}}"#);
    assert_eq!(settings.transcript, None);

    let (settings, _) = parse(
        r#"{"SsmAgent":{"Transcript":{"Directory":"/x","Formats":["cast"],"RetentionHours":2}}}"#,
    );
    let transcript = settings.transcript.unwrap();
    assert_eq!(transcript.directory.as_deref(), Some(Path::new("/x")));
    assert_eq!(transcript.formats, [RecordingFormat::Cast]);
    assert_eq!(transcript.retention, Duration::from_secs(7200));
}

fn parse(text: &str) -> (Settings, Vec<String>) {
    try_parse(text).unwrap()
}

fn try_parse(text: &str) -> Result<(Settings, Vec<String>), ConfigError> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("agent.json");
    std::fs::write(&path, text).unwrap();
    load(&path)
}

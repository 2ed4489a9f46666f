use std::path::Path;

use super::*;
use crate::agent::run_command::{FolderCleanUp, OutputCleanUp};

#[test]
fn empty_object_means_defaults_without_warnings() {
    let (settings, warnings) = parse("{}");

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
fn commands_are_polled_for_and_cleaned_up_as_the_reference_is_told_to() {
    let (settings, warnings) = parse(
        r#"{"Mds":{"Endpoint":"http://h:1","StopTimeoutMillis":15000},
            "Ssm":{"PluginLocalOutputCleanup":"after-upload","OrchestrationDirectoryCleanup":"clean-success-failed"}}"#,
    );

    assert_eq!(warnings, Vec::<String>::new());
    assert_eq!(settings.endpoints.delivery, "http://h:1");
    let commands = settings.commands;
    assert_eq!(commands.delivery_timeout, Duration::from_secs(15));
    assert_eq!(commands.output_clean_up, OutputCleanUp::AfterUpload);
    assert_eq!(commands.folder_clean_up, FolderCleanUp::SuccessAndFailure);
    let (settings, warnings) = parse(r#"{"Ssm":{"PluginLocalOutputCleanup":"never"}}"#);
    assert_eq!(settings.commands.output_clean_up, OutputCleanUp::ByAge);
    assert_eq!(
        warnings,
        [
            "Ssm.PluginLocalOutputCleanup: \"never\" is none of default, after-execution, after-upload, the default \"default\" is used"
        ]
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
fn folder_or_nothing_in_place_of_the_file_is_an_error() {
    let folder = tempfile::tempdir().unwrap();

    for path in [folder.path(), Path::new("/nonexistent/agent.json")] {
        assert!(matches!(load(path), Err(ConfigError::Read { .. })));
    }
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
fn sudo_of_ssm_user_is_given_taken_or_left_alone() {
    for (text, sudo) in [
        ("{}", None),
        (
            r#"{"SsmAgent":{"Session":{"SsmUserSudo":true}}}"#,
            Some(true),
        ),
        (
            r#"{"ssmAgent":{"session":{"ssmUserSudo":false}}}"#,
            Some(false),
        ),
    ] {
        let (settings, warnings) = parse(text);

        assert_eq!(settings.session.ssm_user_sudo, sudo);
        assert_eq!(warnings, Vec::<String>::new());
    }
    let error = try_parse(r#"{"SsmAgent":{"Session":{"SsmUserSudo":"no"}}}"#).unwrap_err();
    assert!(
        error
            .to_string()
            .contains("SsmAgent.Session.SsmUserSudo must be true or false"),
        "{error}"
    );
}

#[test]
fn service_of_pam_is_a_plain_name() {
    let with = |name: &str| format!(r#"{{"SsmAgent":{{"Session":{{"PamService":"{name}"}}}}}}"#);
    for (name, service) in [("", None), ("ssm-agent", Some("ssm-agent"))] {
        let (settings, _) = parse(&with(name));
        assert_eq!(settings.session.pam_service.as_deref(), service);
    }

    for name in ["../other", "a b", ".", "a/b", "sshd;"] {
        let error = try_parse(&with(name)).unwrap_err();
        assert!(
            error
                .to_string()
                .contains("SsmAgent.Session.PamService must be the name of a service"),
            "{error}"
        );
    }
}

#[test]
fn container_mode_is_read() {
    assert!(parse(r#"{"Agent":{"ContainerMode":true}}"#).0.in_container);
    assert!(!parse("{}").0.in_container);
}

#[test]
fn recording_can_be_switched_off_and_directed() {
    let (settings, _) = parse(r#"{"SsmAgent":{"Transcript":{"Enabled":false}}}"#);
    assert_eq!(settings.transcript, None);

    let (settings, _) = parse(
        r#"{"SsmAgent":{"Transcript":{"Directory":"/x","Formats":["cast"],"RetentionHours":2,"Policy":"fail-closed"}}}"#,
    );
    let transcript = settings.transcript.unwrap();
    assert_eq!(transcript.directory.as_deref(), Some(Path::new("/x")));
    assert_eq!(transcript.formats, [RecordingFormat::Cast]);
    assert_eq!(transcript.retention, Duration::from_secs(7200));
    assert_eq!(transcript.policy, RecordPolicy::FailClosed);
    let defaults = parse("{}").0.transcript.unwrap();
    assert_eq!(defaults.policy, RecordPolicy::FailOpen);
}

#[test]
fn services_that_get_records_are_read() {
    let (settings, warnings) = parse(
        r#"{"SsmAgent":{"Transcript":{
            "S3":{"Bucket":"bkt","KeyPrefix":"a/b","Encrypted":true,"Cast":true,"Policy":"fail-closed"},
            "CloudWatch":{"Endpoint":"http://127.0.0.1:1","LogGroup":"/grp","Encrypted":true,"Streaming":true,"Policy":"fail-open"},
            "Gateway":{"Enabled":true,"Policy":"maybe"},
            "JournalBytes":5000000,"JournalTotalBytes":6000000,"JournalHours":3}}}"#,
    );

    let expected = UploadSettings {
        s3: S3Settings {
            bucket: "bkt".into(),
            key_prefix: "a/b".into(),
            encrypted: true,
            cast: true,
            policy: RecordPolicy::FailClosed,
        },
        cloud_watch: CloudWatchSettings {
            endpoint: "http://127.0.0.1:1".into(),
            group: "/grp".into(),
            encrypted: true,
            streaming: true,
            policy: RecordPolicy::FailOpen,
        },
        gateway: true,
        gateway_policy: RecordPolicy::FailClosed,
        journal: 5_000_000,
        journal_total: 6_000_000,
        journal_retention: Duration::from_hours(3),
    };
    assert_eq!(settings.uploads, expected);
    assert_eq!(warnings.len(), 1, "{warnings:?}");
}

#[test]
fn nothing_leaves_the_host_unless_the_configuration_says_so() {
    let uploads = parse("{}").0.uploads;

    assert_eq!(
        (uploads.s3.bucket, uploads.cloud_watch.group),
        <_>::default()
    );
    assert!(!uploads.gateway);
    assert_eq!(uploads.gateway_policy, RecordPolicy::FailOpen);
    assert_eq!((uploads.journal, uploads.journal_total), (1 << 30, 4 << 30));
}

#[test]
fn audit_log_can_be_switched_off_directed_and_bounded() {
    let (settings, _) = parse("{}");
    let audit = settings.audit.unwrap();
    assert_eq!((audit.file, audit.limit, audit.files), (None, 10 << 20, 5));

    let (settings, warnings) =
        parse(r#"{"SsmAgent":{"Audit":{"File":"/x/a.log","MaxBytes":5000000,"Files":2}}}"#);
    let audit = settings.audit.unwrap();
    assert_eq!(audit.file.as_deref(), Some(Path::new("/x/a.log")));
    assert_eq!((audit.limit, audit.files), (5_000_000, 2));
    assert_eq!(warnings, Vec::<String>::new());

    let (settings, _) = parse(r#"{"SsmAgent":{"Audit":{"Enabled":false}}}"#);
    assert_eq!(settings.audit, None);
}

#[test]
fn every_key_of_the_reference_is_known() {
    let (_, warnings) = parse(
        r#"{
            "Profile": {"ShareCreds": true, "ShareProfile": "", "ForceUpdateCreds": false, "KeyAutoRotateDays": 0},
            "Mds": {"Endpoint": "", "CommandWorkersLimit": 5, "CommandWorkerBufferLimit": 5,
                "StopTimeoutMillis": 20000, "CommandRetryLimit": 15},
            "Ssm": {"Endpoint": "", "HealthFrequencyMinutes": 5, "AssociationFrequencyMinutes": 10,
                "AssociationRetryLimit": 5, "CustomInventoryDefaultLocation": "",
                "AssociationLogsRetentionDurationHours": 24, "RunCommandLogsRetentionDurationHours": 336,
                "SessionLogsRetentionDurationHours": 336, "SessionLogsDestination": "none",
                "PluginLocalOutputCleanup": "", "OrchestrationDirectoryCleanup": ""},
            "Mgs": {"Region": "", "Endpoint": "", "StopTimeoutMillis": 20000, "SessionWorkersLimit": 1000,
                "SessionWorkerBufferLimit": 1, "DeniedPortForwardingRemoteIPs": []},
            "Agent": {"Name": "", "Version": "", "Region": "", "ServiceDomain": "", "OrchestrationRootDir": "",
                "DownloadRootDir": "", "ContainerMode": false, "SelfUpdate": false, "SelfUpdateScheduleDay": 7,
                "TelemetryMetricsToCloudWatch": false, "TelemetryMetricsToSSM": true,
                "TelemetryMetricsNamespace": "", "LongRunningWorkerMonitorIntervalSeconds": 60,
                "AuditExpirationDay": 7, "ForceFileIPC": false, "GoMaxProcForAgentWorker": 0,
                "ShouldPurgeInstanceProfileRoleCreds": false},
            "Os": {"Lang": "en-US", "Name": "", "Version": "1"},
            "S3": {"Endpoint": "", "Region": "", "LogBucket": "", "LogKey": ""},
            "Birdwatcher": {"ForceEnable": false},
            "Kms": {"Endpoint": "", "RequireKMSChallengeResponse": false},
            "Identity": {"ConsumptionOrder": [], "Ec2SystemInfoDetectionResponse": "",
                "CustomIdentities": [{"InstanceID": "i-1", "Region": "r", "AvailabilityZone": "",
                    "AvailabilityZoneId": "", "InstanceType": "", "CredentialsProvider": "DEFAULT"}]}
        }"#,
    );

    assert_eq!(warnings, Vec::<String>::new());
}

#[test]
fn keys_without_a_meaning_here_are_checked_all_the_same() {
    for (text, expected) in [
        (
            r#"{"Mds":{"CommandRetryLimit":"5"}}"#,
            "Mds.CommandRetryLimit must be a whole number",
        ),
        (
            r#"{"Agent":{"ContainerMode":"no"}}"#,
            "Agent.ContainerMode must be true or false",
        ),
        (r#"{"Kms":{"Endpoint":7}}"#, "Kms.Endpoint must be a string"),
        (r#"{"S3":"bucket"}"#, "S3 must be an object"),
        (
            r#"{"Mgs":{"DeniedPortForwardingRemoteIPs":[7]}}"#,
            "Mgs.DeniedPortForwardingRemoteIPs must be a list of strings",
        ),
    ] {
        let error = try_parse(text).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    }
    for (text, expected) in [
        (
            r#"{"Mds":{"CommandRetryLimit":0}}"#,
            "Mds.CommandRetryLimit: 0 is not within 1 to 100, the default 15 is used",
        ),
        (
            r#"{"Ssm":{"SessionLogsDestination":"moon"}}"#,
            "Ssm.SessionLogsDestination: \"moon\" is none of none, disk, the default \"none\" is used",
        ),
        (r#"{"Mds":{"Shiny":0}}"#, "Mds.Shiny: unknown key, ignored"),
    ] {
        assert_eq!(parse(text).1, [expected]);
    }
}

#[test]
fn misspelt_formats_do_not_turn_recording_off() {
    let (settings, warnings) = parse(r#"{"SsmAgent":{"Transcript":{"Formats":["casts"]}}}"#);

    assert_eq!(settings.transcript.unwrap().formats, ALL_FORMATS);
    assert_eq!(warnings.len(), 2, "{warnings:?}");
}

#[test]
fn retention_of_the_reference_applies_unless_ours_is_set() {
    let reference = r#"{"Ssm":{"SessionLogsRetentionDurationHours":24}}"#;
    let both = r#"{"Ssm":{"SessionLogsRetentionDurationHours":24},"SsmAgent":{"Transcript":{"RetentionHours":48}}}"#;

    for (text, hours) in [(reference, 24), (both, 48)] {
        let retention = parse(text).0.transcript.unwrap().retention;
        assert_eq!(retention, Duration::from_secs(hours * 3600));
    }
}

#[test]
fn denied_destinations_take_the_place_of_the_default() {
    let denied = |list: &str| {
        let text = format!(r#"{{"Mgs":{{"DeniedPortForwardingRemoteIPs":{list}}}}}"#);
        let (settings, warnings) = parse(&text);
        (settings.session.denied_destinations, warnings)
    };

    assert_eq!(denied("null"), (None, Vec::new()));
    assert_eq!(denied("[]"), (Some(Vec::new()), Vec::new()));
    let (addresses, warnings) = denied(r#"["10.0.0.2"," fd00:ec2::254 ","10.0.0.0/8"]"#);
    assert_eq!(
        addresses.unwrap(),
        ["10.0.0.2", "fd00:ec2::254"].map(|text| text.parse::<IpAddr>().unwrap())
    );
    assert_eq!(
        warnings,
        [r#"Mgs.DeniedPortForwardingRemoteIPs: "10.0.0.0/8" is no IP address and is left out"#]
    );
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

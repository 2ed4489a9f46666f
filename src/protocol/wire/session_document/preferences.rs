//! Session preferences: the members of `inputs` that the agent acts on.
//!
//! | key | JSON type |
//! |---|---|
//! | `s3BucketName`, `s3KeyPrefix`, `cloudWatchLogGroupName`, `kmsKeyId`, `runAsDefaultUser`, `shellProfile.linux` | string |
//! | `s3EncryptionEnabled`, `cloudWatchEncryptionEnabled`, `runAsEnabled` | boolean, or the text of one |
//! | `cloudWatchStreamingEnabled` | boolean |
//! | `idleSessionTimeout`, `maxSessionDuration` | number of minutes, or the text of one |
//!
//! Null counts as absent. The last two are the gateway's to enforce, which sees a session from both
//! ends; to an agent they tell how long a session may outlive its connection, and no value of theirs is
//! a reason to refuse one.

use std::time::Duration;

use super::member::Members;
use super::{DocumentError, SessionDocument};

/// The longest `idleSessionTimeout`, in minutes.
const LONGEST_IDLE: u64 = 60;
/// The longest `maxSessionDuration`, in minutes.
const LONGEST_DURATION: u64 = 24 * 60;

/// Session preferences, the `inputs` that the agent acts on.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Preferences {
    /// Bucket that transcripts go to; empty for none.
    pub s3_bucket_name: String,
    /// What their keys begin with.
    pub s3_key_prefix: String,
    /// Whether the bucket has to be encrypted.
    pub s3_encryption_enabled: bool,
    /// Log group that transcripts go to; empty for none.
    pub cloud_watch_log_group_name: String,
    /// Whether the log group has to be encrypted.
    pub cloud_watch_encryption_enabled: bool,
    /// Whether they go there during the session already.
    pub cloud_watch_streaming_enabled: bool,
    /// KMS key for channel encryption; empty for none.
    pub kms_key_id: String,
    /// Whether sessions run as a user that the caller's identity or [`Self::run_as_default_user`] names.
    pub run_as_enabled: bool,
    /// The user of callers whose identity names none.
    pub run_as_default_user: String,
    /// After how long without use the gateway ends the session, if it was told.
    pub idle_timeout: Option<Duration>,
    /// After how long it ends the session in any case, if it does.
    pub max_duration: Option<Duration>,
    /// Text typed into the shell at its start.
    pub shell_profile: ShellProfile,
}

/// `shellProfile`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ShellProfile {
    /// For Linux hosts.
    pub linux: String,
}

impl SessionDocument {
    /// The preferences in `inputs`. Of a document with parameters, resolve it first.
    ///
    /// # Errors
    /// [`DocumentError::Member`] if one has the wrong type.
    pub fn preferences(&self) -> Result<Preferences, DocumentError> {
        let inputs = Members::of("inputs", &self.inputs)?;
        Ok(Preferences {
            s3_bucket_name: inputs.text("s3BucketName")?,
            s3_key_prefix: inputs.text("s3KeyPrefix")?,
            s3_encryption_enabled: inputs.flag_or_text("s3EncryptionEnabled")?,
            cloud_watch_log_group_name: inputs.text("cloudWatchLogGroupName")?,
            cloud_watch_encryption_enabled: inputs.flag_or_text("cloudWatchEncryptionEnabled")?,
            cloud_watch_streaming_enabled: inputs.flag("cloudWatchStreamingEnabled")?,
            kms_key_id: inputs.text("kmsKeyId")?,
            run_as_enabled: inputs.flag_or_text("runAsEnabled")?,
            run_as_default_user: inputs.text("runAsDefaultUser")?,
            idle_timeout: inputs.minutes("idleSessionTimeout", LONGEST_IDLE),
            max_duration: inputs.minutes("maxSessionDuration", LONGEST_DURATION),
            shell_profile: ShellProfile {
                linux: inputs.object("shellProfile")?.text("linux")?,
            },
        })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn every_key_is_read() {
        let preferences = read(json!({
            "s3BucketName": "bkt", "s3KeyPrefix": "pre/fix", "s3EncryptionEnabled": "True",
            "cloudWatchLogGroupName": "/grp", "cloudWatchEncryptionEnabled": true,
            "cloudWatchStreamingEnabled": true, "kmsKeyId": "alias/k", "runAsEnabled": "1",
            "runAsDefaultUser": "bob", "idleSessionTimeout": "20", "maxSessionDuration": 60,
            "shellProfile": {"windows": "dir", "linux": "ls"},
        }));

        let expected = Preferences {
            s3_bucket_name: "bkt".into(),
            s3_key_prefix: "pre/fix".into(),
            s3_encryption_enabled: true,
            cloud_watch_log_group_name: "/grp".into(),
            cloud_watch_encryption_enabled: true,
            cloud_watch_streaming_enabled: true,
            kms_key_id: "alias/k".into(),
            run_as_enabled: true,
            run_as_default_user: "bob".into(),
            idle_timeout: Some(Duration::from_secs(20 * 60)),
            max_duration: Some(Duration::from_secs(60 * 60)),
            shell_profile: ShellProfile { linux: "ls".into() },
        };
        assert_eq!(preferences, Ok(expected));
    }

    #[test]
    fn absent_null_and_empty_values_are_the_defaults() {
        let nothing = Ok(Preferences::default());

        assert_eq!(read(Value::Null), nothing);
        assert_eq!(read(json!({})), nothing);
        assert_eq!(
            read(json!({"runAsEnabled": "", "s3BucketName": null, "shellProfile": null})),
            nothing
        );
    }

    #[test]
    fn time_limits_that_make_no_sense_count_as_absent() {
        for value in [json!("1h"), json!(0), json!("1441"), json!(true), json!("")] {
            let inputs = json!({"idleSessionTimeout": value, "maxSessionDuration": value});

            assert_eq!(read(inputs), Ok(Preferences::default()), "{value}");
        }
    }

    #[test]
    fn names_are_found_in_any_case() {
        let preferences = read(json!({"RunAsEnabled": true, "ShellProfile": {"Linux": "ls"}}));

        let preferences = preferences.unwrap();
        assert!(preferences.run_as_enabled);
        assert_eq!(preferences.shell_profile.linux, "ls");
    }

    #[test]
    fn value_of_the_wrong_type_is_named() {
        for (inputs, text) in [
            (json!([]), "inputs must be an object"),
            (json!({"kmsKeyId": 7}), "inputs.kmsKeyId must be a string"),
            (
                json!({"runAsEnabled": "yes"}),
                "inputs.runAsEnabled must be true or false",
            ),
            (
                json!({"cloudWatchStreamingEnabled": "true"}),
                "inputs.cloudWatchStreamingEnabled must be true or false, without quotes",
            ),
            (
                json!({"shellProfile": {"linux": ["ls"]}}),
                "inputs.shellProfile.linux must be a string",
            ),
        ] {
            assert_eq!(read(inputs).unwrap_err().to_string(), text);
        }
    }

    fn read(inputs: Value) -> Result<Preferences, DocumentError> {
        let mut document: SessionDocument = serde_json::from_value(json!({
            "schemaVersion": "1.0", "sessionType": "Standard_Stream",
        }))
        .unwrap();
        document.inputs = inputs;
        document.preferences()
    }
}

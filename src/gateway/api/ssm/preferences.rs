//! Session preferences: the `inputs` of a session document, and what of them the gateway acts on.
//!
//! A document with `inputs` of its own is sent with them as they are; one without gets those of the
//! account, `SSM-SessionManagerRunShell`. The two time limits are the gateway's: the document's own
//! where it states one, else the account's, else 20 minutes of inactivity and no longest duration.
//! A terminal is idle while nobody types, whatever it prints; a port or a command without terminal
//! while no data passes in either direction.

use std::ops::RangeInclusive;
use std::time::Duration;

use serde_json::{Map, Value};

use crate::gateway::store::sessions::{Activity, DEFAULT_IDLE_TIMEOUT, SessionLimits};
use crate::protocol::wire::session_document::SessionDocument;

const IDLE: &str = "idleSessionTimeout";
const MAXIMUM: &str = "maxSessionDuration";
/// Minutes that the two limits can have, as in AWS.
const IDLE_MINUTES: RangeInclusive<u64> = 1..=60;
const MAXIMUM_MINUTES: RangeInclusive<u64> = 1..=1440;

/// What a preference can be.
#[derive(Clone, Copy)]
enum Kind {
    Text,
    /// A boolean, or a text that the agent takes for one.
    Switch,
    /// A boolean only.
    StrictSwitch,
    Minutes(&'static RangeInclusive<u64>),
    /// A text for each platform.
    Texts,
}

const KEYS: [(&str, Kind); 12] = [
    ("s3BucketName", Kind::Text),
    ("s3KeyPrefix", Kind::Text),
    ("s3EncryptionEnabled", Kind::Switch),
    ("cloudWatchLogGroupName", Kind::Text),
    ("cloudWatchEncryptionEnabled", Kind::Switch),
    ("cloudWatchStreamingEnabled", Kind::StrictSwitch),
    ("kmsKeyId", Kind::Text),
    ("runAsEnabled", Kind::Switch),
    ("runAsDefaultUser", Kind::Text),
    (IDLE, Kind::Minutes(&IDLE_MINUTES)),
    (MAXIMUM, Kind::Minutes(&MAXIMUM_MINUTES)),
    ("shellProfile", Kind::Texts),
];

/// What Go's `ParseBool` knows, which the reference agent reads switches with.
const SWITCHES: [&str; 13] = [
    "", "1", "t", "T", "true", "TRUE", "True", "0", "f", "F", "false", "FALSE", "False",
];

/// Checks the `inputs` of a document. What refers to a parameter is judged when its value is known.
///
/// # Errors
/// A text for the document's author.
pub(super) fn check(inputs: &Value) -> Result<(), String> {
    let members = match inputs {
        Value::Null => return Ok(()),
        Value::Object(members) => members,
        _ => return Err("inputs must be an object.".into()),
    };
    for (key, value) in members {
        let Some((_, kind)) = KEYS.iter().find(|(known, _)| known == key) else {
            return Err(format!("{key} in inputs is not known."));
        };
        let refers = value.as_str().is_some_and(|text| text.contains("{{"));
        if !refers && !value.is_null() {
            kind.check(key, value)?;
        }
    }
    Ok(())
}

impl Kind {
    fn check(self, key: &str, value: &Value) -> Result<(), String> {
        let fits = match self {
            Self::Text => value.is_string(),
            Self::Switch => {
                let is_switch = |text: &str| SWITCHES.contains(&text);
                value.is_boolean() || value.as_str().is_some_and(is_switch)
            }
            Self::StrictSwitch => value.is_boolean(),
            Self::Minutes(allowed) => return minutes(key, value, allowed).map(drop),
            Self::Texts => value
                .as_object()
                .is_some_and(|texts| texts.values().all(Value::is_string)),
        };
        let wanted = match self {
            Self::Text | Self::Minutes(_) => "a string",
            Self::Switch | Self::StrictSwitch => "true or false",
            Self::Texts => "an object of strings",
        };
        if fits {
            return Ok(());
        }
        Err(format!("{key} in inputs must be {wanted}."))
    }
}

/// Gives `document` the preferences of the account if it has none of its own.
pub(super) fn merge(document: &mut SessionDocument, account: &Value) {
    if document.inputs.is_null() {
        document.inputs = account.clone();
    }
}

/// The limits of a session with `document`, whose parameters are resolved.
///
/// # Errors
/// A text for whoever starts the session.
pub(super) fn limits(document: &SessionDocument, account: &Value) -> Result<SessionLimits, String> {
    let limit = |key: &str, allowed| -> Result<Option<Duration>, String> {
        for inputs in [&document.inputs, account] {
            if let Some(limit) = minutes(key, &inputs[key], allowed)? {
                return Ok(Some(limit));
            }
        }
        Ok(None)
    };
    let activity = match document.session_type.as_str() {
        "Standard_Stream" | "InteractiveCommands" => Activity::Input,
        _ => Activity::InputOrOutput,
    };
    Ok(SessionLimits {
        idle_timeout: limit(IDLE, &IDLE_MINUTES)?.unwrap_or(DEFAULT_IDLE_TIMEOUT),
        activity,
        max_duration: limit(MAXIMUM, &MAXIMUM_MINUTES)?,
    })
}

/// A number of minutes, also as text; none if it is not given or empty.
fn minutes(
    key: &str,
    value: &Value,
    allowed: &RangeInclusive<u64>,
) -> Result<Option<Duration>, String> {
    let number = match value {
        Value::Null => return Ok(None),
        Value::String(text) if text.is_empty() => return Ok(None),
        Value::String(text) => text.parse().ok(),
        Value::Number(number) => number.as_u64(),
        Value::Bool(_) | Value::Array(_) | Value::Object(_) => None,
    };
    match number.filter(|number| allowed.contains(number)) {
        Some(number) => Ok(Some(Duration::from_secs(number * 60))),
        None => {
            let (first, last) = allowed.clone().into_inner();
            Err(format!(
                "{key} in inputs is {value}, allowed are {first} to {last} minutes."
            ))
        }
    }
}

/// The preferences of a document of the account, with the defaults of its parameters.
pub(super) fn of_account(document: &SessionDocument) -> Value {
    document
        .resolve(&Map::new())
        .map_or_else(|_| document.inputs.clone(), |resolved| resolved.inputs)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn preferences_of_the_documented_form_are_accepted() {
        let inputs = json!({
            "s3BucketName": "bkt", "s3KeyPrefix": "", "s3EncryptionEnabled": true,
            "cloudWatchLogGroupName": "", "cloudWatchEncryptionEnabled": "False",
            "cloudWatchStreamingEnabled": false, "kmsKeyId": "{{ key }}", "runAsEnabled": "",
            "runAsDefaultUser": null, "idleSessionTimeout": "20", "maxSessionDuration": 60,
            "shellProfile": {"windows": "", "linux": "exec bash"}
        });

        assert_eq!(check(&inputs), Ok(()));
        assert_eq!(check(&Value::Null), Ok(()));
    }

    #[test]
    fn preferences_that_would_be_ignored_or_fail_are_refused_by_name() {
        for (inputs, text) in [
            (json!([]), "inputs must be an object"),
            (
                json!({"idleTimeout": "5"}),
                "idleTimeout in inputs is not known",
            ),
            (
                json!({"kmsKeyId": true}),
                "kmsKeyId in inputs must be a string",
            ),
            (json!({"runAsEnabled": "yes"}), "runAsEnabled"),
            (
                json!({"cloudWatchStreamingEnabled": "true"}),
                "must be true or false",
            ),
            (json!({"shellProfile": "bash"}), "shellProfile"),
            (json!({"idleSessionTimeout": "0"}), "1 to 60 minutes"),
            (json!({"idleSessionTimeout": "61"}), "1 to 60 minutes"),
            (json!({"maxSessionDuration": "1441"}), "1 to 1440 minutes"),
            (json!({"maxSessionDuration": "1h"}), "1 to 1440 minutes"),
            (json!({"maxSessionDuration": true}), "1 to 1440 minutes"),
        ] {
            let refused = check(&inputs).unwrap_err();
            assert!(refused.contains(text), "{refused}");
        }
    }

    #[test]
    fn limits_are_the_documents_own_then_the_accounts_then_the_default() {
        let account = json!({"idleSessionTimeout": "5", "maxSessionDuration": "60"});
        for (inputs, account, idle, max) in [
            (json!({}), json!({}), 20, None),
            (json!({}), account.clone(), 5, Some(60)),
            (
                json!({"idleSessionTimeout": "7"}),
                account.clone(),
                7,
                Some(60),
            ),
            (json!({"maxSessionDuration": ""}), account, 5, Some(60)),
            (json!({"maxSessionDuration": "3"}), json!({}), 20, Some(3)),
        ] {
            let limits = limits(&document("Port", inputs.clone()), &account).unwrap();
            let minutes = |minutes: u64| Duration::from_secs(minutes * 60);
            assert_eq!(limits.idle_timeout, minutes(idle), "{inputs}");
            assert_eq!(limits.max_duration, max.map(minutes), "{inputs}");
        }
        let wrong = document("Port", json!({"idleSessionTimeout": "99"}));
        assert!(limits(&wrong, &Value::Null).is_err());
    }

    #[test]
    fn typing_keeps_terminals_alive_and_any_data_everything_else() {
        for (session_type, activity) in [
            ("Standard_Stream", Activity::Input),
            ("InteractiveCommands", Activity::Input),
            ("NonInteractiveCommands", Activity::InputOrOutput),
            ("Port", Activity::InputOrOutput),
        ] {
            let limits = limits(&document(session_type, json!({})), &Value::Null).unwrap();
            assert_eq!(limits.activity, activity, "{session_type}");
        }
    }

    #[test]
    fn inputs_of_a_document_are_its_own_or_the_accounts() {
        let account = json!({"kmsKeyId": "k"});
        for (own, sent) in [
            (Value::Null, account.clone()),
            (json!({}), json!({})),
            (json!({"runAsEnabled": true}), json!({"runAsEnabled": true})),
        ] {
            let mut document = document("Port", own);
            merge(&mut document, &account);
            assert_eq!(document.inputs, sent);
        }
    }

    fn document(session_type: &str, inputs: Value) -> SessionDocument {
        let mut document = json!({"schemaVersion": "1.0", "sessionType": session_type});
        document["inputs"] = inputs;
        serde_json::from_value(document).unwrap()
    }
}

//! `aws:updateSsmAgent`, which this version refuses: the manifest of AWS lists the reference agent, which
//! would take this one's place, and there is no other manifest yet.

use serde_json::{Map, Value};

use super::super::document::member;
use super::{Ended, Task};

/// What may be said for yes and no.
const BOOLEANS: [&str; 12] = [
    "1", "t", "T", "TRUE", "true", "True", "0", "f", "F", "FALSE", "false", "False",
];

/// Refuses the step, and says how the agent is updated.
pub(super) fn refuse(task: &Task<'_>) -> Ended {
    Ended::failed(reason(task.properties))
}

fn reason(properties: &Value) -> String {
    let Some(members) = properties.as_object() else {
        return format!(
            "invalid format in plugin properties {properties};\nerror inputs must be an object"
        );
    };
    let allow_downgrade = text(members, "allowDowngrade");
    if !BOOLEANS.contains(&allow_downgrade) {
        return format!("allowDowngrade must be true or false, it is {allow_downgrade:?}");
    }
    let source = text(members, "source");
    let why = if is_of_aws(source) {
        "The manifest of AWS lists amazon-ssm-agent, which would take the place of this agent."
            .to_owned()
    } else {
        format!(
            "This version of the agent does not update itself, whatever the manifest ({source})."
        )
    };
    format!(
        "{why} Nothing was changed. To update this agent, install its package of the new version."
    )
}

fn text<'a>(members: &'a Map<String, Value>, name: &str) -> &'a str {
    member(members, name)
        .and_then(Value::as_str)
        .unwrap_or_default()
}

/// Whether a manifest is AWS's: the default, or one in a bucket of AWS.
fn is_of_aws(source: &str) -> bool {
    source.is_empty()
        || source.ends_with("/ssm-agent-manifest.json") && source.contains("amazonaws.com")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn manifest_of_aws_is_refused_with_the_reason_and_the_way_out() {
        for source in [
            "",
            "https://s3.{Region}.amazonaws.com/amazon-ssm-{Region}/ssm-agent-manifest.json",
            "https://s3.cn-north-1.amazonaws.com.cn/amazon-ssm-cn-north-1/ssm-agent-manifest.json",
        ] {
            let text = reason(
                &json!({"agentName": "amazon-ssm-agent", "allowDowngrade": "false", "source": source}),
            );
            assert!(
                text.starts_with("The manifest of AWS lists amazon-ssm-agent"),
                "{text}"
            );
            assert!(
                text.ends_with("install its package of the new version."),
                "{text}"
            );
        }
    }

    #[test]
    fn other_manifests_and_wrong_inputs_are_told_apart() {
        let other =
            reason(&json!({"allowDowngrade": "true", "source": "https://example.org/m.json"}));
        assert!(other.contains(
            "does not update itself, whatever the manifest (https://example.org/m.json)"
        ));
        let wrong = reason(&json!({"allowDowngrade": "maybe"}));
        assert_eq!(
            wrong,
            "allowDowngrade must be true or false, it is \"maybe\""
        );
        assert!(reason(&json!([])).starts_with("invalid format"));
    }
}

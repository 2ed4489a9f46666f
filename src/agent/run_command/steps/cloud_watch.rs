//! `aws:cloudWatch`, which has nothing to start on Linux, here as in the reference: a step that does not ask
//! for it to be started ends well, with its own inputs as output.

use serde_json::Value;

use super::super::document::member;
use super::{Ended, Task};

/// Ends the step.
pub(super) fn run(task: &Task<'_>) -> Ended {
    end(task.properties, task.plugin_settings)
}

fn end(properties: &Value, settings: &Value) -> Ended {
    let start_type = settings
        .as_object()
        .and_then(|settings| member(settings, "startType"));
    if start_type.is_some() {
        return Ended::failed(
            "Plugin aws:cloudWatch is not registered by agent: it is for Windows alone. Nothing was changed.",
        );
    }
    // What the inputs have under that name stands for all of them.
    let own = properties.as_object();
    let own = own.and_then(|inputs| member(inputs, "properties"));
    match own.unwrap_or(properties) {
        Value::String(text) => Ended::succeeded(text.as_str()),
        other => Ended::succeeded(other.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::protocol::wire::command::Status;

    #[test]
    fn step_without_settings_ends_well_with_its_inputs() {
        for (inputs, output) in [
            (json!({}), "{}"),
            (json!({"properties": {"a": 1}}), "{\"a\":1}"),
            (json!("text"), "text"),
        ] {
            let ended = end(&inputs, &Value::Null);

            assert_eq!((ended.status, ended.code), (Status::Success, 0));
            assert_eq!(ended.output, output);
        }
    }

    #[test]
    fn step_that_is_to_start_it_fails() {
        let ended = end(&json!({}), &json!({"startType": "Enabled"}));

        assert_eq!((ended.status, ended.code), (Status::Failed, 1));
        assert!(ended.error_output.contains("not registered by agent"));
    }
}

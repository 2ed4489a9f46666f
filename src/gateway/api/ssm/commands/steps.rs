//! The steps of a command, by the names under which agents report them.

use serde_json::Value;

use super::super::super::answer::ApiError;
use crate::gateway::store::commands::InvocationStep;
use crate::protocol::wire::command::SendCommand;

/// A step of the document, or one that was reported.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Step {
    name: String,
    plugin: String,
}

/// The steps of what was sent, and what was reported besides.
pub(super) fn steps(content: &str, reported: &[InvocationStep]) -> Vec<Step> {
    let mut steps = match SendCommand::decode(content) {
        Ok(sent) => of_document(&sent.document_content),
        Err(_) => Vec::new(),
    };
    for step in reported {
        if !steps.iter().any(|known| known.name == step.step) {
            steps.push(Step {
                name: step.step.clone(),
                plugin: step.plugin.clone(),
            });
        }
    }
    steps
}

/// Steps go by their names, plugins of older documents by their own.
fn of_document(document: &Value) -> Vec<Step> {
    let steps = document["mainSteps"].as_array().into_iter().flatten();
    let steps = steps.filter_map(|step| {
        Some(Step {
            name: step["name"].as_str()?.to_owned(),
            plugin: step["action"].as_str()?.to_owned(),
        })
    });
    let plugins = document["runtimeConfig"].as_object().into_iter().flatten();
    let plugins = plugins.map(|(plugin, _)| Step {
        name: plugin.clone(),
        plugin: plugin.clone(),
    });
    steps.chain(plugins).collect()
}

/// The step that is meant by its name, or by its plugin if no other step has the same.
///
/// # Errors
/// `InvalidPluginName`.
pub(super) fn named<'a>(steps: &'a [Step], name: &str) -> Result<&'a str, ApiError> {
    let by_name = steps.iter().find(|step| step.name == name);
    let by_plugin = || {
        let mut of_plugin = steps.iter().filter(|step| step.plugin == name);
        of_plugin.next().filter(|_| of_plugin.next().is_none())
    };
    let step = by_name.or_else(by_plugin);
    step.map(|step| step.name.as_str())
        .ok_or_else(|| unknown(steps))
}

/// A name that no step has, or none where there are several.
pub(super) fn unknown(steps: &[Step]) -> ApiError {
    let names: Vec<&str> = steps.iter().map(|step| step.name.as_str()).collect();
    let text = format!("The plugin name must be one of: {}.", names.join(", "));
    ApiError::new("InvalidPluginName", text)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn steps_are_those_of_the_document_and_what_was_reported_besides() {
        let step = |name: &str, action: &str| json!({"name": name, "action": action});
        let (shell, download) = ("aws:runShellScript", "aws:downloadContent");
        let document = json!({"mainSteps": [step("get", download), step("run", shell)]});
        let sent = json!({"CommandId": "c", "DocumentContent": document}).to_string();
        let reported = [reported("run", shell), reported("more", shell)];

        let steps = steps(&sent, &reported);

        let names: Vec<&str> = steps.iter().map(|step| step.name.as_str()).collect();
        assert_eq!(names, ["get", "run", "more"]);
        assert_eq!(named(&steps, "run").unwrap(), "run");
        assert_eq!(named(&steps, download).unwrap(), "get");
        for name in [shell, "", "Run"] {
            let error = named(&steps, name).unwrap_err();
            assert_eq!(error.code(), "InvalidPluginName", "{name}");
        }
    }

    #[test]
    fn plugins_of_older_documents_are_steps() {
        let document = json!({"runtimeConfig": {"aws:runShellScript": {"properties": []}}});
        let sent = json!({"CommandId": "c", "DocumentContent": document}).to_string();

        let steps = steps(&sent, &[]);

        assert_eq!(
            named(&steps, "aws:runShellScript").unwrap(),
            "aws:runShellScript"
        );
    }

    fn reported(name: &str, plugin: &str) -> InvocationStep {
        let text = String::new;
        InvocationStep {
            step: name.into(),
            plugin: plugin.into(),
            status: text(),
            code: 0,
            output: text(),
            stdout: text(),
            stderr: text(),
            started: text(),
            ended: text(),
            s3_bucket: text(),
            s3_prefix: text(),
            stream_name: text(),
        }
    }
}

//! The built-in documents that Run Command runs, with the names, parameters and steps that AWS
//! publishes.

use serde_json::{Value, json};

/// Seconds that a script may ask for, 1 to 172800.
const TIMEOUT: &str = "^([1-9][0-9]{0,4}|1[0-6][0-9]{4}|17[0-1][0-9]{3}|172[0-7][0-9]{2}|172800)$";

/// Name, platforms and content of each.
pub(super) fn contents() -> [(&'static str, &'static [&'static str], Value); 2] {
    [
        (
            "AWS-RunShellScript",
            &["Linux", "MacOS"],
            script("aws:runShellScript", "A shell script or commands"),
        ),
        (
            "AWS-RunPowerShellScript",
            &["Windows", "Linux"],
            script("aws:runPowerShellScript", "A PowerShell script or commands"),
        ),
    ]
}

fn script(plugin: &str, description: &str) -> Value {
    json!({
        "schemaVersion": "1.2",
        "description": description,
        "parameters": {
            "commands": {
                "type": "StringList",
                "description": "The lines of the script",
                "minItems": 1,
                "displayType": "textarea"
            },
            "workingDirectory": {
                "type": "String",
                "default": "",
                "description": "The folder in which it runs",
                "maxChars": 4096
            },
            "executionTimeout": {
                "type": "String",
                "default": "3600",
                "description": "The seconds that it may take, at most 172800 (48 hours)",
                "allowedPattern": TIMEOUT
            }
        },
        "runtimeConfig": {plugin: {"properties": [{
            "id": format!("0.{plugin}"),
            "runCommand": "{{ commands }}",
            "workingDirectory": "{{ workingDirectory }}",
            "timeoutSeconds": "{{ executionTimeout }}"
        }]}}
    })
}

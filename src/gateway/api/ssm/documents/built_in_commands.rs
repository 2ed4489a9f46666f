//! The built-in documents that Run Command runs, with the names, parameters and steps that AWS
//! publishes.

use serde_json::{Value, json};

/// Seconds that a script may ask for, 1 to 172800.
const TIMEOUT: &str = "^([1-9][0-9]{0,4}|1[0-6][0-9]{4}|17[0-1][0-9]{3}|172[0-7][0-9]{2}|172800)$";

/// Platforms of documents that have steps for each.
const EVERYWHERE: [&str; 3] = ["Windows", "Linux", "MacOS"];

/// Name, platforms and content of each.
pub(super) fn contents() -> [(&'static str, &'static [&'static str], Value); 4] {
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
        ("AWS-RunRemoteScript", &EVERYWHERE, remote_script()),
        ("AWS-RunDocument", &EVERYWHERE, remote_document()),
    ]
}

/// A script that is downloaded, and a command line to run with it. Unlike that of AWS it takes every
/// source that agents know.
fn remote_script() -> Value {
    let precondition = |platform: &str| json!({"StringEquals": ["platformType", platform]});
    json!({
        "schemaVersion": "2.2",
        "description": "A script, or a folder with one, that is downloaded and run",
        "parameters": {
            "sourceType": source_type(&["GitHub", "S3", "Git", "HTTP", "SSMDocument"]),
            "sourceInfo": source_info(),
            "commandLine": {
                "type": "String",
                "description": "The command line, for example: setup.sh one two",
                "default": ""
            },
            "workingDirectory": {
                "type": "String",
                "default": "",
                "description": "The folder to which it is downloaded and in which it runs",
                "maxChars": 4096
            },
            "executionTimeout": timeout()
        },
        "mainSteps": [
            {
                "action": "aws:downloadContent",
                "name": "downloadContent",
                "inputs": {
                    "sourceType": "{{ sourceType }}",
                    "sourceInfo": "{{ sourceInfo }}",
                    "destinationPath": "{{ workingDirectory }}"
                }
            },
            {
                "precondition": precondition("Windows"),
                "action": "aws:runPowerShellScript",
                "name": "runPowerShellScript",
                "inputs": {
                    "runCommand": [
                        "$env:PATH += \";$(Convert-Path .)\"",
                        "{{ commandLine }}",
                        "if ($?) { exit $LASTEXITCODE } else { exit 255 }"
                    ],
                    "workingDirectory": "{{ workingDirectory }}",
                    "timeoutSeconds": "{{ executionTimeout }}"
                }
            },
            {
                "precondition": precondition("Linux"),
                "action": "aws:runShellScript",
                "name": "runShellScript",
                "inputs": {
                    "runCommand": ["export PATH=\"$PATH:$(pwd)\"", "{{ commandLine }}"],
                    "workingDirectory": "{{ workingDirectory }}",
                    "timeoutSeconds": "{{ executionTimeout }}"
                }
            }
        ]
    })
}

/// A document that is downloaded and run.
fn remote_document() -> Value {
    json!({
        "schemaVersion": "2.2",
        "description": "A document of type Command, in JSON or YAML, that is downloaded and run",
        "parameters": {
            "sourceType": source_type(&["GitHub", "S3", "SSMDocument", "HTTP"]),
            "sourceInfo": source_info(),
            "documentParameters": {
                "type": "StringMap",
                "description": "The values of its parameters",
                "displayType": "textarea",
                "default": {}
            }
        },
        "mainSteps": [
            {
                "action": "aws:downloadContent",
                "name": "downloadContent",
                "inputs": {
                    "sourceType": "{{ sourceType }}",
                    "sourceInfo": "{{ sourceInfo }}",
                    "destinationPath": "document"
                }
            },
            {
                "action": "aws:runDocument",
                "name": "runDocument",
                "inputs": {
                    "documentType": "LocalPath",
                    "documentPath": "document",
                    "documentParameters": "{{ documentParameters }}"
                }
            }
        ]
    })
}

fn source_type(types: &[&str]) -> Value {
    json!({
        "type": "String",
        "description": "Where it is",
        "allowedValues": types
    })
}

fn source_info() -> Value {
    json!({
        "type": "StringMap",
        "description": "How it is found there, for example {\"path\": \"https://bucket.s3.us-east-1.amazonaws.com/setup.sh\"} in S3",
        "displayType": "textarea",
        "default": {}
    })
}

fn timeout() -> Value {
    json!({
        "type": "String",
        "default": "3600",
        "description": "The seconds that it may take, at most 172800 (48 hours)",
        "allowedPattern": TIMEOUT
    })
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
            "executionTimeout": timeout()
        },
        "runtimeConfig": {plugin: {"properties": [{
            "id": format!("0.{plugin}"),
            "runCommand": "{{ commands }}",
            "workingDirectory": "{{ workingDirectory }}",
            "timeoutSeconds": "{{ executionTimeout }}"
        }]}}
    })
}

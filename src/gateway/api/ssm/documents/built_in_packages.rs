//! The built-in documents for packages, docker and the agent itself, with the names, parameters and
//! steps that AWS publishes.

use serde_json::{Value, json};

/// Seconds that a step may ask for, 1 to 172800.
const TIMEOUT: &str = "^([1-9][0-9]{0,4}|1[0-6][0-9]{4}|17[0-1][0-9]{3}|172[0-7][0-9]{2}|172800)$";
const LINUX: [&str; 1] = ["Linux"];
const EVERYWHERE: [&str; 3] = ["Windows", "Linux", "MacOS"];
/// Where AWS lists the versions of its agent.
const MANIFEST: &str =
    "https://s3.{Region}.amazonaws.com/amazon-ssm-{Region}/ssm-agent-manifest.json";

/// Name, platforms and content of each.
pub(super) fn contents() -> [(&'static str, &'static [&'static str], Value); 4] {
    [
        ("AWS-ConfigureAWSPackage", &EVERYWHERE, package()),
        ("AWS-UpdateSSMAgent", &EVERYWHERE, update()),
        ("AWS-RunDockerAction", &LINUX, docker_action()),
        ("AWS-ConfigureDocker", &LINUX, docker()),
    ]
}

fn package() -> Value {
    json!({
        "schemaVersion": "2.2",
        "description": "Installs or uninstalls a package of Distributor",
        "parameters": {
            "action": {
                "type": "String",
                "description": "What to do with it",
                "allowedValues": ["Install", "Uninstall"]
            },
            "installationType": {
                "type": "String",
                "description": "Whether a version that is there is uninstalled first, or updated in place by the package's update script",
                "allowedValues": ["Uninstall and reinstall", "In-place update"],
                "default": "Uninstall and reinstall"
            },
            "name": {
                "type": "String",
                "description": "The package, by its name or the ARN of its document",
                "minChars": 1
            },
            "version": {
                "type": "String",
                "description": "The version; the newest if there is none",
                "default": ""
            },
            "additionalArguments": {
                "type": "StringMap",
                "description": "Variables for the package's scripts; their names begin with SSM_",
                "displayType": "textarea",
                "default": {}
            }
        },
        "mainSteps": [{
            "action": "aws:configurePackage",
            "name": "configurePackage",
            "inputs": {
                "name": "{{ name }}",
                "action": "{{ action }}",
                "version": "{{ version }}",
                "installationType": "{{ installationType }}",
                "additionalArguments": "{{ additionalArguments }}"
            }
        }]
    })
}

fn update() -> Value {
    json!({
        "schemaVersion": "1.2",
        "description": "Updates the agent",
        "parameters": {
            "version": {
                "type": "String",
                "description": "The version; the newest if there is none",
                "default": ""
            },
            "allowDowngrade": {
                "type": "String",
                "description": "Whether it may be an older version than the one that runs",
                "allowedValues": ["true", "false"],
                "default": "false"
            }
        },
        "runtimeConfig": {"aws:updateSsmAgent": {"properties": [{
            "agentName": "amazon-ssm-agent",
            "source": MANIFEST,
            "allowDowngrade": "{{ allowDowngrade }}",
            "targetVersion": "{{ version }}"
        }]}}
    })
}

fn docker_action() -> Value {
    let text =
        |description: &str| json!({"type": "String", "description": description, "default": ""});
    json!({
        "schemaVersion": "1.2",
        "description": "Runs an action of docker",
        "parameters": {
            "action": {
                "type": "String",
                "description": "The action",
                "allowedValues": [
                    "Create", "Run", "Start", "Stop", "Rm", "Exec", "Inspect", "Logs", "Ps", "Stats", "Pull",
                    "Images", "Rmi"
                ]
            },
            "container": text("The container, by name or id"),
            "image": text("The image"),
            "cmd": text("The command"),
            "memory": text("Most memory of the container, for example 512m"),
            "cpuShares": text("Its share of the processors, relative to others"),
            "volume": {
                "type": "StringList",
                "description": "Volumes to mount",
                "default": []
            },
            "env": text("A variable of its environment"),
            "user": text("The user in the container"),
            "publish": text("Ports that it publishes"),
            "workingDirectory": {
                "type": "String",
                "default": "",
                "description": "The folder in which docker runs",
                "maxChars": 4096
            },
            "timeoutSeconds": {
                "type": "String",
                "default": "3600",
                "description": "The seconds that it may take, at most 172800 (48 hours)",
                "allowedPattern": TIMEOUT
            }
        },
        "runtimeConfig": {"aws:runDockerAction": {"properties": [{
            "id": "0.aws:runDockerAction",
            "action": "{{ action }}",
            "container": "{{ container }}",
            "image": "{{ image }}",
            "cmd": "{{ cmd }}",
            "memory": "{{ memory }}",
            "cpuShares": "{{ cpuShares }}",
            "volume": "{{ volume }}",
            "env": "{{ env }}",
            "user": "{{ user }}",
            "publish": "{{ publish }}",
            "workingDirectory": "{{ workingDirectory }}",
            "timeoutSeconds": "{{ timeoutSeconds }}"
        }]}}
    })
}

fn docker() -> Value {
    json!({
        "schemaVersion": "1.2",
        "description": "Installs or uninstalls docker",
        "parameters": {"action": {
            "type": "String",
            "description": "What to do",
            "allowedValues": ["Install", "Uninstall"],
            "default": "Install"
        }},
        "runtimeConfig": {"aws:configureDocker": {"properties": [{
            "id": "0.aws:configureDocker",
            "action": "{{ action }}"
        }]}}
    })
}

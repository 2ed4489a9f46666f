//! How docker is installed and uninstalled, by distribution. The scripts are constants: nothing that a
//! document says becomes part of them.

use serde_json::Value;

use super::super::super::document::{is_folder_name, member};
use super::invalid;

/// A command of a script, and what is told before and if it fails.
struct Line {
    tells: &'static str,
    command: &'static str,
    name: &'static str,
}

const AMAZON_INSTALL: &[Line] = &[
    Line {
        tells: "Installing docker through yum",
        command: "yum install -y docker",
        name: "yum install",
    },
    Line {
        tells: "Updating docker through yum",
        command: "yum update -y docker",
        name: "yum update",
    },
    Line {
        tells: "Starting docker service",
        command: "service docker start",
        name: "service docker start",
    },
];

const RED_HAT_INSTALL: &[Line] = &[
    Line {
        tells: "Installing yum-utils",
        command: "yum install -y yum-utils",
        name: "yum install",
    },
    Line {
        tells: "Add docker repo",
        command: "yum-config-manager --add-repo https://download.docker.com/linux/centos/docker-ce.repo",
        name: "yum-config-manager",
    },
    Line {
        tells: "Installation docker through yum",
        command: "yum install -y docker-ce",
        name: "yum install",
    },
    Line {
        tells: "Starting docker service",
        command: "systemctl start docker",
        name: "systemctl start docker",
    },
];

const AMAZON_UNINSTALL: &[Line] = &[Line {
    tells: "Removing docker through yum",
    command: "yum remove -y docker",
    name: "yum remove",
}];

const RED_HAT_UNINSTALL: &[Line] = &[Line {
    tells: "Removing docker through yum",
    command: "yum remove -y docker-engine",
    name: "yum remove",
}];

/// Lines of the script for a step on the distribution `platform`, and the name of the step's folder; the
/// error is the text for the reply.
pub(super) fn script(properties: &Value, platform: &str) -> Result<(Vec<String>, String), String> {
    let Some(members) = properties.as_object() else {
        return Err(invalid(properties, "inputs must be an object"));
    };
    let text = |name: &str| match member(members, name) {
        None | Some(Value::Null) => Ok(""),
        Some(Value::String(text)) => Ok(text.as_str()),
        Some(_) => Err(invalid(properties, &format!("{name} must be a string"))),
    };
    let (action, id) = (text("action")?, text("id")?);
    let installs = match action {
        "Install" => true,
        "Uninstall" => false,
        _ => {
            return Err(format!(
                "configure Action is set to unsupported value: {action}"
            ));
        }
    };
    let lower = platform.to_lowercase();
    let lines = match (distribution(&lower), installs) {
        (Distribution::Amazon, true) => AMAZON_INSTALL,
        (Distribution::Amazon, false) => AMAZON_UNINSTALL,
        (Distribution::RedHat, true) => RED_HAT_INSTALL,
        (Distribution::RedHat, false) => RED_HAT_UNINSTALL,
        (Distribution::Ubuntu, _) => {
            return Err("Ubuntu platform is not currently supported".to_owned());
        }
        (Distribution::Other, _) => {
            // The reference's word.
            let variant = if lower.contains("debian") {
                "debian"
            } else {
                &lower
            };
            return Err(format!("Unsupported Linux variant: {variant}"));
        }
    };
    let mut script: Vec<String> = lines.iter().flat_map(shell_lines).collect();
    let last = if installs {
        "Installation"
    } else {
        "Uninstall"
    };
    script.push(format!("echo '{last} complete'"));
    let id = if is_folder_name(id) { id } else { "" };
    Ok((script, id.to_owned()))
}

enum Distribution {
    Amazon,
    RedHat,
    Ubuntu,
    Other,
}

fn distribution(lower: &str) -> Distribution {
    let is = |word: &str| lower.contains(word);
    if is("amazon") || is("bottlerocket") {
        Distribution::Amazon
    } else if is("red hat") {
        Distribution::RedHat
    } else if is("ubuntu") {
        Distribution::Ubuntu
    } else {
        Distribution::Other
    }
}

fn shell_lines(line: &Line) -> [String; 2] {
    let Line {
        tells,
        command,
        name,
    } = line;
    [
        format!("echo '{tells}'"),
        format!(
            "{command} || {{ code=$?; echo \"Error running {name}: exit status $code\" >&2; exit 1; }}"
        ),
    ]
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn lines(action: &str, platform: &str) -> Result<String, String> {
        let (lines, _) = script(&json!({"action": action}), platform)?;
        Ok(lines.join("\n"))
    }

    #[test]
    fn scripts_are_those_of_the_distribution() {
        let amazon = lines("Install", "Amazon Linux").unwrap();
        assert!(
            amazon.contains("yum install -y docker ||") && amazon.contains("service docker start")
        );
        assert!(amazon.ends_with("echo 'Installation complete'"));
        let red_hat = lines("Install", "Red Hat Enterprise Linux").unwrap();
        assert!(red_hat.contains("yum install -y docker-ce ||"));
        let gone = lines("Uninstall", "Red Hat Enterprise Linux").unwrap();
        assert!(
            gone.contains("yum remove -y docker-engine") && gone.ends_with("'Uninstall complete'")
        );
    }

    #[test]
    fn what_cannot_be_done_is_told() {
        for (action, platform, text) in [
            (
                "Install",
                "Ubuntu",
                "Ubuntu platform is not currently supported",
            ),
            (
                "Install",
                "Debian GNU/Linux",
                "Unsupported Linux variant: debian",
            ),
            (
                "Repair",
                "Amazon Linux",
                "configure Action is set to unsupported value: Repair",
            ),
            (
                "",
                "Amazon Linux",
                "configure Action is set to unsupported value: ",
            ),
        ] {
            assert_eq!(lines(action, platform).unwrap_err(), text);
        }
        assert!(script(&json!([]), "Amazon Linux").is_err());
        assert!(script(&json!({"action": 1}), "Amazon Linux").is_err());
    }

    #[test]
    fn folder_elsewhere_is_not_taken() {
        let (_, id) = script(&json!({"action": "Install", "id": "../x"}), "Amazon Linux").unwrap();

        assert_eq!(id, "");
    }
}

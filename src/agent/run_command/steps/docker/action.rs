//! What docker is asked to do: the inputs of a step, checked, as its arguments.
//!
//! The arguments go to docker as they are, no shell reads them. Where the reference passes what is empty
//! as an empty argument, which docker takes for a command or a container, it is left out here; and each
//! volume has an option of its own.

use std::sync::LazyLock;

use regex::Regex;
use serde_json::{Map, Value, json};

use super::super::super::document::member;
use super::invalid;

/// What texts may consist of, in the reference's words.
static CONTAINER: LazyLock<Regex> = LazyLock::new(|| pattern(r"^[a-zA-Z0-9_\-\\/]*$"));
static IMAGE: LazyLock<Regex> = LazyLock::new(|| pattern(r"^[a-zA-Z0-9.:_\-\\/]*$"));
static USER: LazyLock<Regex> = LazyLock::new(|| pattern(r"^[a-zA-Z0-9_-]*$"));
static VOLUME: LazyLock<Regex> = LazyLock::new(|| pattern(r#"^[0-9A-Za-z_\\/:\-."()^ ]*$"#));
static CPU_SHARES: LazyLock<Regex> = LazyLock::new(|| pattern(r"^/?[a-zA-Z0-9_-]*$"));
static MEMORY: LazyLock<Regex> = LazyLock::new(|| pattern(r"^[0-9]*[bkmg]?$"));
static PUBLISH: LazyLock<Regex> = LazyLock::new(|| pattern(r"^[0-9a-zA-Z:\-/.]*$"));
/// What a command and a variable must not have.
const FORBIDDEN: [char; 4] = [';', ',', '&', '|'];

fn pattern(text: &str) -> Regex {
    Regex::new(text).expect("the pattern is a constant that the tests compile")
}

/// The inputs of a step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Action {
    name: String,
    container: String,
    cmd: String,
    image: String,
    memory: String,
    cpu_shares: String,
    volumes: Vec<String>,
    env: String,
    user: String,
    publish: String,
    /// What concerns the process: folder, time, folder of the step.
    process: Value,
}

impl Action {
    /// Reads and checks them; the error is the text for the reply.
    pub(super) fn read(properties: &Value) -> Result<Self, String> {
        let Some(members) = properties.as_object() else {
            return Err(invalid(properties, "inputs must be an object"));
        };
        let wrong = |text: &str| invalid(properties, text);
        let text = |name: &str| {
            text(members, name).ok_or_else(|| wrong(&format!("{name} must be a string")))
        };
        let volumes = match member(members, "volume") {
            None | Some(Value::Null) => Vec::new(),
            Some(volumes) => {
                texts(volumes).ok_or_else(|| wrong("volume must be a list of strings"))?
            }
        };
        let pass = |name: &str| member(members, name).cloned().unwrap_or(Value::Null);
        let mut process = json!({
            "workingDirectory": text("workingDirectory")?,
            "timeoutSeconds": pass("timeoutSeconds"),
            "id": text("id")?,
        });
        if process["timeoutSeconds"].is_null()
            && let Some(process) = process.as_object_mut()
        {
            process.remove("timeoutSeconds");
        }
        let action = Self {
            name: text("action")?,
            container: text("container")?,
            cmd: text("cmd")?,
            image: text("image")?,
            memory: text("memory")?,
            cpu_shares: text("cpuShares")?,
            volumes,
            env: text("env")?,
            user: text("user")?,
            publish: text("publish")?,
            process,
        };
        match action.objection() {
            Some(text) => Err(format!("Validation error, {text}")),
            None => Ok(action),
        }
    }

    fn objection(&self) -> Option<&'static str> {
        let checks = [
            (
                CONTAINER.is_match(&self.container),
                "Invalid container name, only [a-zA-Z0-9_-\\/] are allowed",
            ),
            (
                IMAGE.is_match(&self.image),
                "Invalid image value, only [a-zA-Z0-9.:_-\\/] are allowed",
            ),
            (USER.is_match(&self.user), "Invalid user value"),
            (
                self.volumes.iter().all(|volume| VOLUME.is_match(volume)),
                "Invalid volume",
            ),
            (
                CPU_SHARES.is_match(&self.cpu_shares),
                "Invalid CpuShares value, only integars are allowed",
            ),
            (MEMORY.is_match(&self.memory), "Invalid Memory value"),
            (PUBLISH.is_match(&self.publish), "Invalid Publish value"),
            (
                !self.env.contains(FORBIDDEN),
                "Invalid environment variable value",
            ),
            (!self.cmd.contains(FORBIDDEN), "Invalid command value"),
            // These would be options of docker.
            (
                ![&self.container, &self.image]
                    .iter()
                    .any(|name| name.starts_with('-')),
                "Invalid name, it begins with a hyphen",
            ),
        ];
        let mut broken = checks.iter().filter(|(holds, _)| !holds);
        broken.next().map(|(_, text)| *text)
    }

    /// What concerns the process, as inputs of a script.
    pub(super) fn process(&self) -> Value {
        self.process.clone()
    }

    /// Docker's arguments; the error is the text for the reply.
    pub(super) fn arguments(&self) -> Result<Vec<String>, String> {
        let (container, image) = (&self.container, &self.image);
        let mut arguments = Arguments::default();
        match self.name.as_str() {
            "Create" | "Run" => {
                self.require("image", image)?;
                if self.name == "Run" {
                    arguments.add(["run", "-d"]);
                } else {
                    arguments.add(["create"]);
                }
                for volume in self.volumes.iter().filter(|volume| !volume.is_empty()) {
                    arguments.option("--volume", volume);
                }
                arguments.option("--name", container);
                arguments.option("--memory", &self.memory);
                arguments.option("--cpu-shares", &self.cpu_shares);
                arguments.option("--publish", &self.publish);
                arguments.option("--env", &self.env);
                arguments.option("--user", &self.user);
                arguments.add([image.as_str()]);
                arguments.some(&self.cmd);
            }
            "Start" => arguments.add(["start", self.require("container", container)?]),
            "Stop" => arguments.add(["stop", self.require("container", container)?]),
            "Rm" => arguments.add(["rm", self.require("container", container)?]),
            "Logs" => arguments.add(["logs", self.require("container", container)?]),
            "Exec" => {
                self.require("container", container)?;
                self.require("cmd", &self.cmd)?;
                arguments.add(["exec"]);
                arguments.option("--user", &self.user);
                arguments.add([container.as_str(), &self.cmd]);
            }
            "Inspect" => {
                self.require("container or image", &format!("{container}{image}"))?;
                arguments.add(["inspect"]);
                arguments.some(container);
                arguments.some(image);
            }
            "Stats" => {
                arguments.add(["stats", "--no-stream"]);
                arguments.some(container);
            }
            "Pull" => arguments.add(["pull", self.require("image", image)?]),
            "Rmi" => arguments.add(["rmi", self.require("image", image)?]),
            "Images" => arguments.add(["images"]),
            "Ps" => arguments.add(["ps", "--all"]),
            other => {
                return Err(format!(
                    "Docker Action is set to unsupported value: {other}"
                ));
            }
        }
        Ok(arguments.0)
    }

    fn require<'a>(&self, parameter: &str, value: &'a str) -> Result<&'a str, String> {
        if value.is_empty() {
            let name = &self.name;
            return Err(format!("Action {name} requires parameter {parameter}"));
        }
        Ok(value)
    }
}

#[derive(Default)]
struct Arguments(Vec<String>);

impl Arguments {
    fn add<'a>(&mut self, more: impl IntoIterator<Item = &'a str>) {
        self.0.extend(more.into_iter().map(str::to_owned));
    }

    fn some(&mut self, value: &str) {
        if !value.is_empty() {
            self.add([value]);
        }
    }

    fn option(&mut self, name: &str, value: &str) {
        if !value.is_empty() {
            self.add([name, value]);
        }
    }
}

fn text(members: &Map<String, Value>, name: &str) -> Option<String> {
    match member(members, name) {
        None | Some(Value::Null) => Some(String::new()),
        Some(value) => one(value),
    }
}

fn one(value: &Value) -> Option<String> {
    let text = value.as_str().filter(|text| !text.contains('\0'));
    text.map(str::to_owned)
}

fn texts(value: &Value) -> Option<Vec<String>> {
    value.as_array()?.iter().map(one).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn arguments(inputs: &Value) -> Result<String, String> {
        let arguments = Action::read(inputs)?.arguments()?;
        Ok(arguments.join("|"))
    }

    #[test]
    fn actions_become_arguments_of_docker() {
        for (inputs, expected) in [
            (
                json!({"action": "Run", "image": "alpine:3", "container": "c", "cmd": "echo hi", "memory": "64m",
                    "cpuShares": "2", "publish": "80:80", "env": "A=$(id)", "user": "root", "volume": ["/a:/b", "/c:/d"]}),
                "run|-d|--volume|/a:/b|--volume|/c:/d|--name|c|--memory|64m|--cpu-shares|2|--publish|80:80|--env|A=$(id)|--user|root|alpine:3|echo hi",
            ),
            (
                json!({"Action": "Create", "image": "alpine", "volume": [""]}),
                "create|alpine",
            ),
            (json!({"action": "Start", "container": "c"}), "start|c"),
            (json!({"action": "Stop", "container": "c"}), "stop|c"),
            (json!({"action": "Rm", "container": "c"}), "rm|c"),
            (json!({"action": "Logs", "container": "c"}), "logs|c"),
            (
                json!({"action": "Exec", "container": "c", "cmd": "ls", "user": "u"}),
                "exec|--user|u|c|ls",
            ),
            (json!({"action": "Inspect", "image": "i"}), "inspect|i"),
            (json!({"action": "Stats"}), "stats|--no-stream"),
            (
                json!({"action": "Pull", "image": "reg/i:1"}),
                "pull|reg/i:1",
            ),
            (json!({"action": "Rmi", "image": "i"}), "rmi|i"),
            (json!({"action": "Images"}), "images"),
            (json!({"action": "Ps"}), "ps|--all"),
        ] {
            assert_eq!(arguments(&inputs).unwrap(), expected);
        }
    }

    #[test]
    fn what_is_missing_or_not_allowed_is_told() {
        for (inputs, expected) in [
            (
                json!({"action": "Run"}),
                "Action Run requires parameter image",
            ),
            (
                json!({"action": "Exec", "container": "c"}),
                "Action Exec requires parameter cmd",
            ),
            (
                json!({"action": "Inspect"}),
                "Action Inspect requires parameter container or image",
            ),
            (
                json!({"action": "Push"}),
                "Docker Action is set to unsupported value: Push",
            ),
            (
                json!({"action": "Start", "container": "c; rm"}),
                "Validation error, Invalid container name, only [a-zA-Z0-9_-\\/] are allowed",
            ),
            (
                json!({"action": "Pull", "image": "a b"}),
                "Validation error, Invalid image value, only [a-zA-Z0-9.:_-\\/] are allowed",
            ),
            (
                json!({"action": "Run", "image": "a", "user": "a:b"}),
                "Validation error, Invalid user value",
            ),
            (
                json!({"action": "Run", "image": "a", "volume": ["/a", "$(x)"]}),
                "Validation error, Invalid volume",
            ),
            (
                json!({"action": "Run", "image": "a", "cpuShares": "1.5"}),
                "Validation error, Invalid CpuShares value, only integars are allowed",
            ),
            (
                json!({"action": "Run", "image": "a", "memory": "1G"}),
                "Validation error, Invalid Memory value",
            ),
            (
                json!({"action": "Run", "image": "a", "publish": "80 81"}),
                "Validation error, Invalid Publish value",
            ),
            (
                json!({"action": "Run", "image": "a", "env": "A=1;B=2"}),
                "Validation error, Invalid environment variable value",
            ),
            (
                json!({"action": "Run", "image": "a", "cmd": "a | b"}),
                "Validation error, Invalid command value",
            ),
            (
                json!({"action": "Rm", "container": "-f"}),
                "Validation error, Invalid name, it begins with a hyphen",
            ),
        ] {
            assert_eq!(arguments(&inputs).unwrap_err(), expected);
        }
        for inputs in [
            json!("x"),
            json!({"action": 1}),
            json!({"action": "Run", "volume": "/a"}),
        ] {
            let error = arguments(&inputs).unwrap_err();
            assert!(
                error.starts_with("Invalid format in plugin properties"),
                "{error}"
            );
        }
    }

    #[test]
    fn folder_and_time_are_those_of_the_process() {
        let inputs = json!({"action": "Ps", "WorkingDirectory": "/tmp", "timeoutSeconds": "60", "env": "A=1"});

        let process = Action::read(&inputs).unwrap().process();

        assert_eq!(
            process,
            json!({"workingDirectory": "/tmp", "timeoutSeconds": "60", "id": ""})
        );
    }
}

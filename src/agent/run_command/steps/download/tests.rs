mod git;
mod sources;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use super::*;
use crate::agent::audit::AuditLog;
use crate::agent::run_command::Services;
use crate::agent::run_command::settings::Settings;
use crate::agent::run_command::steps::{self, Begun};
use crate::aws::tests::server::{Reply, Seen, TestServer};
use crate::protocol::wire::command::Status;
use crate::protocol::wire::job::CommandId;

/// A command on a host, and a server for everything that it asks for.
struct World {
    root: tempfile::TempDir,
    settings: Settings,
    services: Services,
    command: CommandId,
    folder: PathBuf,
    server: TestServer,
}

impl World {
    async fn new(answer: impl Fn(&Seen) -> Reply + Send + Sync + 'static) -> Self {
        let server = TestServer::start(move |_, seen| answer(seen)).await;
        let root = tempfile::tempdir().unwrap();
        let settings = Settings {
            github: format!("http://{}", server.address),
            ..Settings::new(root.path().join("mi-1"), "mi-1")
        };
        // Its own for each test: what is killed is found by it.
        let command = CommandId::new(uuid::Uuid::new_v4().to_string()).unwrap();
        let folder = settings.orchestration().join(command.as_str());
        Self {
            root,
            settings,
            services: Services {
                parameters: None,
                client: Some(server.client()),
                audit: AuditLog::off(),
            },
            command,
            folder,
            server,
        }
    }

    fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.server.address)
    }

    fn task<'a>(&'a self, plugin: &'a str, properties: &'a Value, begun: Begun) -> Task<'a> {
        Task {
            settings: &self.settings,
            services: &self.services,
            command: &self.command,
            folder: &self.folder,
            boot_id: "boot",
            within: "",
            depth: 0,
            plugin,
            id: "load",
            properties,
            begun,
        }
    }

    async fn run(&self, properties: Value) -> Ended {
        let task = self.task("aws:downloadContent", &properties, Begun::No);
        steps::run(task, &CancellationToken::new()).await
    }

    /// Downloads, and has the destination as text.
    async fn download(&self, source: &str, info: Value, to: &str) -> Result<String, String> {
        let properties = json!({
            "sourceType": source, "sourceInfo": info, "destinationPath": to,
        });
        let ended = self.run(properties).await;
        match ended.status {
            Status::Success => {
                let place = ended.output.strip_prefix("Content downloaded to ").unwrap();
                Ok(place.to_owned())
            }
            _ => {
                assert_eq!((ended.status, ended.code), (Status::Failed, 1));
                Err(ended.error_output)
            }
        }
    }

    fn downloads(&self) -> PathBuf {
        self.folder.join("downloads")
    }
}

/// What is below a folder: paths and contents.
fn files(root: &Path) -> Vec<(String, String)> {
    let mut found = Vec::new();
    let mut ahead = vec![root.to_owned()];
    while let Some(folder) = ahead.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                ahead.push(path);
            } else {
                let name = path.strip_prefix(root).unwrap().display().to_string();
                found.push((name, fs::read_to_string(path).unwrap()));
            }
        }
    }
    found.sort();
    found
}

fn listed(files: &[(String, String)]) -> Vec<(&str, &str)> {
    let files = files.iter();
    files
        .map(|(name, content)| (name.as_str(), content.as_str()))
        .collect()
}

#[tokio::test]
async fn inputs_that_make_no_sense_say_so_and_repeat_no_password() {
    let world = World::new(|_| Reply(404, vec![], String::new())).await;
    let secret = json!({"password": "hidden", "url": 7});
    for (inputs, text) in [
        (json!({}), "invalid input: SourceType must be specified"),
        (
            json!({"sourceType": "FTP", "sourceInfo": secret}),
            "invalid input: Unsupported source type",
        ),
        (
            json!({"sourceType": "HTTP"}),
            "invalid input: SourceInfo must be specified",
        ),
        (
            json!({"sourceType": "HTTP", "sourceInfo": ""}),
            "invalid input: SourceInfo must be specified",
        ),
        (
            json!({"sourceType": "HTTP", "sourceInfo": "hidden"}),
            "Invalid format in plugin properties;\nerror sourceInfo must be an object, or the JSON text of one",
        ),
        (
            json!({"sourceType": "HTTP", "sourceInfo": secret}),
            "Invalid format in plugin properties;\nerror sourceInfo.url must be a string",
        ),
        (
            json!({"sourceType": "S3", "sourceInfo": {"path": "x"}, "destinationPath": "../x"}),
            "\"../x\" would leave the destination folder",
        ),
        (
            json!({"sourceType": "S3", "sourceInfo": {}}),
            "S3 source path in SourceInfo must be specified",
        ),
        (
            json!({"sourceType": "S3", "sourceInfo": {"path": "https://example.com/x"}}),
            "invalid S3 path parameter",
        ),
    ] {
        let ended = world.run(inputs.clone()).await;
        assert_eq!(ended.error_output, text, "{inputs}");
        assert_eq!((ended.status, ended.code), (Status::Failed, 1));
    }
    assert!(world.server.seen().is_empty());
}

#[tokio::test]
async fn output_is_in_files_as_that_of_scripts() {
    let world = World::new(|_| Reply(200, vec![], "x".into())).await;
    let inputs = json!({
        "SourceType": "HTTP", "destinationpath": "f",
        "sourceInfo": {"url": world.url("/"), "allowInsecureDownload": true},
    });

    let ended = world.run(inputs).await;

    let streams = ended.streams.unwrap();
    assert_eq!(streams.folder, world.folder.join("awsdownloadContent/load"));
    let written = fs::read_to_string(streams.output()).unwrap();
    let place = world.downloads().join("f");
    assert_eq!(
        written,
        format!("Content downloaded to {}", place.display())
    );
    assert_eq!(fs::read_to_string(streams.error_output()).unwrap(), "");
    let mode = fs::metadata(&place).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode, 0o700);
}

#[tokio::test]
async fn script_after_a_download_runs_where_it_is() {
    let world = World::new(|_| Reply(200, vec![], "echo \"I am $0 in $(pwd)\"\n".into())).await;
    let info = json!({"url": world.url("/"), "allowInsecureDownload": "true"});
    world.download("HTTP", info.clone(), "hi.sh").await.unwrap();
    world.download("HTTP", info, "deep/er/hi.sh").await.unwrap();
    let downloads = world.downloads().display().to_string();

    for (directory, place) in [("", ""), ("deep/er", "/deep/er"), ("./deep/", "/deep/")] {
        let inputs = json!({"runCommand": ["pwd"], "workingDirectory": directory});
        let task = world.task("aws:runShellScript", &inputs, Begun::No);
        let ended = steps::run(task, &CancellationToken::new()).await;
        let expected = format!("{downloads}{}\n", place.trim_end_matches('/'));
        assert!(ended.output.ends_with(&expected), "{}", ended.output);
    }
    let inputs = json!({"runCommand": ["./hi.sh"]});
    let task = world.task("aws:runShellScript", &inputs, Begun::No);
    let ended = steps::run(task, &CancellationToken::new()).await;
    let expected = format!("I am ./hi.sh in {downloads}\n");
    assert!(ended.output.ends_with(&expected), "{}", ended.output);
}

#[tokio::test]
async fn nothing_is_asked_for_once_a_command_is_cancelled() {
    let world = World::new(|_| Reply(200, vec![], "x".into())).await;
    let inputs = json!({"sourceType": "S3", "sourceInfo": {"path": world.url("/b/k")}});
    let cancel = CancellationToken::new();
    cancel.cancel();

    let task = world.task("aws:downloadContent", &inputs, Begun::No);
    let ended = steps::run(task, &cancel).await;

    assert_eq!(ended.status, Status::Cancelled);
    assert!(world.server.seen().is_empty());
}

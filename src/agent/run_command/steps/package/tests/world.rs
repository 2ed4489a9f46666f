//! A host whose packages come from a service of its own.

use std::collections::BTreeMap;
use std::fs;
use std::io::{Cursor, Write as _};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use aws_lc_rs::digest::{SHA256, digest};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use zip::ZipWriter;
use zip::write::SimpleFileOptions;

use super::super::repository::{Repository, hex};
use super::super::state::State;
use super::super::{Begun, Ended, Task, run};
use crate::agent::audit::AuditLog;
use crate::agent::run_command::Services;
use crate::agent::run_command::settings::Settings;
use crate::aws::tests::server::{Reply, Seen, TestServer};
use crate::aws::{Client, StaticCredentials};
use crate::protocol::wire::job::CommandId;

const PLUGIN: &str = "aws:configurePackage";

/// A version of the package `P`: its manifest and its archive.
#[derive(Clone)]
pub(super) struct Version {
    pub(super) manifest: String,
    pub(super) archive: Vec<u8>,
}

/// The versions that the service has, by name; the empty name is the newest.
type Shelf = Arc<Mutex<BTreeMap<String, Version>>>;

/// A host with its service.
pub(super) struct World {
    pub(super) root: tempfile::TempDir,
    pub(super) settings: Settings,
    pub(super) services: Services,
    pub(super) server: TestServer,
    pub(super) files: SocketAddr,
    pub(super) shelf: Shelf,
    pub(super) command: CommandId,
    _tasks: JoinSet<()>,
}

impl World {
    pub(super) async fn new() -> Self {
        let root = tempfile::tempdir().unwrap();
        let shelf = Shelf::default();
        let (files, tasks) = serve_files(Arc::clone(&shelf)).await;
        let offered = Arc::clone(&shelf);
        let server = TestServer::start(move |_, seen| answer(&offered, files, seen)).await;
        let endpoints = server.endpoints();
        let endpoints = endpoints.with_s3(&format!("http://{files}")).unwrap();
        let credentials = Arc::new(StaticCredentials::new("AKID", "secret", None));
        let services = Services {
            parameters: None,
            client: Some(Client::new(endpoints, server.tls(), credentials)),
            audit: AuditLog::off(),
        };
        Self {
            settings: Settings::new(root.path().join("mi-1"), "mi-1"),
            root,
            services,
            server,
            files,
            shelf,
            command: CommandId::new(uuid::Uuid::new_v4().to_string()).unwrap(),
            _tasks: tasks,
        }
    }

    /// Offers a version with these scripts; returns it.
    pub(super) fn offer(&self, version: &str, scripts: &[(&str, &str)]) -> Version {
        let mut zip = ZipWriter::new(Cursor::new(Vec::new()));
        for (name, text) in scripts {
            zip.start_file(*name, SimpleFileOptions::default()).unwrap();
            zip.write_all(text.as_bytes()).unwrap();
        }
        let archive = zip.finish().unwrap().into_inner();
        let manifest = json!({
            "schemaVersion": "2.0", "version": version,
            "packages": {"_any": {"_any": {"_any": {"file": "p.zip"}}}},
            "files": {"p.zip": {
                "checksums": {"sha256": hex(digest(&SHA256, &archive).as_ref())},
                "size": archive.len(),
            }},
        });
        let offered = Version {
            manifest: manifest.to_string(),
            archive,
        };
        self.place(version, offered.clone());
        offered
    }

    pub(super) fn place(&self, version: &str, offered: Version) {
        let mut shelf = self.shelf.lock().unwrap();
        shelf.insert(version.into(), offered.clone());
        shelf.insert(String::new(), offered);
    }

    pub(super) async fn run(&self, properties: Value) -> Ended {
        // Each is a command of its own.
        let folder = self.root.path().join(uuid::Uuid::new_v4().to_string());
        let cancel = CancellationToken::new();
        run(self.task(&folder, &properties, Begun::No), &cancel).await
    }

    pub(super) async fn install(&self, version: &str) -> Ended {
        self.run(json!({"name": "P", "action": "Install", "version": version}))
            .await
    }

    pub(super) async fn uninstall(&self) -> Ended {
        self.run(json!({"name": "P", "action": "Uninstall"})).await
    }

    pub(super) fn task<'a>(
        &'a self,
        folder: &'a Path,
        properties: &'a Value,
        begun: Begun,
    ) -> Task<'a> {
        Task {
            settings: &self.settings,
            services: &self.services,
            command: &self.command,
            boot_id: "boot",
            within: "",
            depth: 0,
            folder,
            plugin: PLUGIN,
            id: "step",
            properties,
            begun,
        }
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.root.path().join(name)
    }

    pub(super) fn state(&self) -> (State, String) {
        let state = Repository::new(self.root.path()).state("P");
        (state.state, state.version)
    }

    /// What the service was told, as result and version.
    pub(super) fn told(&self) -> Vec<(i64, String)> {
        let seen = self.server.seen();
        let results = seen
            .iter()
            .filter(|seen| seen.operation() == "PutConfigurePackageResult");
        results
            .map(|seen| {
                let json = seen.json();
                let version = json["PackageVersion"].as_str().unwrap().to_owned();
                (json["Result"].as_i64().unwrap(), version)
            })
            .collect()
    }
}

/// Answers as the service of documents does.
fn answer(shelf: &Shelf, files: SocketAddr, seen: &Seen) -> Reply {
    let asked = seen.json();
    let version = asked["VersionName"].as_str().unwrap_or_default();
    let shelf = shelf.lock().unwrap();
    let Some(found) = shelf.get(version) else {
        return Reply::refusal("InvalidDocumentVersion");
    };
    match seen.operation() {
        "GetManifest" => Reply::refusal("ResourceNotFoundException"),
        "DescribeDocument" => Reply::json(r#"{"Document": {"Status": "Active"}}"#),
        "GetDocument" => {
            let manifest: Value = serde_json::from_str(&found.manifest).unwrap();
            let named = manifest["version"].as_str().unwrap();
            Reply::json(
                &json!({
                    "Name": "P", "DocumentVersion": named, "Status": "Active", "Content": found.manifest,
                    "AttachmentsContent": [{"Name": "p.zip", "Url": format!("http://{files}/bucket/{named}")}],
                })
                .to_string(),
            )
        }
        "PutConfigurePackageResult" => Reply::json("{}"),
        _ => Reply::refusal("UnknownOperationException"),
    }
}

/// Serves the archives as a bucket, each connection one request.
async fn serve_files(shelf: Shelf) -> (SocketAddr, JoinSet<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let mut tasks = JoinSet::new();
    tasks.spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                head.push(stream.read_u8().await.unwrap());
            }
            let head = String::from_utf8(head).unwrap();
            let path = head.split(' ').nth(1).unwrap();
            let version = path.rsplit('/').next().unwrap();
            let body = {
                let shelf = shelf.lock().unwrap();
                let found = shelf.get(version).filter(|_| !version.is_empty());
                found.map(|found| found.archive.clone()).unwrap_or_default()
            };
            let answer = format!(
                "HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: {}\r\n\r\n",
                body.len()
            );
            stream.write_all(answer.as_bytes()).await.unwrap();
            if head.starts_with("GET") {
                stream.write_all(&body).await.unwrap();
            }
        }
    });
    (address, tasks)
}

pub(super) async fn until(is_so: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while !is_so() {
        assert!(Instant::now() < deadline, "it never became so");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Ends the process group of the install script, as the end of the host does.
pub(super) fn kill_script(folder: &Path) {
    let pid = folder.join("step/2.0/install/2.0/pid");
    let pid = fs::read_to_string(pid).unwrap().trim().parse().unwrap();
    let group = nix::unistd::Pid::from_raw(pid);
    nix::sys::signal::killpg(group, nix::sys::signal::Signal::SIGKILL).unwrap();
}

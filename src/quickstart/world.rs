//! A gateway and an agent registered with it, in this process and a temporary folder.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use anyhow::{Context as _, anyhow};
use serde_json::json;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use url::Url;
use uuid::Uuid;

use crate::agent::identity::{Vault, registration};
use crate::agent::session::Roster;
use crate::agent::{carrier, config, daemon, local_api, setup};
use crate::aws::{Activation, Client, Endpoints, Secret, StaticCredentials};
use crate::gateway::{self, Running};
use crate::runtime::{atomic_file, lifecycle, tls};

/// The region that signatures are made for; the gateway has none of its own.
const REGION: &str = "us-east-1";
/// Name on the key pair, and so the session's owner.
const PERSON: &str = "quickstart";
/// How long the agent may take until it is connected.
const CONNECT_PATIENCE: Duration = Duration::from_secs(10);
/// How often it is looked whether it is.
const LOOK: Duration = Duration::from_millis(2);
/// How long gateway and agent may take to end.
const STOP_PATIENCE: Duration = Duration::from_secs(5);
/// Life of the activation that the agent registers with at once.
const ACTIVATION_LIFE: Duration = Duration::from_secs(60);

/// A gateway and an agent that is connected to it.
pub(super) struct World {
    folder: Folder,
    gateway: Running,
    client: Client,
    node_id: String,
    key: (String, Secret),
    tasks: TaskTracker,
    cancel: CancellationToken,
    agent_cancel: CancellationToken,
}

impl World {
    /// Starts both; `program` takes the login step.
    pub(super) async fn start(program: PathBuf) -> anyhow::Result<Self> {
        let folder = Folder::create()?;
        let (cancel, agent_cancel) = (CancellationToken::new(), CancellationToken::new());
        let tasks = TaskTracker::new();
        let settings = gateway::Settings::on_loopback(folder.path.join("gateway"));
        let (gateway, serving) = gateway::start(settings, cancel.clone()).await?;
        tasks.spawn(serving);

        let ca = gateway
            .ca_pem
            .clone()
            .context("the gateway has no certificate of its own")?;
        fs::write(folder.ca(), &ca)?;
        let key = gateway.create_access(PERSON).await?;
        let key = (key.access_key_id, Secret::new(key.secret.expose()));
        let credentials = StaticCredentials::new(&key.0, key.1.expose(), None);
        let endpoints = endpoints(&gateway.url)?;
        let client = Client::new(
            endpoints,
            tls::client_config_with(&ca)?,
            Arc::new(credentials),
        );

        let settings = folder.write_agent_config(&gateway.url)?;
        let node_id = register(&gateway, &settings, &folder.state()).await?;
        let start = daemon::Start {
            settings,
            socket: folder.path.join("run").join(local_api::SOCKET),
            places: carrier::Places {
                state: folder.state(),
                logs: folder.logs(),
                program,
            },
            keepers: None,
            own: Roster::default(),
        };
        let agent = tasks.spawn(daemon::run(start, agent_cancel.clone()));
        let connected = async {
            while !gateway.is_connected(&node_id) && !agent.is_finished() {
                sleep(LOOK).await;
            }
        };
        timeout(CONNECT_PATIENCE, connected)
            .await
            .context("the agent did not connect")?;
        if agent.is_finished() {
            agent.await??;
            return Err(anyhow!("the agent ended at once"));
        }
        Ok(Self {
            folder,
            gateway,
            client,
            node_id,
            key,
            tasks,
            cancel,
            agent_cancel,
        })
    }

    /// Where the gateway listens.
    pub(super) fn url(&self) -> &Url {
        &self.gateway.url
    }

    /// The agent's node.
    pub(super) fn node_id(&self) -> &str {
        &self.node_id
    }

    /// Calls the gateway's API as a person.
    pub(super) fn client(&self) -> &Client {
        &self.client
    }

    /// The temporary folder.
    pub(super) fn folder(&self) -> &Path {
        &self.folder.path
    }

    /// The recordings made so far.
    pub(super) fn recordings(&self) -> Vec<PathBuf> {
        let entries = fs::read_dir(self.folder.recordings()).into_iter().flatten();
        let mut paths: Vec<PathBuf> = entries
            .filter_map(|entry| Some(entry.ok()?.path()))
            .collect();
        paths.sort();
        paths
    }

    /// Keeps the recordings when everything else goes; returns where they are.
    pub(super) fn recordings_moved_out(&self) -> anyhow::Result<Vec<PathBuf>> {
        let recordings = self.recordings();
        if recordings.is_empty() {
            return Ok(recordings);
        }
        let kept = self.folder.path.with_extension("recordings");
        atomic_file::create_private_dir(&kept)?;
        let mut moved = Vec::new();
        for from in recordings {
            let Some(name) = from.file_name() else {
                continue;
            };
            let to = kept.join(name);
            fs::rename(&from, &to).with_context(|| format!("cannot keep {}", from.display()))?;
            moved.push(to);
        }
        Ok(moved)
    }

    /// Prints what a second terminal needs to use this gateway with the AWS CLI.
    pub(super) fn print_how_to_use(&self) {
        let plugin = std::env::current_exe().ok();
        let programs = plugin
            .as_deref()
            .and_then(Path::parent)
            .unwrap_or(Path::new("."));
        let ca = self.folder.ca();
        println!(
            "\nThe gateway stays up; ^C ends it. In a second terminal:\n\n\
             cargo build --release --bins\n\
             export PATH={programs}:$PATH\n\
             export AWS_ACCESS_KEY_ID={key} AWS_SECRET_ACCESS_KEY={secret} AWS_DEFAULT_REGION={REGION}\n\
             export AWS_CA_BUNDLE={ca} SSL_CERT_FILE={ca}\n\
             aws ssm describe-instance-information --endpoint-url {url}\n\
             aws ssm start-session --target {node} --endpoint-url {url}",
            programs = programs.display(),
            key = self.key.0,
            secret = self.key.1.expose(),
            ca = ca.display(),
            url = self.gateway.url.as_str().trim_end_matches('/'),
            node = self.node_id,
        );
    }

    /// Ends the agent, then the gateway.
    pub(super) async fn stop(self) {
        self.agent_cancel.cancel();
        let gone = async {
            while self.gateway.is_connected(&self.node_id) {
                sleep(LOOK).await;
            }
        };
        let _ = timeout(STOP_PATIENCE, gone).await;
        self.cancel.cancel();
        lifecycle::drain("quickstart", &self.tasks, STOP_PATIENCE).await;
    }
}

fn endpoints(url: &Url) -> anyhow::Result<Endpoints> {
    let endpoints = Endpoints::for_region(REGION, None)?;
    Ok(endpoints
        .with_ssm(url.as_str())?
        .with_messages(url.as_str())?)
}

/// Registers the agent with an activation for one node.
async fn register(
    gateway: &Running,
    settings: &config::Settings,
    state: &Path,
) -> anyhow::Result<String> {
    let issued = gateway
        .create_activation(gateway::store::activations::NewActivation {
            description: None,
            default_instance_name: Some(PERSON.into()),
            iam_role: PERSON.into(),
            registration_limit: 1,
            expires: SystemTime::now() + ACTIVATION_LIFE,
            tags: Vec::new(),
        })
        .await?;
    let request = registration::Request {
        activation: Activation {
            code: Secret::new(issued.code.expose()),
            id: issued.activation_id,
        },
        region: REGION.into(),
        disable_similarity_check: true,
    };
    let vault = Vault::new(state);
    let tls = setup::tls(settings)?;
    let registered =
        registration::register(&vault, &setup::overrides(settings), tls, &request).await?;
    Ok(registered.node_id)
}

/// The temporary folder; it goes when this is dropped, with the keys in it.
struct Folder {
    path: PathBuf,
}

impl Folder {
    fn create() -> anyhow::Result<Self> {
        let name = format!("ssm-agent-quickstart-{}", Uuid::new_v4().simple());
        let path = std::env::temp_dir().join(name);
        atomic_file::create_private_dir(&path)
            .with_context(|| format!("cannot create {}", path.display()))?;
        Ok(Self { path })
    }

    fn ca(&self) -> PathBuf {
        self.path.join("ca.pem")
    }

    fn state(&self) -> PathBuf {
        self.path.join("agent")
    }

    fn logs(&self) -> PathBuf {
        self.path.join("log")
    }

    fn recordings(&self) -> PathBuf {
        self.logs().join("sessions")
    }

    /// The agent's configuration: this gateway, nothing written outside the folder, and sessions of
    /// whoever started the quick start, root too, so that no user is made on the host.
    fn write_agent_config(&self, url: &Url) -> anyhow::Result<config::Settings> {
        let path = self.path.join("amazon-ssm-agent.json");
        let config = json!({
            "Profile": {"ShareCreds": false},
            "Ssm": {"Endpoint": url.as_str()},
            "Mgs": {"Endpoint": url.as_str()},
            "Mds": {"Endpoint": url.as_str()},
            "Identity": {"ConsumptionOrder": ["OnPrem"]},
            "SsmAgent": {
                "CaFile": self.ca(),
                "Session": {"DefaultUser": "self"},
                "Transcript": {"Directory": self.recordings()},
            },
        });
        fs::write(&path, serde_json::to_vec_pretty(&config)?)?;
        let (settings, _) = config::load(&path)?;
        Ok(settings)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // What cannot be removed is a temporary folder that only its owner can read.
        let _ = fs::remove_dir_all(&self.path);
    }
}

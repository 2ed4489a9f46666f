//! A gateway and an agent as processes of their own, each with its own temporary folder.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use nix::sys::signal::{self, Signal};
use serde_json::{Value, json};
use ssm_agent::aws::{Client, Credentials, Endpoints, StaticCredentials};
use ssm_agent::runtime::tls;
use tempfile::TempDir;

/// Longest wait for anything that takes milliseconds on an idle machine.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// What the programs say besides what is measured or checked.
const LOG_LEVEL: &str = "warn";
const ANY_PORT: &str = "127.0.0.1:0";
/// How often it is looked whether something has happened.
pub const LOOK: Duration = Duration::from_millis(5);

/// A running gateway, and the folder of an agent for it.
pub struct World {
    pub folder: TempDir,
    pub url: String,
    /// The same endpoint without TLS.
    pub plain_url: String,
    pub client: Client,
    pub credentials: Credentials,
    gateway: Child,
    agent: Option<Child>,
    /// The folder that a service manager makes for what outlives a restart of the agent.
    pub runtime: Option<PathBuf>,
    /// Where the agent finds instance metadata, if it is an instance.
    metadata: Option<String>,
}

impl World {
    pub fn start() -> Self {
        Self::start_on(ANY_PORT)
    }

    /// A gateway that is reached over TLS at `address`.
    pub fn start_on(address: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let state = folder.path().join("gateway");
        let (gateway, [url, plain_url]) = serve(&state, address, ANY_PORT);
        let created = Command::new(env!("CARGO_BIN_EXE_ssm-gateway"))
            .args(["access", "create", "tester", "--json", "--state"])
            .arg(&state)
            .output()
            .unwrap();
        let key: Value = serde_json::from_slice(&created.stdout).unwrap();
        let ca = fs::read(state.join("ca.pem")).unwrap();
        let endpoints = Endpoints::for_region("us-east-1", None).unwrap();
        let endpoints = endpoints
            .with_ssm(&url)
            .unwrap()
            .with_messages(&url)
            .unwrap();
        let text = |name: &str| key[name].as_str().unwrap().to_owned();
        let (id, secret) = (text("AccessKeyId"), text("SecretAccessKey"));
        let credentials = Credentials::new(&id, &secret, None, None, "test");
        let source = StaticCredentials::new(&id, &secret, None);
        let tls = tls::client_config_with(&ca).unwrap();
        let client = Client::new(endpoints, tls, Arc::new(source));
        let world = Self {
            folder,
            url,
            plain_url,
            client,
            credentials,
            gateway,
            agent: None,
            runtime: None,
            metadata: None,
        };
        world.write_config();
        world
    }

    /// A gateway, and an agent that is registered and connected. Returns the agent's node too.
    pub async fn with_agent() -> (Self, String) {
        let mut world = Self::start();
        let node = world.register().await;
        world.start_agent();
        world.wait_connected(&node).await;
        (world, node)
    }

    /// The same with an agent whose sessions outlive it.
    pub async fn with_keeping_agent() -> (Self, String) {
        let mut world = Self::start();
        world.runtime = Some(world.folder.path().join("run"));
        let node = world.register().await;
        world.start_agent();
        world.wait_connected(&node).await;
        (world, node)
    }

    pub async fn activation(&self) -> (String, String) {
        let request = json!({"IamRole": "any", "RegistrationLimit": 1});
        let made: Value = self.client.ssm("CreateActivation", &request).await.unwrap();
        let text = |name: &str| made[name].as_str().unwrap().to_owned();
        (text("ActivationId"), text("ActivationCode"))
    }

    pub async fn register(&self) -> String {
        let (id, code) = self.activation().await;
        self.register_with(&id, &code)
    }

    /// Registers the agent with an activation; returns its node.
    pub fn register_with(&self, id: &str, code: &str) -> String {
        let output = self.try_register(id, code);
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
        text.trim().rsplit(' ').next().unwrap().to_owned()
    }

    /// Registers with the reference's flags.
    pub fn try_register(&self, id: &str, code: &str) -> Output {
        let flags = [
            "-register",
            "-code",
            code,
            "-id",
            id,
            "-region",
            "us-east-1",
            "-y",
        ];
        self.agent_command().args(flags).output().unwrap()
    }

    /// Makes the agent that of an EC2 instance, whose metadata are at `url`.
    pub fn become_instance(&mut self, url: &str) {
        self.metadata = Some(url.to_owned());
        self.configure(|config| config["Identity"] = json!({"ConsumptionOrder": ["EC2"]}));
    }

    pub fn start_agent(&mut self) {
        let agent = self.agent_command().stdin(Stdio::null()).spawn().unwrap();
        self.agent = Some(agent);
    }

    pub fn kill_agent(&mut self) {
        if let Some(mut agent) = self.agent.take() {
            agent.kill().unwrap();
            agent.wait().unwrap();
        }
    }

    /// Ends the agent as a service manager does.
    pub fn stop_agent(&mut self) {
        let Some(mut agent) = self.agent.take() else {
            return;
        };
        terminate(agent.id());
        agent.wait().unwrap();
    }

    /// Has the agent read its configuration again.
    pub fn reload_agent(&self) {
        let agent = self.agent.as_ref().unwrap();
        send_signal(agent.id(), Signal::SIGHUP);
    }

    /// The processes that carry sessions of this world.
    pub fn keepers(&self) -> Vec<u32> {
        let Some(runtime) = &self.runtime else {
            return Vec::new();
        };
        let marks = [
            "keep-sessions".to_owned(),
            self.config().display().to_string(),
        ];
        assert!(runtime.is_absolute());
        let processes = fs::read_dir("/proc").unwrap().filter_map(|entry| {
            let name = entry.ok()?.file_name();
            name.to_str()?.parse::<u32>().ok()
        });
        let is_keeper = |id: &u32| {
            let line = fs::read(format!("/proc/{id}/cmdline")).unwrap_or_default();
            let line = String::from_utf8_lossy(&line).into_owned();
            let mut arguments = line.split('\0');
            marks
                .iter()
                .all(|mark| arguments.any(|argument| argument == mark))
        };
        processes.filter(is_keeper).collect()
    }

    /// Ends the gateway.
    pub fn stop_gateway(&mut self) {
        self.gateway.kill().unwrap();
        self.gateway.wait().unwrap();
    }

    /// Ends the gateway, if it runs, and starts it again on the same port and state.
    pub fn restart_gateway(&mut self) {
        self.stop_gateway();
        let address = self.url.trim_start_matches("https://");
        let plain = self.plain_url.trim_start_matches("http://");
        let (gateway, _) = serve(&self.folder.path().join("gateway"), address, plain);
        self.gateway = gateway;
    }

    pub async fn wait_connected(&self, node: &str) {
        let request = json!({"Target": node});
        let deadline = Instant::now() + PATIENCE;
        loop {
            let answer = self
                .client
                .ssm::<_, Value>("GetConnectionStatus", &request)
                .await;
            if answer.is_ok_and(|answer| answer["Status"] == "connected") {
                return;
            }
            assert!(Instant::now() < deadline, "{node} is not connected");
            tokio::time::sleep(LOOK).await;
        }
    }

    pub async fn wait_disconnected(&self, node: &str) {
        let request = json!({"Target": node});
        let deadline = Instant::now() + PATIENCE;
        loop {
            let answer: Value = self
                .client
                .ssm("GetConnectionStatus", &request)
                .await
                .unwrap();
            if answer["Status"] != "connected" {
                return;
            }
            assert!(Instant::now() < deadline, "{node} is still connected");
            tokio::time::sleep(LOOK).await;
        }
    }

    /// The agent's share of memory (PSS), in bytes.
    pub fn agent_memory(&self) -> u64 {
        let path = format!("/proc/{}/smaps_rollup", self.agent_id());
        let text = fs::read_to_string(path).unwrap();
        let line = text.lines().find(|line| line.starts_with("Pss:")).unwrap();
        let kib: u64 = line.split_whitespace().nth(1).unwrap().parse().unwrap();
        kib << 10
    }

    /// Processor time that the agent has used.
    pub fn agent_cpu(&self) -> Duration {
        let mut nanoseconds = 0;
        let tasks = fs::read_dir(format!("/proc/{}/task", self.agent_id())).unwrap();
        for task in tasks {
            let path = task.unwrap().path().join("schedstat");
            let text = fs::read_to_string(path).unwrap_or_default();
            let on_cpu = text.split_whitespace().next();
            nanoseconds += on_cpu.map_or(0, |text| text.parse::<u64>().unwrap());
        }
        Duration::from_nanos(nanoseconds)
    }

    /// How many descriptors the agent has.
    pub fn agent_descriptors(&self) -> usize {
        let folder = format!("/proc/{}/fd", self.agent_id());
        fs::read_dir(folder).unwrap().count()
    }

    /// How many processes the agent has started that are still there, or not waited for.
    pub fn agent_children(&self) -> usize {
        let tasks = fs::read_dir(format!("/proc/{}/task", self.agent_id())).unwrap();
        let children = tasks.filter_map(|task| {
            // A thread may end meanwhile.
            fs::read_to_string(task.unwrap().path().join("children")).ok()
        });
        children.map(|text| text.split_whitespace().count()).sum()
    }

    fn agent_id(&self) -> u32 {
        self.agent.as_ref().expect("the agent runs").id()
    }

    pub fn agent_command(&self) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_ssm-agent"));
        command.args(["--log-level", LOG_LEVEL]);
        self.add_places(&mut command);
        command
    }

    /// `ssm-cli` for the agent, without a command.
    pub fn cli_command(&self) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_ssm-cli"));
        self.add_places(&mut command);
        command
    }

    fn add_places(&self, command: &mut Command) {
        command
            .env("HOME", self.folder.path())
            .arg("--config")
            .arg(self.config())
            .arg("--state-dir")
            .arg(self.folder.path().join("agent"))
            .arg("--log-dir")
            .arg(self.folder.path().join("log"));
        if let Some(url) = &self.metadata {
            command.env("AWS_EC2_METADATA_SERVICE_ENDPOINT", url);
        }
        match &self.runtime {
            Some(folder) => command.env("RUNTIME_DIRECTORY", folder),
            None => command.env_remove("RUNTIME_DIRECTORY"),
        };
    }

    pub fn config(&self) -> PathBuf {
        self.folder.path().join("agent.json")
    }

    /// Changes the agent's configuration, for its next start.
    pub fn configure(&self, change: impl FnOnce(&mut Value)) {
        let mut config = serde_json::from_slice(&fs::read(self.config()).unwrap()).unwrap();
        change(&mut config);
        fs::write(self.config(), config.to_string()).unwrap();
    }

    fn write_config(&self) {
        let config = json!({
            "Profile": {"ShareCreds": false},
            "Ssm": {"Endpoint": self.url},
            "Mgs": {"Endpoint": self.url},
            "Mds": {"Endpoint": self.url},
            "Identity": {"ConsumptionOrder": ["OnPrem"]},
            "SsmAgent": {
                "CaFile": self.folder.path().join("gateway/ca.pem"),
                "Session": {"DefaultUser": "self"},
            },
        });
        fs::write(self.config(), config.to_string()).unwrap();
    }
}

impl Drop for World {
    fn drop(&mut self) {
        self.kill_agent();
        for keeper in self.keepers() {
            kill(keeper);
        }
        let _ = self.gateway.kill();
        let _ = self.gateway.wait();
    }
}

/// Starts a gateway; returns its URLs, with and without TLS.
fn serve(state: &Path, address: &str, plain: &str) -> (Child, [String; 2]) {
    let mut gateway = Command::new(env!("CARGO_BIN_EXE_ssm-gateway"))
        .args(["serve", "--log-level", LOG_LEVEL])
        .args(["--listen", address, "--plain-listen", plain, "--state"])
        .arg(state)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(gateway.stdout.take().unwrap()).lines();
    let urls = [(); 2].map(|()| {
        let line = lines
            .next()
            .expect("the gateway says where it listens")
            .unwrap();
        line.split_whitespace().last().unwrap().to_owned()
    });
    (gateway, urls)
}

pub fn kill(process: u32) {
    send_signal(process, Signal::SIGKILL);
}

pub fn terminate(process: u32) {
    send_signal(process, Signal::SIGTERM);
}

/// Sends a process a signal.
pub fn send_signal(process: u32, which: Signal) {
    let id = nix::unistd::Pid::from_raw(process.try_into().unwrap());
    // It may have ended by itself.
    let _ = signal::kill(id, which);
}

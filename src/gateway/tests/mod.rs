//! The gateway as its callers see it: over TLS, signed, in AWS's shapes.

mod agents;
mod caller;
mod commands;
mod documents;
mod mds;
mod packages;
mod parameters;
mod people;
mod recordings;

use serde_json::Value;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use super::*;
use caller::Tool;

/// A gateway on loopback with state of its own; gone with the value.
struct Gateway {
    running: Running,
    _serving: AbortOnDropHandle<()>,
    state: tempfile::TempDir,
}

async fn gateway() -> Gateway {
    gateway_with(|_| {}).await
}

/// A gateway with other settings.
async fn gateway_with(change: impl FnOnce(&mut Settings)) -> Gateway {
    let state = tempfile::tempdir().unwrap();
    let mut settings = Settings::on_loopback(state.path());
    change(&mut settings);
    let (running, serving) = start(settings, CancellationToken::new()).await.unwrap();
    Gateway {
        running,
        _serving: AbortOnDropHandle::new(tokio::spawn(serving)),
        state,
    }
}

impl Gateway {
    async fn person(&self, name: &str) -> Tool {
        let key = self.running.create_access(name).await.unwrap();
        Tool::new(&self.running, &key.access_key_id, key.secret.expose(), None)
    }
}

/// An activation made by `tool` with the members of `request`.
async fn activate(tool: &Tool, mut request: Value) -> (String, String) {
    request["IamRole"] = "role".into();
    let issued = tool.ssm("CreateActivation", request).await.unwrap();
    let text = |member: &str| issued[member].as_str().unwrap().to_owned();
    (text("ActivationId"), text("ActivationCode"))
}

//! Commands that somebody cancels before they have begun.

use std::sync::Arc;

use serde_json::json;
use tokio::sync::Semaphore;

use super::agent::{Agent, Store, id, left, new_settings, script, services};
use crate::agent::parameter_store::{Lookup, ParameterStore};
use crate::agent::run_command::Services;
use crate::protocol::wire::command::Status;
use crate::protocol::wire::job::JobAnswer;

/// Answers once somebody opens the gate.
#[derive(Debug)]
struct Gated(Arc<Semaphore>);

impl ParameterStore for Gated {
    fn get<'a>(&'a self, names: &'a [String]) -> Lookup<'a> {
        Box::pin(async move {
            let _opened = self.0.acquire().await.unwrap();
            Store.get(names).await
        })
    }
}

#[tokio::test]
async fn command_whose_parameters_are_looked_up_is_cancelled_and_never_runs() {
    let (folder, settings) = new_settings();
    let gate = Arc::new(Semaphore::new(0));
    let services = Services {
        parameters: Some(Arc::new(Gated(Arc::clone(&gate)))),
        ..services()
    };
    let mut agent = Agent::start_with(settings, services, false);
    let (command, other) = (id(), id());
    let proof = folder.path().join("proof");
    let line = format!("echo '{{{{ssm:name}}}}' >> {}", proof.display());
    agent.send_lines(&command, &[&line]).await;
    agent.send_lines(&other, &["echo '{{ssm:name}}'"]).await;

    agent.cancel_command(&command).await;

    assert_eq!(
        agent.answer().await,
        JobAnswer::Successful,
        "the cancellation"
    );
    assert_eq!(agent.answer().await, JobAnswer::Successful, "the command");
    let report = agent.ended(&command).await;
    assert_eq!(report.document_status, Status::Cancelled);
    assert_eq!(
        report.runtime_status,
        Some(std::collections::BTreeMap::new())
    );
    gate.add_permits(1);
    assert_eq!(agent.ended(&other).await.document_status, Status::Success);
    agent.send(&command, script(&[&line]), json!({})).await;
    assert_eq!(agent.answer().await, JobAnswer::DuplicateCommand);
    let settings = agent.stop().await;
    assert!(left(&settings.directory).len() <= 1);
    assert!(!proof.exists());
}

//! The sessions that run, for whoever wants to look: who has which, since when, as whom.

use std::collections::BTreeMap;
use std::future::pending;
use std::sync::Arc;
use std::time::SystemTime;

use tokio::sync::watch;

use crate::protocol::wire::SessionId;

/// The sessions that run. Clones show the same.
#[derive(Debug, Clone, Default)]
pub struct Roster(Arc<watch::Sender<BTreeMap<SessionId, Present>>>);

/// Sees that sessions come and go.
#[derive(Debug)]
pub struct Changes(watch::Receiver<BTreeMap<SessionId, Present>>);

/// One of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Present {
    /// What it does.
    pub kind: &'static str,
    /// Whose it is, as the service says.
    pub owner: String,
    /// Who it runs as on this host, once its process runs.
    pub user: Option<String>,
    /// Since when.
    pub since: SystemTime,
}

impl Changes {
    /// Waits for one; for ever if there can be none. Can be cancelled.
    pub async fn next(&mut self) {
        if self.0.changed().await.is_err() {
            pending::<()>().await;
        }
    }
}

impl Roster {
    /// The sessions, the oldest first.
    pub fn list(&self) -> Vec<(SessionId, Present)> {
        let mut sessions: Vec<_> = {
            let sessions = self.0.borrow();
            let entries = sessions.iter();
            entries
                .map(|(id, present)| (id.clone(), present.clone()))
                .collect()
        };
        sessions.sort_by_key(|(_, present)| present.since);
        sessions
    }

    /// Sees changes.
    pub fn subscribe(&self) -> Changes {
        Changes(self.0.subscribe())
    }

    /// A session starts.
    pub(super) fn enter(&self, id: &SessionId, present: Present) {
        self.0.send_modify(|sessions| {
            sessions.insert(id.clone(), present);
        });
    }

    /// Its process runs as `user`.
    pub(super) fn set_user(&self, id: &SessionId, user: &str) {
        self.0.send_modify(|sessions| {
            if let Some(present) = sessions.get_mut(id) {
                present.user = Some(user.to_owned());
            }
        });
    }

    /// It has ended.
    pub(super) fn leave(&self, id: &SessionId) {
        self.0.send_modify(|sessions| {
            sessions.remove(id);
        });
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn sessions_are_listed_from_their_start_to_their_end_oldest_first() {
        let roster = Roster::default();
        let (old, new) = (id("z-old"), id("a-new"));
        let present = |age: u64| Present {
            kind: "shell",
            owner: "alice".into(),
            user: None,
            since: SystemTime::UNIX_EPOCH + Duration::from_secs(100 - age),
        };

        roster.enter(&new, present(1));
        roster.enter(&old, present(9));
        roster.set_user(&old, "ssm-user");

        let listed = roster.clone().list();
        assert_eq!(
            listed.iter().map(|(id, _)| id).collect::<Vec<_>>(),
            [&old, &new]
        );
        assert_eq!(listed[0].1.user.as_deref(), Some("ssm-user"));
        roster.leave(&old);
        roster.set_user(&old, "late");
        assert_eq!(roster.list().len(), 1);
    }

    fn id(text: &str) -> SessionId {
        SessionId::new(text).unwrap()
    }
}

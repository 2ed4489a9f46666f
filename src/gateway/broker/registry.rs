//! Which node's agent is connected: one control channel per node, the newest wins.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{mpsc, watch};
use tokio::time::timeout;

/// Messages waiting for one control channel's task. Starts come in bursts; each is a few KiB.
const OUTBOUND_LIMIT: usize = 256;
/// How long a full queue may take to have room before the agent counts as not connected.
const OUTBOUND_WAIT: Duration = Duration::from_secs(5);

/// The way to the agent of one node, as long as its control channel stands.
#[derive(Clone)]
pub(super) struct ControlHandle {
    number: u64,
    outbound: mpsc::Sender<Bytes>,
    close: Arc<watch::Sender<Option<&'static str>>>,
}

impl ControlHandle {
    /// Sends a message, waiting for room. Returns whether it is on its way.
    pub(super) async fn send(&self, message: Bytes) -> bool {
        let sent = timeout(OUTBOUND_WAIT, self.outbound.send(message)).await;
        matches!(sent, Ok(Ok(())))
    }

    /// Sends a message if there is room now. Returns whether it is on its way.
    pub(super) fn try_send(&self, message: Bytes) -> bool {
        self.outbound.try_send(message).is_ok()
    }
}

/// The control channel's own side of a [`ControlHandle`].
pub(super) struct ControlEnd {
    number: u64,
    /// What has to be sent.
    pub(super) outbound: mpsc::Receiver<Bytes>,
    /// Why the channel has to be closed.
    pub(super) close: watch::Receiver<Option<&'static str>>,
}

/// Follows whether a node is connected.
pub(super) type NodeWatch = watch::Receiver<Option<ControlHandle>>;

/// See the module.
#[derive(Default)]
pub(super) struct Registry {
    next_number: AtomicU64,
    nodes: Mutex<HashMap<String, watch::Sender<Option<ControlHandle>>>>,
}

impl Registry {
    /// Enters a new control channel of `node_id`; an older one is told to close.
    pub(super) fn connect(&self, node_id: &str) -> ControlEnd {
        let number = self.next_number.fetch_add(1, Ordering::Relaxed);
        let (outbound, outbound_end) = mpsc::channel(OUTBOUND_LIMIT);
        let (close, close_end) = watch::channel(None);
        let handle = ControlHandle {
            number,
            outbound,
            close: Arc::new(close),
        };
        let older = self.with_node(node_id, |node| node.send_replace(Some(handle)));
        if let Some(older) = older {
            older
                .close
                .send_replace(Some("a newer connection took over"));
        }
        ControlEnd {
            number,
            outbound: outbound_end,
            close: close_end,
        }
    }

    /// Takes a control channel out that ended, unless a newer one has its place.
    pub(super) fn disconnect(&self, node_id: &str, end: &ControlEnd) {
        let is_this = |handle: &mut Option<ControlHandle>| {
            let is_this = handle.as_ref().is_some_and(|h| h.number == end.number);
            if is_this {
                *handle = None;
            }
            is_this
        };
        self.with_node(node_id, |node| node.send_if_modified(is_this));
    }

    /// Closes the control channel of `node_id`, if there is one.
    pub(super) fn close(&self, node_id: &str, reason: &'static str) {
        if let Some(handle) = self.with_node(node_id, |node| node.send_replace(None)) {
            handle.close.send_replace(Some(reason));
        }
    }

    /// The way to the agent of `node_id`, if it is connected.
    pub(super) fn handle(&self, node_id: &str) -> Option<ControlHandle> {
        let nodes = self.nodes.lock().unwrap_or_else(PoisonError::into_inner);
        nodes.get(node_id).and_then(|node| node.borrow().clone())
    }

    /// Follows `node_id`.
    pub(super) fn watch(&self, node_id: &str) -> NodeWatch {
        self.with_node(node_id, watch::Sender::subscribe)
    }

    /// Forgets nodes that are neither connected nor followed.
    pub(super) fn sweep(&self) {
        let mut nodes = self.nodes.lock().unwrap_or_else(PoisonError::into_inner);
        nodes.retain(|_, node| node.borrow().is_some() || node.receiver_count() > 0);
    }

    fn with_node<T>(
        &self,
        node_id: &str,
        f: impl FnOnce(&watch::Sender<Option<ControlHandle>>) -> T,
    ) -> T {
        let mut nodes = self.nodes.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(node) = nodes.get(node_id) {
            return f(node);
        }
        f(nodes
            .entry(node_id.to_owned())
            .or_insert_with(|| watch::channel(None).0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn newest_control_channel_wins_and_the_older_is_told_to_close() {
        let registry = Registry::default();
        let old = registry.connect("mi-1");
        let mut new = registry.connect("mi-1");

        assert!(old.close.borrow().is_some());
        assert!(new.close.borrow().is_none());
        assert!(registry.handle("mi-1").unwrap().try_send("x".into()));
        assert_eq!(new.outbound.try_recv().unwrap(), "x");
    }

    #[test]
    fn end_of_an_older_channel_leaves_the_newer_one_in_place() {
        let registry = Registry::default();
        let old = registry.connect("mi-1");
        let new = registry.connect("mi-1");

        registry.disconnect("mi-1", &old);
        assert!(registry.handle("mi-1").is_some());
        registry.disconnect("mi-1", &new);
        assert!(registry.handle("mi-1").is_none());
    }

    #[test]
    fn followers_see_a_node_come_and_go() {
        let registry = Registry::default();
        let mut node = registry.watch("mi-1");
        assert!(node.borrow_and_update().is_none());

        let end = registry.connect("mi-1");
        assert!(node.has_changed().unwrap() && node.borrow_and_update().is_some());
        registry.disconnect("mi-1", &end);
        assert!(node.has_changed().unwrap() && node.borrow_and_update().is_none());
    }

    #[test]
    fn sweep_forgets_nobody_who_is_connected_or_followed() {
        let registry = Registry::default();
        let _end = registry.connect("connected");
        let _watch = registry.watch("followed");
        drop(registry.watch("neither"));

        registry.sweep();

        let nodes = registry.nodes.lock().unwrap();
        let mut names: Vec<&str> = nodes.keys().map(String::as_str).collect();
        names.sort_unstable();
        assert_eq!(names, ["connected", "followed"]);
    }
}

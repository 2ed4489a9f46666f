//! The broker's settings and the reasons for their defaults.

use std::time::Duration;

use url::Url;

/// An agent that takes the start message opens its data channel within a second; the rest is for
/// slow hosts and one retry with back-off.
pub const DEFAULT_START_DEADLINE: Duration = Duration::from_secs(20);
/// Long enough for a laptop to change networks, short enough not to leave shells behind.
pub const DEFAULT_GRACE: Duration = Duration::from_secs(60);
/// A client uses its token at once; the rest is for a slow start of the plugin.
pub const DEFAULT_TOKEN_LIFETIME: Duration = Duration::from_secs(60);
/// An agent whose connections were all closed has most likely died; the client is told within 10 s.
pub const DEFAULT_AGENT_RETURN: Duration = Duration::from_secs(8);
/// An agent whose control channel stands dials its data channel again with back-off up to 30 s.
pub const DEFAULT_AGENT_RECONNECT: Duration = Duration::from_secs(35);

/// How the broker behaves.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Base of the stream URLs that clients get, `wss://host[:port]`.
    pub public_url: Url,
    /// How long an agent may take from the start message to its data channel.
    pub start_deadline: Duration,
    /// How long a session outlives its client's connection, and a silent end of its agent's.
    pub grace: Duration,
    /// How long a token is good for.
    pub token_lifetime: Duration,
    /// How long an agent may be gone whose data and control channel were closed.
    pub agent_return: Duration,
    /// How long an agent may be without data channel while its control channel stands.
    pub agent_reconnect: Duration,
}

impl Settings {
    /// The defaults, with stream URLs on `public_url`.
    pub fn new(public_url: Url) -> Self {
        Self {
            public_url,
            start_deadline: DEFAULT_START_DEADLINE,
            grace: DEFAULT_GRACE,
            token_lifetime: DEFAULT_TOKEN_LIFETIME,
            agent_return: DEFAULT_AGENT_RETURN,
            agent_reconnect: DEFAULT_AGENT_RECONNECT,
        }
    }

    /// Where agents call.
    pub(super) fn endpoint(&self) -> String {
        let url = self.public_url.as_str().trim_end_matches('/');
        url.replacen("ws", "http", 1)
    }

    /// The URL of a session's data channel.
    pub(super) fn stream_url(&self, session: &str) -> String {
        let base = self.public_url.as_str().trim_end_matches('/');
        format!("{base}/v1/data-channel/{session}?role=publish_subscribe")
    }
}

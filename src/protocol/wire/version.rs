//! Versions on the wire and the features that peers switch on them.

/// What our agent reports as its version on the wire (the product's own version differs). Plugins
/// compare it with four-part thresholds up to 3.1.1511.0 and treat other shapes as ancient.
pub const AGENT_WIRE_VERSION: &str = "3.3.4364.0";

/// What our client reports as its version. Above 1.2.331.0, where the agent leaves mux keep-alive
/// off, and above 1.2.497.0, where the AWS CLI hands the session response over in the environment.
pub const CLIENT_WIRE_VERSION: &str = "1.2.835.0";

/// A dotted version, compared as the reference does it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version(Vec<u64>);

impl Version {
    /// Reads numbers separated by dots; `None` if a part is no number.
    pub fn parse(text: &str) -> Option<Self> {
        let parts: Option<Vec<u64>> = text.split('.').map(|part| part.parse().ok()).collect();
        parts.map(Self)
    }

    fn parts(&self) -> usize {
        self.0.len()
    }
}

/// The gates an agent applies to the version of a client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClientGates {
    /// The client can speak smux for local port forwarding (1.1.70 or later).
    pub mux: bool,
    /// The client needs no smux keep-alive (later than 1.2.331.0).
    pub mux_keep_alive_off: bool,
}

impl ClientGates {
    /// Derives the gates. A longer version is greater when the prefix is equal; a version that does
    /// not parse is less than every other.
    pub fn of(client_version: &str) -> Self {
        let Some(version) = Version::parse(client_version) else {
            return Self {
                mux: false,
                mux_keep_alive_off: false,
            };
        };
        Self {
            mux: version >= Version(vec![1, 1, 70]),
            mux_keep_alive_off: version > Version(vec![1, 2, 331, 0]),
        }
    }
}

/// The gates a client applies to the version of an agent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AgentGates {
    /// The agent takes the terminate flag in basic forwarding (later than 2.3.722.0).
    pub terminate_flag: bool,
    /// The agent speaks smux (later than 3.0.196.0).
    pub mux: bool,
    /// The agent needs no smux keep-alive (later than 3.1.1511.0).
    pub mux_keep_alive_off: bool,
}

impl AgentGates {
    /// Derives the gates. Only four-part numeric versions count, as in the official plugin.
    pub fn of(agent_version: &str) -> Self {
        let version = Version::parse(agent_version).filter(|version| version.parts() == 4);
        let later_than = |threshold: [u64; 4]| {
            version
                .as_ref()
                .is_some_and(|version| version.0.as_slice() > threshold.as_slice())
        };
        Self {
            terminate_flag: later_than([2, 3, 722, 0]),
            mux: later_than([3, 0, 196, 0]),
            mux_keep_alive_off: later_than([3, 1, 1511, 0]),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_of_clients_switch_multiplexing_and_its_keep_alive() {
        for (version, mux, mux_keep_alive_off) in [
            ("", false, false),
            ("x", false, false),
            ("1.1.x", false, false),
            ("1.1.54.0", false, false),
            ("1.1.69", false, false),
            ("1.1.69.9", false, false),
            ("1.1.70", true, false),
            ("1.1.70.0", true, false),
            // The development build.
            ("1.2.0.0", true, false),
            ("1.2.331", true, false),
            ("1.2.331.0", true, false),
            ("1.2.331.0.1", true, true),
            ("1.2.331.1", true, true),
            ("2", true, true),
            (CLIENT_WIRE_VERSION, true, true),
        ] {
            let expected = ClientGates {
                mux,
                mux_keep_alive_off,
            };
            assert_eq!(ClientGates::of(version), expected, "{version}");
        }
    }

    #[test]
    fn versions_of_agents_switch_only_if_they_have_four_parts() {
        for (version, terminate_flag, mux, mux_keep_alive_off) in [
            ("", false, false, false),
            ("x", false, false, false),
            ("3.3.1.x", false, false, false),
            ("3.3.1", false, false, false),
            ("3.3.1.0.0", false, false, false),
            ("2.3.722.0", false, false, false),
            ("2.3.722.1", true, false, false),
            ("3.0.196.0", true, false, false),
            ("3.0.196.1", true, true, false),
            ("3.1.1511.0", true, true, false),
            ("3.1.1511.1", true, true, true),
            ("3.1.1512.0", true, true, true),
            (AGENT_WIRE_VERSION, true, true, true),
        ] {
            let expected = AgentGates {
                terminate_flag,
                mux,
                mux_keep_alive_off,
            };
            assert_eq!(AgentGates::of(version), expected, "{version}");
        }
    }
}

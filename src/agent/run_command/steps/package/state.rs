//! How far a package is on this host, in the reference's format, which either agent goes on with.

use jiff::Timestamp;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// How far a package is. The numbers are the format.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum State {
    /// Not here.
    #[default]
    None = 0,
    /// Something is here that nobody wrote down.
    Unknown = 1,
    /// Neither installed nor gone.
    Failed = 2,
    Uninstalling = 3,
    Uninstalled = 4,
    /// Downloaded.
    New = 5,
    /// Being uninstalled for another version.
    Upgrading = 6,
    Installing = 7,
    Installed = 8,
    RollbackUninstall = 9,
    RollbackInstall = 10,
    /// Being updated in place.
    Updating = 11,
}

impl State {
    const ALL: [Self; 12] = [
        Self::None,
        Self::Unknown,
        Self::Failed,
        Self::Uninstalling,
        Self::Uninstalled,
        Self::New,
        Self::Upgrading,
        Self::Installing,
        Self::Installed,
        Self::RollbackUninstall,
        Self::RollbackInstall,
        Self::Updating,
    ];
}

impl Serialize for State {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_u8(*self as u8)
    }
}

impl<'de> Deserialize<'de> for State {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let number = usize::deserialize(from)?;
        Ok(Self::ALL.get(number).copied().unwrap_or(Self::Unknown))
    }
}

/// The file `installstate`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase", default)]
pub(super) struct InstallState {
    /// The package.
    pub(super) name: String,
    /// The version that this is about.
    pub(super) version: String,
    pub(super) state: State,
    /// When it became so.
    time: String,
    /// The version that was last installed whole; empty if there is none.
    #[serde(rename = "lastinstalledversion")]
    pub(super) last_installed_version: String,
    /// How often it became so in a row.
    #[serde(rename = "retrycount")]
    retry_count: u64,
}

impl InstallState {
    /// What stands for a package of which nothing is written down.
    pub(super) fn unwritten(name: &str, version: Option<String>) -> Self {
        Self {
            name: name.to_owned(),
            state: version.as_ref().map_or(State::None, |_| State::Unknown),
            version: version.unwrap_or_default(),
            ..Self::default()
        }
    }

    /// What stands for a file that cannot be read.
    pub(super) fn unreadable(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            state: State::Unknown,
            ..Self::default()
        }
    }

    /// Notes that `version` is in `state` now.
    pub(super) fn enter(&mut self, version: &str, state: State, now: Timestamp) {
        self.retry_count = if self.state == state {
            self.retry_count.saturating_add(1)
        } else {
            0
        };
        version.clone_into(&mut self.version);
        self.state = state;
        self.time = now.to_string();
        match state {
            State::Installed => version.clone_into(&mut self.last_installed_version),
            State::None | State::Uninstalled => self.last_installed_version.clear(),
            _ => {}
        }
    }

    /// The version that is installed as far as anybody knows; empty if there is none.
    pub(super) fn installed_version(&self) -> &str {
        let is_first = self.state == State::Unknown && self.last_installed_version.is_empty();
        if self.state == State::Installed || is_first {
            &self.version
        } else {
            &self.last_installed_version
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_those_of_the_format() {
        let numbers: Vec<u8> = State::ALL.iter().map(|state| *state as u8).collect();

        assert_eq!(numbers, (0..12).collect::<Vec<u8>>());
        assert_eq!(serde_json::to_string(&State::Installed).unwrap(), "8");
        assert_eq!(serde_json::from_str::<State>("99").unwrap(), State::Unknown);
    }

    #[test]
    fn file_of_the_reference_is_read() {
        let text = r#"{"name":"Nginx","version":"2","state":7,"time":"2024-10-15T21:22:05.123456789Z",
            "lastinstalledversion":"1","retrycount":2}"#;

        let state: InstallState = serde_json::from_str(text).unwrap();

        assert_eq!(
            (state.state, state.version.as_str()),
            (State::Installing, "2")
        );
        assert_eq!(state.installed_version(), "1");
        let written = serde_json::to_value(&state).unwrap();
        assert_eq!(
            written,
            serde_json::from_str::<serde_json::Value>(text).unwrap()
        );
    }

    #[test]
    fn states_count_their_tries_and_keep_the_last_good_version() {
        let now = Timestamp::UNIX_EPOCH;
        let mut state = InstallState::unwritten("a", None);

        state.enter("1", State::Installed, now);
        state.enter("2", State::Installing, now);
        state.enter("2", State::Installing, now);
        assert_eq!((state.retry_count, state.installed_version()), (1, "1"));
        state.enter("2", State::Installed, now);
        assert_eq!((state.retry_count, state.installed_version()), (0, "2"));
        state.enter("2", State::None, now);
        assert_eq!(state.installed_version(), "");
        assert_eq!(state.time, "1970-01-01T00:00:00Z");
    }
}

//! One object of the configuration: takes members by name and type, whatever their case, and keeps
//! account of what nobody took.

use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value};

use super::ConfigError;

/// What a known member has to be.
#[derive(Debug, Clone, Copy)]
pub(super) enum Kind {
    /// A string.
    Text,
    /// True or false.
    Flag,
    /// A whole number.
    Number {
        /// Replaces one out of range.
        default: i64,
        /// The least and the greatest.
        range: (i64, i64),
    },
    /// One of these strings, or the empty one; the first is the default.
    OneOf(&'static [&'static str]),
}

/// An object that is being read.
pub(super) struct Section {
    path: PathBuf,
    name: String,
    members: Map<String, Value>,
    warnings: Vec<String>,
}

impl Section {
    /// The whole file.
    pub(super) fn root(path: &Path, members: Map<String, Value>) -> Self {
        Self {
            path: path.to_owned(),
            name: String::new(),
            members,
            warnings: Vec::new(),
        }
    }

    /// An object within this one; empty if it is absent or null.
    pub(super) fn section(&mut self, key: &str) -> Result<Self, ConfigError> {
        let members = match self.take(key) {
            None => Map::new(),
            Some(Value::Object(members)) => members,
            Some(other) => return Err(self.wrong_type(key, "an object", &other)),
        };
        Ok(self.within(key, members))
    }

    /// A list of objects; empty if it is absent or null.
    pub(super) fn sections(&mut self, key: &str) -> Result<Vec<Self>, ConfigError> {
        const EXPECTED: &str = "a list of objects";
        let items = match self.take(key) {
            None => Vec::new(),
            Some(Value::Array(items)) => items,
            Some(other) => return Err(self.wrong_type(key, EXPECTED, &other)),
        };
        let mut sections = Vec::new();
        for item in items {
            match item {
                Value::Object(members) => sections.push(self.within(key, members)),
                other => return Err(self.wrong_type(key, EXPECTED, &other)),
            }
        }
        Ok(sections)
    }

    pub(super) fn text(&mut self, key: &str) -> Result<String, ConfigError> {
        match self.take(key) {
            None => Ok(String::new()),
            Some(Value::String(text)) => Ok(text),
            Some(other) => Err(self.wrong_type(key, "a string", &other)),
        }
    }

    pub(super) fn texts(&mut self, key: &str) -> Result<Option<Vec<String>>, ConfigError> {
        const EXPECTED: &str = "a list of strings";
        let items = match self.take(key) {
            None => return Ok(None),
            Some(Value::Array(items)) => items,
            Some(other) => return Err(self.wrong_type(key, EXPECTED, &other)),
        };
        let mut texts = Vec::new();
        for item in items {
            match item {
                Value::String(text) => texts.push(text),
                other => return Err(self.wrong_type(key, EXPECTED, &other)),
            }
        }
        Ok(Some(texts))
    }

    pub(super) fn boolean(&mut self, key: &str, default: bool) -> Result<bool, ConfigError> {
        Ok(self.optional_boolean(key)?.unwrap_or(default))
    }

    pub(super) fn optional_boolean(&mut self, key: &str) -> Result<Option<bool>, ConfigError> {
        match self.take(key) {
            None => Ok(None),
            Some(Value::Bool(value)) => Ok(Some(value)),
            Some(other) => Err(self.wrong_type(key, "true or false", &other)),
        }
    }

    /// A number in `range`; one outside is replaced by the default, with a warning.
    ///
    /// # Panics
    /// If the default or the range does not fit the type asked for, which is a mistake of ours.
    pub(super) fn number<T: TryFrom<i64>>(
        &mut self,
        key: &str,
        default: i64,
        range: RangeInclusive<i64>,
    ) -> Result<T, ConfigError> {
        let value = match self.take(key) {
            None => default,
            Some(value) => match value.as_i64() {
                Some(number) if range.contains(&number) => number,
                Some(number) => {
                    let name = self.full(key);
                    let (low, high) = (range.start(), range.end());
                    self.warnings.push(format!(
                        "{name}: {number} is not within {low} to {high}, the default {default} is used"
                    ));
                    default
                }
                None => return Err(self.wrong_type(key, "a whole number", &value)),
            },
        };
        Ok(T::try_from(value).unwrap_or_else(|_| unreachable!("{key}: ranges fit their types")))
    }

    /// Takes members that are known but mean nothing to this version. Their types are checked all
    /// the same: another version, or the reference, would refuse the file.
    pub(super) fn known(&mut self, keys: &[(&str, Kind)]) -> Result<(), ConfigError> {
        for &(key, kind) in keys {
            match kind {
                Kind::Text => drop(self.text(key)?),
                Kind::Flag => drop(self.boolean(key, false)?),
                Kind::Number { default, range } => {
                    self.number::<i64>(key, default, range.0..=range.1)?;
                }
                Kind::OneOf(words) => drop(self.one_of(key, words)?),
            }
        }
        Ok(())
    }

    /// One of these words; the first of them if it is absent, empty or another.
    pub(super) fn one_of(
        &mut self,
        key: &str,
        words: &[&'static str],
    ) -> Result<&'static str, ConfigError> {
        let word = self.text(key)?;
        if let Some(known) = words.iter().find(|known| **known == word) {
            return Ok(known);
        }
        let default = words.first().copied().unwrap_or_default();
        if !word.is_empty() {
            let (name, words) = (self.full(key), words.join(", "));
            self.warnings.push(format!(
                "{name}: {word:?} is none of {words}, the default {default:?} is used"
            ));
        }
        Ok(default)
    }

    /// Takes an object of such members.
    pub(super) fn known_section(
        &mut self,
        key: &str,
        keys: &[(&str, Kind)],
    ) -> Result<(), ConfigError> {
        let mut section = self.section(key)?;
        section.known(keys)?;
        self.absorb(section);
        Ok(())
    }

    pub(super) fn warn(&mut self, text: String) {
        self.warnings.push(text);
    }

    /// Takes over the warnings of a section that was read.
    pub(super) fn absorb(&mut self, section: Self) {
        self.warnings.extend(section.finish());
    }

    /// All warnings, also of members that nobody took.
    pub(super) fn finish(mut self) -> Vec<String> {
        let unknown: Vec<String> = self.members.keys().map(|key| self.full(key)).collect();
        let unknown = unknown
            .into_iter()
            .map(|key| format!("{key}: unknown key, ignored"));
        self.warnings.extend(unknown);
        self.warnings
    }

    /// Removes a member, whatever the case of its name; null counts as absent.
    fn take(&mut self, key: &str) -> Option<Value> {
        let name = self
            .members
            .keys()
            .find(|name| name.eq_ignore_ascii_case(key))?
            .clone();
        self.members.remove(&name).filter(|value| !value.is_null())
    }

    fn within(&self, key: &str, members: Map<String, Value>) -> Self {
        Self {
            path: self.path.clone(),
            name: self.full(key),
            members,
            warnings: Vec::new(),
        }
    }

    fn full(&self, key: &str) -> String {
        if self.name.is_empty() {
            key.to_owned()
        } else {
            format!("{}.{key}", self.name)
        }
    }

    pub(super) fn wrong_type(&self, key: &str, expected: &'static str, got: &Value) -> ConfigError {
        /// Enough of a value to recognise it by; it may be long, or a secret.
        const SHOWN: usize = 40;
        ConfigError::Type {
            path: self.path.clone(),
            key: self.full(key),
            expected,
            got: got.to_string().chars().take(SHOWN).collect(),
        }
    }
}

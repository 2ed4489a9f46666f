//! Items of inventory: rows of attributes, and the hash that the service knows their content by.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use jiff::Timestamp;
use md5::{Digest as _, Md5};
use serde::ser::SerializeMap as _;
use serde::{Serialize, Serializer};

/// One thing: its attributes in their order. All values are texts.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Row(Vec<(String, String)>);

impl Row {
    /// A row with these attributes.
    pub(super) fn of<const N: usize, V: AsRef<str>>(attributes: [(&str, V); N]) -> Self {
        let attributes = attributes.into_iter();
        Self(
            attributes
                .map(|(name, value)| (name.to_owned(), value.as_ref().to_owned()))
                .collect(),
        )
    }

    /// Adds an attribute.
    pub(super) fn push(&mut self, name: &str, value: impl Into<String>) {
        self.0.push((name.to_owned(), value.into()));
    }

    /// Adds an attribute that is left out where it is empty.
    pub(super) fn push_some(&mut self, name: &str, value: &str) {
        if !value.is_empty() {
            self.push(name, value);
        }
    }

    /// The same row with another `Name`.
    pub(super) fn renamed(mut self, name: &str) -> Self {
        for (attribute, value) in &mut self.0 {
            if attribute == "Name" {
                name.clone_into(value);
            }
        }
        self
    }

    /// The value of an attribute; empty if it is not there.
    pub(super) fn get(&self, name: &str) -> &str {
        let found = self.0.iter().find(|(attribute, _)| attribute == name);
        found.map_or("", |(_, value)| value)
    }
}

impl Serialize for Row {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.0.len()))?;
        for (name, value) in &self.0 {
            map.serialize_entry(name, value)?;
        }
        map.end()
    }
}

/// What one gatherer found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Item {
    pub(super) type_name: String,
    pub(super) schema_version: String,
    pub(super) captured: Timestamp,
    /// As it is sent.
    pub(super) content: Vec<Row>,
    /// What its content is known by.
    pub(super) hash: String,
    /// Bytes of its content as JSON.
    pub(super) size: usize,
}

impl Item {
    /// Of a type, with that content, found now.
    pub(super) fn new(type_name: &str, schema_version: &str, content: Vec<Row>) -> Self {
        // Rows hold texts only: writing them cannot fail.
        let json = serde_json::to_string(&content).unwrap_or_default();
        Self {
            type_name: type_name.to_owned(),
            schema_version: schema_version.to_owned(),
            captured: Timestamp::now(),
            hash: hash(&json),
            size: json.len(),
            content,
        }
    }

    /// The time that it was found, in whole seconds.
    pub(super) fn capture_time(&self) -> String {
        self.captured.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
    }
}

/// The hash of content, in the JSON of the reference's library, which writes some characters in another
/// way than ours. They stand in texts only, so that they can be replaced everywhere.
fn hash(json: &str) -> String {
    let json = json
        .replace('<', "\\u003c")
        .replace('>', "\\u003e")
        .replace('&', "\\u0026")
        .replace('\u{2028}', "\\u2028")
        .replace('\u{2029}', "\\u2029");
    BASE64.encode(Md5::digest(json.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hash_is_the_one_of_the_reference() {
        let row = Row::of([
            ("Name", "eth0"),
            ("MacAddress", "02:00:00:00:00:01"),
            ("IPV4", "10.0.0.5"),
            ("IPV6", ""),
        ]);

        let item = Item::new("AWS:Network", "1.0", vec![row]);

        assert_eq!(item.hash, "MnV2xw0yhUOoxTge4ZAq7Q==");
    }

    #[test]
    fn characters_of_html_are_hashed_as_the_reference_writes_them() {
        let written = Item::new("T", "1.0", vec![Row::of([("A", "<a&b>")])]);

        let expected = Md5::digest(br#"[{"A":"\u003ca\u0026b\u003e"}]"#);
        assert_eq!(written.hash, BASE64.encode(expected));
        assert_eq!(
            serde_json::to_string(&written.content).unwrap(),
            r#"[{"A":"<a&b>"}]"#
        );
    }

    #[test]
    fn empty_attributes_may_be_left_out() {
        let mut row = Row::default();
        row.push("Name", "a");
        row.push_some("Release", "");
        row.push_some("Epoch", "1");

        assert_eq!(
            serde_json::to_string(&row).unwrap(),
            r#"{"Name":"a","Epoch":"1"}"#
        );
        assert_eq!((row.get("Epoch"), row.get("Release")), ("1", ""));
    }
}

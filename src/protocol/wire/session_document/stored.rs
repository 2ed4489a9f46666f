//! Values of Parameter Store: `{{ssm:name}}`, also `{{ ssm:name:version }}`.
//!
//! Whoever has a way to Parameter Store looks up what [`names`] finds and hands the answers to
//! [`StoredParameters::collect`]. A string list stands for several items where a marker is an item
//! of a list, and nowhere else. As with a document's own parameters, what was put in is not scanned
//! again. A secure string is refused: what runs in a session, and its record, would show it.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;
use serde_json::Value;

use super::DocumentError;

/// Type of a value that is a list, its items separated by commas.
const STRING_LIST: &str = "StringList";
/// Type of a value that is kept encrypted.
const SECURE_STRING: &str = "SecureString";

/// One parameter, as `GetParameters` gives it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct StoredParameter {
    /// Its name.
    pub name: String,
    /// `String`, `StringList` or `SecureString`.
    #[serde(rename = "Type")]
    pub kind: String,
    /// Its value.
    pub value: String,
    /// Which version of it this is.
    pub version: i64,
    /// What followed the name in the request: empty, `:version` or `:label`.
    pub selector: String,
    /// Its ARN.
    #[serde(rename = "ARN")]
    pub arn: String,
}

impl StoredParameter {
    /// Whether a document that asks for `name` means this parameter.
    fn answers_to(&self, name: &str) -> bool {
        let after = name.strip_prefix(self.name.as_str());
        after.is_some_and(|selector| {
            selector.is_empty()
                || selector == self.selector
                || selector.strip_prefix(':') == Some(&self.version.to_string())
        }) || name == self.arn
    }
}

/// The parameters that a document refers to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct StoredParameters(BTreeMap<String, StoredParameter>);

impl StoredParameters {
    /// Finds the answer to each of `names`.
    ///
    /// # Errors
    /// [`DocumentError::NotStored`] and [`DocumentError::Secure`], both in the reference's words.
    pub fn collect(names: &[String], answers: &[StoredParameter]) -> Result<Self, DocumentError> {
        let mut found = BTreeMap::new();
        let (mut missing, mut secure) = (Vec::new(), Vec::new());
        for name in names {
            match answers.iter().find(|answer| answer.answers_to(name)) {
                None => missing.push(name.clone()),
                Some(answer) if answer.kind == SECURE_STRING => secure.push(name.clone()),
                Some(answer) => {
                    found.insert(name.clone(), answer.clone());
                }
            }
        }
        if !missing.is_empty() {
            return Err(DocumentError::NotStored {
                names: missing.join(" "),
            });
        }
        if !secure.is_empty() {
            return Err(DocumentError::Secure {
                names: secure.join(" "),
            });
        }
        Ok(Self(found))
    }

    /// `value` with the values of these parameters in the place of their markers.
    ///
    /// # Errors
    /// [`DocumentError::ListAsText`].
    pub fn fill(&self, value: &Value) -> Result<Value, DocumentError> {
        Ok(match value {
            Value::String(text) => Value::String(self.fill_text(text)?),
            Value::Array(items) => {
                let mut filled = Vec::with_capacity(items.len());
                for item in items {
                    match self.list_at(item) {
                        Some(list) => filled.extend(list.split(',').map(Value::from)),
                        None => filled.push(self.fill(item)?),
                    }
                }
                Value::Array(filled)
            }
            Value::Object(members) => members
                .iter()
                .map(|(key, member)| Ok((key.clone(), self.fill(member)?)))
                .collect::<Result<_, DocumentError>>()?,
            Value::Null | Value::Bool(_) | Value::Number(_) => value.clone(),
        })
    }

    fn fill_text(&self, text: &str) -> Result<String, DocumentError> {
        let mut filled = String::with_capacity(text.len());
        let mut rest = text;
        while let Some(marker) = Marker::find(rest) {
            filled.push_str(marker.before);
            match self.0.get(marker.name) {
                Some(parameter) if parameter.kind == STRING_LIST => {
                    return Err(DocumentError::ListAsText {
                        name: marker.name.to_owned(),
                    });
                }
                Some(parameter) => filled.push_str(&parameter.value),
                None => filled.push_str(marker.text),
            }
            rest = marker.after;
        }
        filled.push_str(rest);
        Ok(filled)
    }

    /// The string list that an item of a list stands for.
    fn list_at(&self, item: &Value) -> Option<&str> {
        let marker = Marker::find(item.as_str()?.trim())?;
        let is_all = marker.before.is_empty() && marker.after.is_empty();
        let parameter = self.0.get(marker.name).filter(|_| is_all)?;
        (parameter.kind == STRING_LIST).then_some(&parameter.value)
    }
}

/// Adds the names that the strings in `value` refer to.
pub fn names(value: &Value, found: &mut BTreeSet<String>) {
    match value {
        Value::String(text) => {
            let mut rest = text.as_str();
            while let Some(marker) = Marker::find(rest) {
                found.insert(marker.name.to_owned());
                rest = marker.after;
            }
        }
        Value::Array(items) => items.iter().for_each(|item| names(item, found)),
        Value::Object(members) => members.values().for_each(|member| names(member, found)),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

/// A marker, and the text around it.
struct Marker<'t> {
    before: &'t str,
    text: &'t str,
    name: &'t str,
    after: &'t str,
}

impl<'t> Marker<'t> {
    /// The first marker in `text`.
    fn find(text: &'t str) -> Option<Self> {
        let mut from = 0;
        while let Some(found) = text[from..].find("{{") {
            let at = from + found;
            if let Some((name, after)) = Self::at_start(&text[at..]) {
                return Some(Self {
                    before: &text[..at],
                    text: &text[at..text.len() - after.len()],
                    name,
                    after,
                });
            }
            from = at + 1;
        }
        None
    }

    fn at_start(text: &'t str) -> Option<(&'t str, &'t str)> {
        let inner = text.strip_prefix("{{")?.trim_start_matches(' ');
        let named = inner.strip_prefix("ssm:")?;
        let end = named.find(|c: char| !is_name(c))?;
        let (name, rest) = named.split_at(end);
        let after = rest.trim_start_matches(' ').strip_prefix("}}")?;
        (!name.is_empty()).then_some((name, after))
    }
}

fn is_name(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '/' | '_' | '.' | ':' | '-')
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn names_are_found_once_each_and_at_any_depth() {
        let value = json!({
            "a": ["{{ssm:/x/y-z_1.2}}", {"b": "1 {{  ssm:p:3  }} {{ssm:/x/y-z_1.2}}"}],
            "{{ssm:key}}": "{{ssm:}} {{ ssm :q}} {{ssm:a b}} {{ssm:c} {{{ssm:d}}}",
        });
        let mut found = BTreeSet::new();

        names(&value, &mut found);

        assert_eq!(
            found.into_iter().collect::<Vec<_>>(),
            ["/x/y-z_1.2", "d", "p:3"]
        );
    }

    #[test]
    fn values_take_the_place_of_their_markers() {
        let stored = stored(&[("p", "String", "{{ssm:q}}"), ("q", "String", "Q")]);

        let filled = stored.fill(&json!({"a": "<{{ssm:p}}|{{ ssm:q }}|{{ssm:r}}>"}));

        assert_eq!(filled, Ok(json!({"a": "<{{ssm:q}}|Q|{{ssm:r}}>"})));
    }

    #[test]
    fn string_list_becomes_items_of_a_list() {
        let stored = stored(&[("l", "StringList", "ls,echo a"), ("p", "String", "x,y")]);

        let filled = stored.fill(&json!(["a", " {{ssm:l}} ", "{{ssm:p}}"]));

        assert_eq!(filled, Ok(json!(["a", "ls", "echo a", "x,y"])));
    }

    #[test]
    fn string_list_within_text_is_refused() {
        let stored = stored(&[("l", "StringList", "a,b")]);

        for value in [json!("{{ssm:l}}"), json!(["x {{ssm:l}}"])] {
            assert_eq!(
                stored.fill(&value).unwrap_err().to_string(),
                "Parameter l of type StringList cannot be used as a String"
            );
        }
    }

    #[test]
    fn answer_is_found_by_name_version_label_and_arn() {
        let arn = "arn:aws:ssm:us-east-1:111122223333:parameter/p";
        let answer = StoredParameter {
            name: "p".into(),
            kind: "String".into(),
            version: 3,
            selector: ":live".into(),
            arn: arn.into(),
            ..StoredParameter::default()
        };

        for name in ["p", "p:3", "p:live", arn] {
            let found = StoredParameters::collect(&[name.into()], std::slice::from_ref(&answer));
            assert!(found.is_ok(), "{name}");
        }
        for name in ["p:4", "pp", "q"] {
            let found = StoredParameters::collect(&[name.into()], std::slice::from_ref(&answer));
            assert!(found.is_err(), "{name}");
        }
    }

    #[test]
    fn missing_and_secure_parameters_are_named() {
        let names = ["p", "s", "t"].map(String::from);
        let secure = |name: &str| StoredParameter {
            name: name.into(),
            kind: SECURE_STRING.into(),
            ..StoredParameter::default()
        };

        let missing = StoredParameters::collect(&names, &[secure("p"), secure("s")]);
        let secret = StoredParameters::collect(&names[..2], &[secure("p"), secure("s")]);

        assert_eq!(
            missing.unwrap_err().to_string(),
            "Input contains invalid parameters [t]"
        );
        assert_eq!(
            secret.unwrap_err().to_string(),
            "Parameters [p s] of type SecureString are not supported"
        );
    }

    fn stored(parameters: &[(&str, &str, &str)]) -> StoredParameters {
        let answers: Vec<_> = parameters
            .iter()
            .map(|(name, kind, value)| StoredParameter {
                name: (*name).into(),
                kind: (*kind).into(),
                value: (*value).into(),
                ..StoredParameter::default()
            })
            .collect();
        let names: Vec<_> = answers.iter().map(|answer| answer.name.clone()).collect();
        StoredParameters::collect(&names, &answers).unwrap()
    }
}

//! Putting parameter values in the place of `{{ name }}`.
//!
//! A string that is nothing but one marker takes the value with its JSON type; within other text a
//! value stands as text, what is no string as JSON. What was put in is not scanned again, so a value
//! that looks like a marker stays what it is.
//!
//! Values are put in unchanged. (The reference turns `$$` within a value into `$` where it stands
//! within other text, to make up for an old mistake of its own; a shell's `$$` would be lost.) They
//! are not quoted either: a document that puts a value into a shell's command line decides by its
//! `allowedPattern` what may get there.

use serde_json::{Map, Value};

/// `value` with the values of `parameters` in the place of their markers.
pub fn fill(value: &Value, parameters: &Map<String, Value>) -> Value {
    match value {
        Value::String(text) => fill_text(text, parameters),
        Value::Array(items) => items.iter().map(|item| fill(item, parameters)).collect(),
        Value::Object(members) => members
            .iter()
            .map(|(key, member)| (key.clone(), fill(member, parameters)))
            .collect(),
        Value::Null | Value::Bool(_) | Value::Number(_) => value.clone(),
    }
}

fn fill_text(text: &str, parameters: &Map<String, Value>) -> Value {
    if let Some((value, "")) = marker_at(text, parameters) {
        return value.clone();
    }
    let mut filled = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find("{{") {
        filled.push_str(&rest[..at]);
        rest = &rest[at..];
        match marker_at(rest, parameters) {
            Some((value, tail)) => {
                filled.push_str(&as_text(value));
                rest = tail;
            }
            None => {
                // `{{{name}}` holds a marker after its first brace.
                filled.push('{');
                rest = &rest[1..];
            }
        }
    }
    filled.push_str(rest);
    Value::String(filled)
}

/// The value of the marker that `text` begins with, and what follows the marker.
fn marker_at<'a, 't>(
    text: &'t str,
    parameters: &'a Map<String, Value>,
) -> Option<(&'a Value, &'t str)> {
    let inner = text.strip_prefix("{{")?.trim_start_matches(is_space);
    let end = inner.find(|c: char| !c.is_ascii_alphanumeric())?;
    let (name, rest) = inner.split_at(end);
    let tail = rest.trim_start_matches(is_space).strip_prefix("}}")?;
    Some((parameters.get(name)?, tail))
}

/// A value as text: a string as it is, anything else as JSON.
pub fn as_text(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

fn is_space(c: char) -> bool {
    matches!(c, ' ' | '\t' | '\n' | '\r' | '\x0c')
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn lone_marker_takes_the_value_with_its_type() {
        for marker in ["{{list}}", "{{ list }}", "{{\tlist\n}}"] {
            assert_eq!(filled(&json!(marker)), json!(["a", "b"]));
        }
        assert_eq!(filled(&json!("{{ yes }}")), json!(true));
    }

    #[test]
    fn marker_within_text_becomes_text() {
        for (template, expected) in [
            (" {{ list }}", " [\"a\",\"b\"]"),
            ("<{{x}}|{{ yes }}>", "<X|true>"),
            ("{{x}}{{x}}", "XX"),
            ("{{{x}}}", "{X}"),
            ("{{ {{x}} }}", "{{ X }}"),
        ] {
            assert_eq!(filled(&json!(template)), json!(expected), "{template}");
        }
    }

    #[test]
    fn what_is_no_marker_stays() {
        for text in [
            "{{",
            "{{}}",
            "{{ y }}",
            "{{x",
            "{ {x}}",
            "{{x y}}",
            "{{ssm:x}}",
            "}}{{",
        ] {
            assert_eq!(filled(&json!(text)), json!(text));
        }
    }

    #[test]
    fn value_that_looks_like_a_marker_is_not_filled() {
        assert_eq!(filled(&json!("{{ sly }}")), json!("{{ x }}"));
        assert_eq!(filled(&json!("a {{ sly }}{{x}}")), json!("a {{ x }}X"));
    }

    #[test]
    fn metacharacters_pass_unchanged() {
        assert_eq!(
            filled(&json!("sh -c '{{ shell }}'")),
            json!("sh -c '$$ $(id); `id` \\1 \"'")
        );
    }

    #[test]
    fn values_are_filled_in_at_any_depth_and_keys_never() {
        assert_eq!(
            filled(&json!({"{{x}}": [{"k": "{{x}}"}, 1, null]})),
            json!({"{{x}}": [{"k": "X"}, 1, null]})
        );
    }

    fn filled(value: &Value) -> Value {
        let parameters = json!({
            "x": "X", "yes": true, "list": ["a", "b"], "sly": "{{ x }}",
            "shell": "$$ $(id); `id` \\1 \"",
        });
        fill(value, parameters.as_object().unwrap())
    }
}

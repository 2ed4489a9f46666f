//! `Custom:…`: what an operator has written of this host into JSON files.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde_json::Value;
use tracing::warn;

use super::error::GatherError;
use super::item::{Item, Row};
use crate::runtime::cause::in_one_line;

/// What errors call the whole.
pub(super) const TYPE: &str = "CustomInventory";

/// What names of types begin with.
const PREFIX: &str = "Custom:";
/// Most files.
const FILES: usize = 20;
/// Longest name of a type, in characters.
const TYPE_NAME: usize = 100;
/// Most attributes of a row.
const ATTRIBUTES: usize = 50;
/// Longest name of an attribute, in characters.
const NAME: usize = 64;
/// Longest value, in characters.
const VALUE: usize = 4096;
/// Largest file: what may be sent, and room for its form.
const SIZE: u64 = 4 << 20;

/// A file.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Given {
    schema_version: String,
    type_name: String,
    content: Value,
}

/// Why a file is left out.
#[derive(Debug, thiserror::Error)]
enum Unusable {
    #[error(transparent)]
    Read(#[from] io::Error),
    #[error("it is larger than {SIZE} bytes")]
    Size,
    #[error("it is not understood")]
    Json(#[from] serde_json::Error),
    #[error("TypeName {0:?} is not {PREFIX} and a name, of {TYPE_NAME} characters in all")]
    TypeName(String),
    #[error("another file has the TypeName {0:?}")]
    Twice(String),
    #[error("SchemaVersion {0:?} is not two numbers of up to 6 digits with a dot between them")]
    SchemaVersion(String),
    #[error("Content is not an object or a list of objects")]
    Content,
    #[error("a row has more than {ATTRIBUTES} attributes")]
    Attributes,
    #[error("the name of an attribute has not 1 to {NAME} characters")]
    Name,
    #[error("the value of {0:?} is not a string of up to {VALUE} characters")]
    Value(String),
}

/// The items of the files in `folder`; those of no use are left out. A folder that nobody has named
/// need not be there.
///
/// # Errors
/// [`GatherError::Read`].
pub(super) fn items(folder: &Path, is_named: bool) -> Result<Vec<Item>, GatherError> {
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound && !is_named => {
            return Ok(Vec::new());
        }
        Err(cause) => {
            let path = folder.to_owned();
            return Err(GatherError::Read { path, cause });
        }
    };
    // A set of the first names: a folder may hold anything.
    let mut files: BTreeSet<PathBuf> = BTreeSet::new();
    for entry in entries.flatten() {
        let path = entry.path();
        if path.extension().is_some_and(|end| end == "json") {
            files.insert(path);
            if files.len() > FILES {
                let last = files.pop_last();
                warn!(file = ?last, "custom inventory has more than {FILES} files");
            }
        }
    }
    let mut items: Vec<Item> = Vec::new();
    for file in files {
        match read(&file).and_then(|item| unique(&items, item)) {
            Ok(item) => items.push(item),
            Err(error) => {
                let (file, error) = (file.display(), in_one_line(&error));
                warn!(%file, error, "a file of custom inventory is left out");
            }
        }
    }
    Ok(items)
}

fn unique(items: &[Item], item: Item) -> Result<Item, Unusable> {
    if items.iter().any(|known| known.type_name == item.type_name) {
        return Err(Unusable::Twice(item.type_name));
    }
    Ok(item)
}

fn read(path: &Path) -> Result<Item, Unusable> {
    let mut text = Vec::new();
    File::open(path)?.take(SIZE + 1).read_to_end(&mut text)?;
    if text.len() as u64 > SIZE {
        return Err(Unusable::Size);
    }
    check(serde_json::from_slice(&text)?)
}

fn check(given: Given) -> Result<Item, Unusable> {
    let Given {
        schema_version,
        type_name,
        content,
    } = given;
    let name = type_name.strip_prefix(PREFIX);
    if name.is_none_or(str::is_empty) || type_name.chars().count() > TYPE_NAME {
        return Err(Unusable::TypeName(type_name));
    }
    let is_number = |digits: &str| {
        (1..=6).contains(&digits.len()) && digits.bytes().all(|digit| digit.is_ascii_digit())
    };
    let version = schema_version.split_once('.');
    if !version.is_some_and(|(major, minor)| is_number(major) && is_number(minor)) {
        return Err(Unusable::SchemaVersion(schema_version));
    }
    let rows = match content {
        Value::Object(_) => vec![row(content)?],
        Value::Array(rows) => rows.into_iter().map(row).collect::<Result<_, _>>()?,
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {
            return Err(Unusable::Content);
        }
    };
    Ok(Item::new(&type_name, &schema_version, rows))
}

/// A row, whose attributes are sorted by their names.
fn row(content: Value) -> Result<Row, Unusable> {
    let Value::Object(attributes) = content else {
        return Err(Unusable::Content);
    };
    if attributes.len() > ATTRIBUTES {
        return Err(Unusable::Attributes);
    }
    let mut row = Row::default();
    for (name, value) in attributes.into_iter().collect::<BTreeMap<_, _>>() {
        if !(1..=NAME).contains(&name.chars().count()) {
            return Err(Unusable::Name);
        }
        match value {
            Value::String(value) if value.chars().count() <= VALUE => row.push(&name, value),
            _ => return Err(Unusable::Value(name)),
        }
    }
    Ok(row)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn given(type_name: &str, version: &str, content: &Value) -> Result<Item, Unusable> {
        let given = json!({"SchemaVersion": version, "TypeName": type_name, "Content": content});
        check(serde_json::from_value(given).unwrap())
    }

    #[test]
    fn file_becomes_an_item_with_its_attributes_sorted() {
        let folder = tempfile::tempdir().unwrap();
        let rack = r#"{"SchemaVersion":"1.0","TypeName":"Custom:RackInfo","Content":{"Slot":"4","Rack":"B12"}}"#;
        fs::write(folder.path().join("rack.json"), rack).unwrap();
        fs::write(folder.path().join("broken.json"), "{").unwrap();
        fs::write(folder.path().join("twice.json"), rack).unwrap();
        fs::write(folder.path().join("notes.txt"), "nothing").unwrap();

        let items = items(folder.path(), true).unwrap();

        assert_eq!(items.len(), 1);
        assert_eq!(items[0].type_name, "Custom:RackInfo");
        assert_eq!(
            serde_json::to_string(&items[0].content).unwrap(),
            r#"[{"Rack":"B12","Slot":"4"}]"#
        );
    }

    #[test]
    fn no_more_than_the_first_files_are_taken() {
        let folder = tempfile::tempdir().unwrap();
        for number in 0..30 {
            let text = json!({"SchemaVersion": "1.0", "TypeName": format!("Custom:T{number:02}"), "Content": []});
            let name = format!("{number:02}.json");
            fs::write(folder.path().join(name), text.to_string()).unwrap();
        }

        let items = items(folder.path(), true).unwrap();

        assert_eq!(items.len(), FILES);
        assert_eq!(items[19].type_name, "Custom:T19");
    }

    #[test]
    fn folder_that_somebody_named_has_to_be_there() {
        let nowhere = Path::new("/nonexistent/inventory");

        assert!(items(nowhere, false).unwrap().is_empty());
        assert!(matches!(
            items(nowhere, true),
            Err(GatherError::Read { .. })
        ));
    }

    #[test]
    fn what_the_service_would_refuse_is_left_out() {
        let many: serde_json::Map<_, _> = (0..51).map(|n| (format!("a{n}"), json!(""))).collect();
        let refused = [
            given("AWS:Application", "1.0", &json!({})),
            given("Custom:", "1.0", &json!({})),
            given(&format!("Custom:{}", "x".repeat(94)), "1.0", &json!({})),
            given("Custom:A", "1", &json!({})),
            given("Custom:A", "1.1234567", &json!({})),
            given("Custom:A", "1.0", &json!("text")),
            given("Custom:A", "1.0", &json!(["text"])),
            given("Custom:A", "1.0", &json!({"a": 1})),
            given("Custom:A", "1.0", &json!({"": "1"})),
            given("Custom:A", "1.0", &json!({"a": "x".repeat(4097)})),
            given("Custom:A", "1.0", &Value::Object(many)),
        ];

        for (number, refused) in refused.into_iter().enumerate() {
            assert!(refused.is_err(), "{number}: {refused:?}");
        }
        assert!(given("Custom:A", "123456.0", &json!([{"a": "b"}, {}])).is_ok());
    }
}

//! What the steps about the fleet are told. All inputs are texts, but for lists.

use serde_json::{Map, Value};

use super::super::super::document::member;
use crate::agent::fleet::inventory::Wanted;

/// The word that turns a gatherer on, in exactly that spelling.
const ENABLED: &str = "Enabled";

/// What inventory is wanted; the error is the text for the reply.
///
/// What there is on Windows only (`services`, `windowsUpdates`, `windowsRoles`, `windowsRegistry`) is not
/// looked at, as in the reference; nor is what tells associations when to look for changes.
pub(super) fn wanted(properties: &Value) -> Result<Wanted, String> {
    let members = members(properties)?;
    let text = |name: &str| text(properties, members, name);
    let is_on = |name: &str| Ok::<_, String>(text(name)? == ENABLED);
    Ok(Wanted {
        applications: is_on("applications")?,
        aws_components: is_on("awsComponents")?,
        network: is_on("networkConfig")?,
        billing: is_on("billingInfo")?,
        detailed: is_on("instanceDetailedInformation")?,
        files: text("files")?,
        custom: is_on("customInventory")?,
        custom_folder: Some(text("customInventoryDirectory")?)
            .filter(|folder| !folder.is_empty())
            .map(Into::into),
    })
}

/// The associations that are to be applied; none means all.
pub(super) fn associations(properties: &Value) -> Result<Vec<String>, String> {
    let wrong = || invalid(properties, "associationIds must be a list of strings");
    let list = match member(members(properties)?, "associationIds") {
        None => return Ok(Vec::new()),
        Some(list) => list.as_array().ok_or_else(wrong)?,
    };
    let ids = list.iter().map(|id| id.as_str().map(str::to_owned));
    let ids: Vec<String> = ids.collect::<Option<_>>().ok_or_else(wrong)?;
    Ok(if ids == [""] { Vec::new() } else { ids })
}

fn members(properties: &Value) -> Result<&Map<String, Value>, String> {
    let members = properties.as_object();
    members.ok_or_else(|| invalid(properties, "inputs must be an object"))
}

fn text(properties: &Value, members: &Map<String, Value>, name: &str) -> Result<String, String> {
    match member(members, name) {
        None => Ok(String::new()),
        Some(Value::String(text)) => Ok(text.clone()),
        Some(_) => Err(invalid(properties, &format!("{name} must be a string"))),
    }
}

fn invalid(properties: &Value, text: &str) -> String {
    format!("Invalid format in plugin properties {properties};\nerror {text}")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn gatherers_are_turned_on_by_one_word() {
        let wanted = wanted(&json!({
            "Applications": "Enabled", "networkConfig": "enabled", "services": "Enabled",
            "files": "[]", "customInventory": "Enabled", "customInventoryDirectory": "/srv/x",
            "billingInfo": null,
        }))
        .unwrap();

        let expected = Wanted {
            applications: true,
            files: "[]".into(),
            custom: true,
            custom_folder: Some("/srv/x".into()),
            ..Wanted::default()
        };
        assert_eq!(wanted, expected);
    }

    #[test]
    fn inputs_of_wrong_types_say_which() {
        let error = wanted(&json!({"applications": true})).unwrap_err();
        assert!(
            error.ends_with("error applications must be a string"),
            "{error}"
        );
        let error = associations(&json!({"associationIds": "x"})).unwrap_err();
        assert!(error.ends_with("must be a list of strings"), "{error}");
    }

    #[test]
    fn no_associations_are_all_of_them() {
        for (properties, expected) in [
            (json!({}), vec![]),
            (json!({"associationIds": []}), vec![]),
            (json!({"associationIds": [""]}), vec![]),
            (json!({"AssociationIds": ["a", "b"]}), vec!["a", "b"]),
        ] {
            assert_eq!(associations(&properties).unwrap(), expected);
        }
    }
}

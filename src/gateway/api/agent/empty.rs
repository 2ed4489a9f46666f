//! Operations that agents call as a matter of course and for which the gateway has nothing to say:
//! associations, inventory, compliance, packages. The answers are valid and empty.

use serde_json::{Value, json};

use super::super::answer::ApiError;
use super::speaks_for_itself;

/// The answer to `operation` of the node `node_id`; none if it is not among these.
///
/// # Errors
/// `AccessDeniedException` if the request speaks for another node; where the operation names a
/// thing that must exist, the error that it does not.
pub(super) fn answer(
    operation: &str,
    node_id: &str,
    request: &Value,
) -> Result<Option<Value>, ApiError> {
    let member = |name: &str| request.get(name).and_then(Value::as_str);
    speaks_for_itself(node_id, member("InstanceId"))?;
    let answer = match operation {
        "ListInstanceAssociations" | "ListAssociations" => json!({"Associations": []}),
        "UpdateInstanceAssociationStatus" | "UpdateAssociationStatus" | "PutInventory" => json!({}),
        "PutComplianceItems" => {
            speaks_for_itself(node_id, member("ResourceId"))?;
            json!({})
        }
        "DescribeAssociation" => {
            let text = "The specified association doesn't exist.";
            return Err(ApiError::new("AssociationDoesNotExist", text));
        }
        "GetManifest" => {
            let text = "The specified package doesn't exist.";
            return Err(ApiError::new("ResourceNotFoundException", text));
        }
        _ => return Ok(None),
    };
    Ok(Some(answer))
}

#[cfg(test)]
mod tests {
    use super::*;

    const NODE: &str = "mi-0123456789abcdef0";

    #[test]
    fn node_cannot_ask_or_report_for_another_one() {
        let other = "mi-fffffffffffffffff";
        for (operation, request) in [
            (
                "ListInstanceAssociations",
                json!({"InstanceId": other, "MaxResults": 20}),
            ),
            ("PutInventory", json!({"InstanceId": other})),
            ("PutComplianceItems", json!({"ResourceId": other})),
        ] {
            let error = answer(operation, NODE, &request).unwrap_err();
            assert_eq!(error.code(), "AccessDeniedException", "{operation}");
        }
        assert!(answer("PutInventory", NODE, &json!({"InstanceId": NODE})).is_ok());
    }

    #[test]
    fn operations_of_people_are_not_among_these() {
        assert!(answer("StartSession", NODE, &json!({})).unwrap().is_none());
    }
}

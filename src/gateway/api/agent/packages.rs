//! What agents report of packages.

use serde_json::{Value, json};
use tracing::info;

/// Longest of a text that is logged.
const SHOWN: usize = 200;

/// Notes how installing or uninstalling a package ended; the answer is empty.
pub(super) fn note_result(node_id: &str, request: &Value) -> Value {
    let text = |name: &str| -> String {
        let text = request[name].as_str().unwrap_or_default();
        text.chars().take(SHOWN).collect()
    };
    info!(
        node = node_id,
        package = text("PackageName"),
        version = text("PackageVersion"),
        previous = text("PreviousPackageVersion"),
        operation = text("Operation"),
        result = request["Result"].as_i64(),
        milliseconds = request["OverallTiming"].as_i64(),
        "package configured"
    );
    json!({})
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn report_of_any_form_is_taken() {
        for request in [
            json!({}),
            json!({"PackageName": "a", "Result": 0}),
            json!([1]),
        ] {
            assert_eq!(note_result("mi-1", &request), json!({}));
        }
    }
}

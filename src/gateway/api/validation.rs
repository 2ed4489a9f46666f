//! The constraints of the service model, with AWS's words where they are broken.

use std::fmt::Display;
use std::ops::RangeInclusive;
use std::sync::LazyLock;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use regex::Regex;

use super::answer::ApiError;

/// Names of documents and their ARNs.
pub(super) static DOCUMENT_NAME: LazyLock<Regex> =
    LazyLock::new(|| pattern(r"^[a-zA-Z0-9_\-.:/]{3,128}$"));
/// Names and tags of nodes.
pub(super) static LABEL: LazyLock<Regex> =
    LazyLock::new(|| pattern(r"^([\p{L}\p{Z}\p{N}_.:/=+\-@]*)$"));

/// A constant pattern.
pub(super) fn pattern(text: &str) -> Regex {
    Regex::new(text).expect("the pattern is a constant that the tests compile")
}

/// The value of a member that must be there.
///
/// # Errors
/// `ValidationException`.
pub(super) fn required<T>(member: &str, value: Option<T>) -> Result<T, ApiError> {
    value.ok_or_else(|| broken(member, "null", "Member must not be null"))
}

/// Checks the number of characters.
///
/// # Errors
/// `ValidationException`.
pub(super) fn length(
    member: &str,
    value: &str,
    allowed: RangeInclusive<usize>,
) -> Result<(), ApiError> {
    let count = value.chars().count();
    if count < *allowed.start() {
        let rule = format!(
            "Member must have length greater than or equal to {}",
            allowed.start()
        );
        return Err(broken(member, quoted(value), &rule));
    }
    if count > *allowed.end() {
        let rule = format!(
            "Member must have length less than or equal to {}",
            allowed.end()
        );
        return Err(broken(member, quoted(value), &rule));
    }
    Ok(())
}

/// Checks a number.
///
/// # Errors
/// `ValidationException`.
pub(super) fn range(
    member: &str,
    value: i64,
    allowed: RangeInclusive<i64>,
) -> Result<(), ApiError> {
    if value < *allowed.start() {
        let rule = format!(
            "Member must have value greater than or equal to {}",
            allowed.start()
        );
        return Err(broken(member, quoted(value), &rule));
    }
    if value > *allowed.end() {
        let rule = format!(
            "Member must have value less than or equal to {}",
            allowed.end()
        );
        return Err(broken(member, quoted(value), &rule));
    }
    Ok(())
}

/// Checks the form of a text.
///
/// # Errors
/// `ValidationException`.
pub(super) fn matches(member: &str, value: &str, pattern: &Regex) -> Result<(), ApiError> {
    if pattern.is_match(value) {
        return Ok(());
    }
    let rule = format!("Member must satisfy regular expression pattern: {pattern}");
    Err(broken(member, quoted(value), &rule))
}

/// A value that is none of a fixed set.
pub(super) fn not_in_set(member: &str, value: &str, set: &[&str]) -> ApiError {
    let rule = format!("Member must satisfy enum value set: [{}]", set.join(", "));
    broken(member, quoted(value), &rule)
}

/// `MaxResults`, or `default` if it is not given.
///
/// # Errors
/// `ValidationException`.
pub(super) fn page_size(
    given: Option<i64>,
    allowed: RangeInclusive<i64>,
    default: usize,
) -> Result<usize, ApiError> {
    let Some(size) = given else {
        return Ok(default);
    };
    range("maxResults", size, allowed)?;
    Ok(usize::try_from(size).unwrap_or(default))
}

/// A page token of `operation` around a store's cursor.
pub(super) fn page_token(operation: &str, cursor: &str) -> String {
    URL_SAFE_NO_PAD.encode(format!("{operation}:{cursor}"))
}

/// The store's cursor in a page token of `operation`.
///
/// # Errors
/// `InvalidNextToken`.
pub(super) fn cursor(operation: &str, token: Option<&str>) -> Result<Option<String>, ApiError> {
    let Some(token) = token else { return Ok(None) };
    let bytes = URL_SAFE_NO_PAD.decode(token).map_err(|_| invalid_token())?;
    let text = String::from_utf8(bytes).map_err(|_| invalid_token())?;
    let cursor = text
        .strip_prefix(operation)
        .and_then(|rest| rest.strip_prefix(':'))
        .ok_or_else(invalid_token)?;
    Ok(Some(cursor.to_owned()))
}

/// A page token that no page gave.
pub(super) fn invalid_token() -> ApiError {
    ApiError::new("InvalidNextToken", "The specified token isn't valid.")
}

fn quoted(value: impl Display) -> String {
    format!("'{value}'")
}

fn broken(member: &str, value: impl Display, rule: &str) -> ApiError {
    ApiError::validation(format!(
        "1 validation error detected: Value {value} at '{member}' failed to satisfy constraint: {rule}"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn broken_constraints_are_told_in_the_words_of_aws() {
        let error = length("target", "", 1..=400).unwrap_err();
        assert_eq!(error.code(), "ValidationException");
        assert_eq!(
            error.message(),
            "1 validation error detected: Value '' at 'target' failed to satisfy constraint: \
             Member must have length greater than or equal to 1"
        );
        assert!(length("target", "é", 1..=1).is_ok());
        assert!(
            required::<()>("target", None)
                .unwrap_err()
                .message()
                .contains("Value null at 'target'")
        );
        assert!(range("maxResults", 51, 5..=50).is_err());
        assert!(matches("documentName", "no spaces", &DOCUMENT_NAME).is_err());
        assert!(matches("key", "Größe 1", &LABEL).is_ok());
    }

    #[test]
    fn page_token_is_good_for_its_own_operation_only() {
        let token = page_token("DescribeSessions", "42");

        assert_eq!(
            cursor("DescribeSessions", Some(&token)).unwrap().as_deref(),
            Some("42")
        );
        assert_eq!(cursor("DescribeSessions", None).unwrap(), None);
        for (operation, token) in [
            ("DescribeActivations", token.as_str()),
            ("DescribeSessions", "not base64!"),
            ("DescribeSessions", "AAAA"),
        ] {
            assert_eq!(
                cursor(operation, Some(token)).unwrap_err().code(),
                "InvalidNextToken"
            );
        }
    }
}

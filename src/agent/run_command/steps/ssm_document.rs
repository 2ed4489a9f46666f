//! Getting a document of Systems Manager.

use serde::{Deserialize, Serialize};

use crate::aws::{CallError, Client};

/// What names a document: `name`, `name:version`, or its ARN, also with a version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct DocumentName {
    name: String,
    version: Option<String>,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Request<'a> {
    name: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    document_version: Option<&'a str>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Answer {
    #[serde(default)]
    content: String,
}

impl DocumentName {
    /// Reads it. The version is what follows a colon after the last slash.
    pub(super) fn parse(text: &str) -> Self {
        let last = text.rfind('/').map_or(0, |at| at + 1);
        match text[last..].split_once(':') {
            Some((base, version)) => Self {
                name: format!("{}{base}", &text[..last]),
                version: Some(version.to_owned()).filter(|version| !version.is_empty()),
            },
            None => Self {
                name: text.to_owned(),
                version: None,
            },
        }
    }

    /// The name without an ARN around it.
    pub(super) fn base(&self) -> &str {
        self.name.rsplit('/').next().unwrap_or(&self.name)
    }
}

/// Gets its content.
pub(super) async fn get(client: &Client, name: &DocumentName) -> Result<String, CallError> {
    let request = Request {
        name: &name.name,
        document_version: name.version.as_deref(),
    };
    let answer: Answer = client.ssm("GetDocument", &request).await?;
    Ok(answer.content)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_have_versions_and_arns() {
        let arn = "arn:aws:ssm:us-east-1:111122223333:document/Doc";
        for (text, name, version, base) in [
            ("Doc", "Doc", None, "Doc"),
            ("Doc:3", "Doc", Some("3"), "Doc"),
            ("Doc:$LATEST", "Doc", Some("$LATEST"), "Doc"),
            ("Doc:", "Doc", None, "Doc"),
            (arn, arn, None, "Doc"),
            (&format!("{arn}:2"), arn, Some("2"), "Doc"),
        ] {
            let parsed = DocumentName::parse(text);
            assert_eq!(
                (parsed.name.as_str(), parsed.version.as_deref()),
                (name, version)
            );
            assert_eq!(parsed.base(), base);
        }
    }
}

//! The files of a package: where CreateDocument and UpdateDocument say that they are.
//!
//! | key | value |
//! |---|---|
//! | `SourceUrl` | a folder that has all of them |
//! | `S3FileUrl` | one of them; `Name` says which, if its URL does not end so |
//! | `AttachmentReference` | `document/version/name`: one of another document |
//!
//! What the gateway has itself (by its digest) comes from the gateway, whatever is said. The gateway
//! fetches nothing: hosts get everything else from where it is, and check its digest.

use serde::Deserialize;
use serde_json::Value;
use url::Url;

use super::super::super::ApiState;
use super::super::super::answer::ApiError;
use super::super::super::validation::not_in_set;
use super::content::invalid;
use super::find::find;
use super::get::number;
use super::package_schema::{File, files};
use crate::gateway::store::documents::{Attachment, VersionSelector};

const KEYS: [&str; 3] = ["SourceUrl", "S3FileUrl", "AttachmentReference"];
/// Most of them, by the model.
const SOURCES: usize = 20;

/// AWS's AttachmentsSource.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct AttachmentsSource {
    key: Option<String>,
    #[serde(default)]
    values: Vec<String>,
    name: Option<String>,
}

/// A source that was understood.
enum Source {
    Folder(Url),
    File { name: String, url: Url },
    Reference(Attachment),
}

/// Finds the files of the manifest `content`.
///
/// # Errors
/// `ValidationException`, `InvalidDocumentContent` if one is nowhere.
pub(super) async fn attach(
    state: &ApiState,
    content: &Value,
    given: Vec<AttachmentsSource>,
) -> Result<Vec<Attachment>, ApiError> {
    if given.len() > SOURCES {
        let text = format!("at most {SOURCES} attachments are allowed");
        return Err(ApiError::validation(text));
    }
    let mut sources = Vec::new();
    for source in given {
        sources.push(understand(state, source).await?);
    }
    let Value::Object(members) = content else {
        return Err(invalid("The content must be an object.".into()));
    };
    let mut attachments = Vec::new();
    for file in files(members)? {
        attachments.push(place(state, file, &sources).await?);
    }
    Ok(attachments)
}

async fn place(state: &ApiState, file: File, sources: &[Source]) -> Result<Attachment, ApiError> {
    let stored = state.attachments.length(&file.sha256).await;
    let stored = stored.map_err(|error| ApiError::internal(&error))?;
    if let Some(length) = stored {
        let name = &file.name;
        if file.size.is_some_and(|size| size != length) {
            let text = format!("File {name} has {length} bytes, the manifest says otherwise.");
            return Err(invalid(text));
        }
        return Ok(Attachment {
            name: file.name,
            sha256: file.sha256,
            size: length,
            url: None,
        });
    }
    let found = sources.iter().find_map(|source| match source {
        Source::File { name, url } if *name == file.name => Some(url.clone()),
        Source::Reference(attachment) if is_same(attachment, &file) => attachment
            .url
            .as_deref()
            .and_then(|url| Url::parse(url).ok()),
        Source::Folder(_) | Source::File { .. } | Source::Reference(_) => None,
    });
    let folder = || {
        let mut folders = sources.iter().filter_map(|source| match source {
            Source::Folder(url) => Some(url),
            Source::File { .. } | Source::Reference(_) => None,
        });
        let mut url = folders.next()?.clone();
        url.path_segments_mut()
            .ok()?
            .pop_if_empty()
            .push(&file.name);
        Some(url)
    };
    let url = found.or_else(folder);
    let url = url.filter(|url| !state.attachments.is_own(url));
    let Some(url) = url else {
        let text = format!(
            "The file {} is nowhere: no attachment names it, and the gateway has none with its checksum.",
            file.name
        );
        return Err(invalid(text));
    };
    Ok(Attachment {
        name: file.name,
        sha256: file.sha256,
        size: file.size.unwrap_or(0),
        url: Some(url.to_string()),
    })
}

fn is_same(attachment: &Attachment, file: &File) -> bool {
    attachment.name == file.name && attachment.sha256 == file.sha256
}

async fn understand(state: &ApiState, given: AttachmentsSource) -> Result<Source, ApiError> {
    let key = given.key.unwrap_or_default();
    if !KEYS.contains(&key.as_str()) {
        return Err(not_in_set("attachments", &key, &KEYS));
    }
    let [value] = given.values.as_slice() else {
        let text = format!("An attachment {key} must have one value.");
        return Err(ApiError::validation(text));
    };
    match key.as_str() {
        "SourceUrl" => parse(value).map(Source::Folder),
        "S3FileUrl" => {
            let url = parse(value)?;
            let last = url.path_segments().and_then(|mut path| path.next_back());
            let name = given.name.or_else(|| last.map(str::to_owned));
            Ok(Source::File {
                name: name.unwrap_or_default(),
                url,
            })
        }
        _ => reference(state, value).await.map(Source::Reference),
    }
}

async fn reference(state: &ApiState, value: &str) -> Result<Attachment, ApiError> {
    let mut parts = value.rsplitn(3, '/');
    let (Some(name), Some(version), Some(document)) = (parts.next(), parts.next(), parts.next())
    else {
        let text = "An attachment AttachmentReference must be document/version/name.";
        return Err(ApiError::validation(text));
    };
    let selector = VersionSelector::Number(number(version)?);
    let found = find(state, document, selector).await?;
    let mut attachments = found.version.attachments.into_iter();
    attachments
        .find(|attachment| attachment.name == name)
        .ok_or_else(|| {
            let text = format!("Document {document} has no attachment {name}.");
            ApiError::validation(text)
        })
}

/// A URL that hosts can use; one of S3's own becomes one of its API.
fn parse(text: &str) -> Result<Url, ApiError> {
    let refused = || ApiError::validation(format!("{text:?} is no URL of https, http or s3."));
    let url = Url::parse(text).map_err(|_| refused())?;
    match url.scheme() {
        "https" | "http" => Ok(url),
        "s3" => {
            let bucket = url.host_str().ok_or_else(refused)?;
            let path = url.path();
            Url::parse(&format!("https://s3.amazonaws.com/{bucket}{path}")).map_err(|_| refused())
        }
        _ => Err(refused()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_of_s3_become_those_of_its_api() {
        for (given, url) in [
            (
                "s3://my-bucket/a/b.zip",
                Some("https://s3.amazonaws.com/my-bucket/a/b.zip"),
            ),
            ("https://h/a", Some("https://h/a")),
            ("http://h/a", Some("http://h/a")),
            ("file:///etc/passwd", None),
            ("a.zip", None),
        ] {
            assert_eq!(
                parse(given).ok().map(|url| url.to_string()).as_deref(),
                url,
                "{given}"
            );
        }
    }
}

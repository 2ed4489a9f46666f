//! Where packages come from. There are two services: packages of documents, and those of a service of
//! their own, which AWS's packages come from.
//!
//! | package | its manifest | its files |
//! |---|---|---|
//! | of a document | the content that `GetDocument` gives | the attachments of the same answer |
//! | of the package service | `GetManifest` | places that the manifest names |

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tracing::debug;
use url::Url;

use super::platform::OperatingSystem;
use crate::aws::{CallError, Client};
use crate::protocol::wire::manifest::{FileInfo, Manifest};
use crate::runtime::backoff::Backoff;
use crate::runtime::cause::in_one_line;

/// Longest digest or name that is shown of what a service answered.
const SHOWN: usize = 200;
/// How often a call is made again that the service has no time for, beside the client's own attempts.
const THROTTLED: u32 = 3;
/// Waits between those; a fleet that installs at a time comes at different times then.
const FIRST_WAIT: std::time::Duration = std::time::Duration::from_secs(2);
const LONGEST_WAIT: std::time::Duration = std::time::Duration::from_secs(60);

/// Which service a package comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Kind {
    Document,
    Package,
}

/// A version of a package that a service has.
#[derive(Debug, Clone)]
pub(super) struct Offer {
    pub(super) kind: Kind,
    /// What it was asked for by.
    name: String,
    /// The package's name on this host.
    pub(super) package: String,
    /// The version by its manifest.
    pub(super) version: String,
    pub(super) manifest: Manifest,
    /// The manifest as it came.
    pub(super) text: String,
    /// What its manifest is kept by: the number of the document's version, or the version.
    pub(super) kept_as: String,
    attachments: Vec<Attachment>,
}

/// A file to download.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Source {
    pub(super) url: Url,
    /// SHA-256 of its content in hexadecimal digits.
    pub(super) sha256: String,
    pub(super) size: Option<u64>,
}

/// The package services.
#[derive(Debug, Clone)]
pub(super) struct Service<'a> {
    pub(super) client: &'a Client,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct ManifestAnswer {
    #[serde(default)]
    manifest: String,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct DescribeAnswer {
    document: Described,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Described {
    #[serde(default)]
    status: String,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Document {
    #[serde(default)]
    name: String,
    #[serde(default)]
    document_version: String,
    #[serde(default)]
    status: String,
    #[serde(default)]
    content: String,
    #[serde(default)]
    attachments_content: Vec<Attachment>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Attachment {
    name: String,
    hash: String,
    hash_type: String,
    url: String,
}

impl Service<'_> {
    /// Finds a version of the package `name`, the newest if none is given; the error is the text for the
    /// reply.
    pub(super) async fn find(&self, name: &str, version: Option<&str>) -> Result<Offer, String> {
        let is_of_the_service = |version: &str| {
            let allowed = |c: char| c.is_ascii_alphanumeric() || c == '.';
            !version.is_empty() && version.chars().all(allowed)
        };
        if is_document_arn(name) || version.is_some_and(|version| !is_of_the_service(version)) {
            return self.document(name, version).await;
        }
        let request = json!({"PackageName": name, "PackageVersion": version.unwrap_or("latest")});
        match self.call::<ManifestAnswer>("GetManifest", &request).await {
            Ok(answer) => of_service(name, answer),
            Err(error) if error.code() == Some("ResourceNotFoundException") => {
                self.document(name, version).await
            }
            Err(error) => Err(format!(
                "failed to download manifest - failed to retrieve manifest: {}",
                in_one_line(&error)
            )),
        }
    }

    /// Asks again for what `offer` is, or for another version of its package.
    pub(super) async fn find_again(&self, offer: &Offer, version: &str) -> Result<Offer, String> {
        match offer.kind {
            Kind::Document => self.document(&offer.name, Some(version)).await,
            Kind::Package => self.find(&offer.name, Some(version)).await,
        }
    }

    async fn document(&self, name: &str, version: Option<&str>) -> Result<Offer, String> {
        let failed = |text: String| format!("failed to download manifest - {text}");
        let mut request = json!({"Name": name});
        if let Some(version) = version {
            request["VersionName"] = version.into();
        }
        let described: DescribeAnswer =
            self.call("DescribeDocument", &request)
                .await
                .map_err(|error| {
                    let error = in_one_line(&error);
                    failed(format!(
                        "failed to retrieve package document description: {error}"
                    ))
                })?;
        is_active(&described.document.status).map_err(failed)?;
        let document: Document = self.call("GetDocument", &request).await.map_err(|error| {
            let error = in_one_line(&error);
            failed(format!("failed to retrieve package document: {error}"))
        })?;
        is_active(&document.status).map_err(failed)?;
        of_document(name, document).map_err(failed)
    }

    async fn call<R: serde::de::DeserializeOwned>(
        &self,
        operation: &str,
        request: &Value,
    ) -> Result<R, CallError> {
        let mut backoff = Backoff::new(FIRST_WAIT, LONGEST_WAIT);
        let mut left = THROTTLED;
        loop {
            match self.client.ssm(operation, request).await {
                Err(error) if error.is_transient_refusal() && left > 0 => {
                    debug!(operation, %error, "the service has no time, asking again later");
                    left -= 1;
                    tokio::time::sleep(backoff.next_wait()).await;
                }
                answer => return answer,
            }
        }
    }
}

fn of_service(name: &str, answer: ManifestAnswer) -> Result<Offer, String> {
    let manifest = read(&answer.manifest)?;
    let package = match manifest.package_arn.as_str() {
        "" => name.to_owned(),
        arn => arn.to_owned(),
    };
    Ok(Offer {
        kind: Kind::Package,
        name: name.to_owned(),
        package,
        version: manifest.version.clone(),
        kept_as: manifest.version.clone(),
        text: answer.manifest,
        manifest,
        attachments: Vec::new(),
    })
}

fn of_document(name: &str, document: Document) -> Result<Offer, String> {
    if document.name.is_empty() {
        return Err("document name cannot be empty".into());
    }
    if document.content.is_empty() {
        return Err("failed to retrieve manifest from package document".into());
    }
    if document.document_version.is_empty() {
        return Err("document version cannot be nil".into());
    }
    let manifest = read(&document.content)?;
    Ok(Offer {
        kind: Kind::Document,
        name: name.to_owned(),
        package: document.name,
        version: manifest.version.clone(),
        kept_as: document.document_version,
        text: document.content,
        manifest,
        attachments: document.attachments_content,
    })
}

fn read(text: &str) -> Result<Manifest, String> {
    let manifest = Manifest::read(text).map_err(|error| error.to_string())?;
    if manifest.version.is_empty() {
        return Err("failed to decode manifest: it has no version".into());
    }
    Ok(manifest)
}

fn is_active(status: &str) -> Result<(), String> {
    if status == "Active" {
        return Ok(());
    }
    let status: String = status.chars().take(SHOWN).collect();
    Err(format!(
        "package document is not currently active, kindly retry when the status is active. Current document status - {status}"
    ))
}

fn is_document_arn(name: &str) -> bool {
    let resource = name
        .strip_prefix("arn:")
        .and_then(|rest| rest.rsplit(':').next());
    resource.is_some_and(|resource| resource.starts_with("document/"))
}

impl Offer {
    /// Where the file for `host` is; the error is the text for the reply.
    pub(super) fn source(&self, host: &OperatingSystem) -> Result<Source, String> {
        let (name, info) = self
            .manifest
            .file(&host.platform, &host.version, host.architecture)
            .map_err(|error| error.to_string())?;
        match self.kind {
            Kind::Package => source(&info.download_location, info, None),
            Kind::Document => {
                let mut attachments = self.attachments.iter();
                let attachment = attachments.find(|attachment| attachment.name == name);
                let attachment = attachment
                    .ok_or("Install attachments for package does not exist".to_owned())?;
                source(&attachment.url, info, Some(attachment))
            }
        }
    }
}

/// The manifest's digest counts, and where it has none, that of the service. What has none at all is
/// not installed.
fn source(url: &str, info: &FileInfo, attachment: Option<&Attachment>) -> Result<Source, String> {
    let of_attachment = attachment
        .filter(|attachment| attachment.hash_type.eq_ignore_ascii_case("sha256"))
        .map(|attachment| attachment.hash.as_str())
        .filter(|hash| !hash.is_empty());
    let sha256 = info
        .sha256()
        .or(of_attachment)
        .ok_or("the manifest has no sha256 checksum of the package's file")?;
    let url = Url::parse(url)
        .map_err(|error| format!("the place of the package's file is no URL: {error}"))?;
    Ok(Source {
        url,
        sha256: sha256.to_ascii_lowercase(),
        size: info.size(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::aws::tests::server::{Reply, TestServer};

    fn manifest() -> String {
        json!({
            "version": "1.0", "packageArn": "arn:aws:ssm:::package/X",
            "packages": {"_any": {"_any": {"_any": {"file": "x.zip"}}}},
            "files": {"x.zip": {"checksums": {"sha256": "AB"}, "size": 3, "downloadLocation": "https://h/x.zip"}},
        })
        .to_string()
    }

    fn document(status: &str) -> Reply {
        Reply::json(
            &json!({
                "Name": "X", "DocumentVersion": "7", "Status": status, "Content": manifest(),
                "Document": {"Status": status},
                "AttachmentsContent": [{"Name": "x.zip", "Url": "https://gw/x?token=1", "HashType": "Sha256", "Hash": "cd"}],
            })
            .to_string(),
        )
    }

    fn host() -> OperatingSystem {
        OperatingSystem::of_this_host().unwrap()
    }

    #[tokio::test]
    async fn package_of_the_service_is_found_there() {
        let server =
            TestServer::start(|_, _| Reply::json(&json!({"Manifest": manifest()}).to_string()))
                .await;
        let client = server.client();

        let offer = Service { client: &client }.find("X", None).await.unwrap();

        assert_eq!(
            (offer.kind, offer.package.as_str()),
            (Kind::Package, "arn:aws:ssm:::package/X")
        );
        assert_eq!(
            (offer.version.as_str(), offer.kept_as.as_str()),
            ("1.0", "1.0")
        );
        let source = offer.source(&host()).unwrap();
        assert_eq!(
            (source.url.as_str(), source.sha256.as_str(), source.size),
            ("https://h/x.zip", "ab", Some(3))
        );
        assert_eq!(
            server.seen()[0].json(),
            json!({"PackageName": "X", "PackageVersion": "latest"})
        );
    }

    #[tokio::test]
    async fn package_that_the_service_does_not_know_is_a_document() {
        let server = TestServer::start(|_, seen| match seen.operation() {
            "GetManifest" => Reply::refusal("ResourceNotFoundException"),
            _ => document("Active"),
        })
        .await;
        let client = server.client();

        let offer = Service { client: &client }
            .find("X", Some("1.0"))
            .await
            .unwrap();

        assert_eq!(
            (offer.kind, offer.package.as_str(), offer.kept_as.as_str()),
            (Kind::Document, "X", "7")
        );
        assert_eq!(
            offer.source(&host()).unwrap().url.as_str(),
            "https://gw/x?token=1"
        );
        let asked: Vec<String> = server
            .seen()
            .iter()
            .map(|seen| seen.operation().to_owned())
            .collect();
        assert_eq!(asked, ["GetManifest", "DescribeDocument", "GetDocument"]);
        assert_eq!(
            server.seen()[2].json(),
            json!({"Name": "X", "VersionName": "1.0"})
        );
    }

    #[tokio::test]
    async fn names_and_versions_that_only_documents_have_are_not_asked_for_elsewhere() {
        let server = TestServer::start(|_, _| document("Active")).await;
        let client = server.client();
        let service = Service { client: &client };

        service
            .find("arn:aws:ssm:us-east-1:1:document/X", None)
            .await
            .unwrap();
        service.find("X", Some("1.0-rc")).await.unwrap();

        assert!(
            server
                .seen()
                .iter()
                .all(|seen| seen.operation() != "GetManifest")
        );
    }

    #[tokio::test]
    async fn refusals_and_documents_that_are_not_ready_are_told() {
        for (operation, answer, text) in [
            (
                "GetManifest",
                "AccessDeniedException",
                "failed to retrieve manifest: ",
            ),
            (
                "DescribeDocument",
                "InvalidDocument",
                "failed to retrieve package document description: ",
            ),
            (
                "GetDocument",
                "InvalidDocument",
                "failed to retrieve package document: ",
            ),
            ("DescribeDocument", "", "Current document status - Creating"),
        ] {
            let server = TestServer::start(move |_, seen| match seen.operation() {
                asked if asked == operation && answer.is_empty() => document("Creating"),
                asked if asked == operation => Reply::refusal(answer),
                "GetManifest" => Reply::refusal("ResourceNotFoundException"),
                _ => document("Active"),
            })
            .await;
            let client = server.client();

            let error = Service { client: &client }
                .find("X", None)
                .await
                .unwrap_err();

            assert!(
                error.starts_with("failed to download manifest - ") && error.contains(text),
                "{error}"
            );
        }
    }

    #[test]
    fn file_without_a_digest_is_not_taken() {
        let info = FileInfo::default();
        let weak = Attachment {
            hash: "1".into(),
            hash_type: "Md5".into(),
            ..Attachment::default()
        };
        let strong = Attachment {
            hash: "AB".into(),
            hash_type: "Sha256".into(),
            ..Attachment::default()
        };

        assert!(
            source("https://h/x", &info, None)
                .unwrap_err()
                .contains("no sha256")
        );
        assert!(source("https://h/x", &info, Some(&weak)).is_err());
        assert_eq!(
            source("https://h/x", &info, Some(&strong)).unwrap().sha256,
            "ab"
        );
    }
}

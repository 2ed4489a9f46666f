//! Brings the file of a package to this host: from S3 with the node's credentials, or over HTTPS.

use std::path::Path;

use aws_lc_rs::digest::{Context, SHA256};
use http::HeaderMap;
use tokio::fs::File;
use tokio::io::AsyncWriteExt as _;
use url::Url;

use super::super::download::Location;
use super::repository::hex;
use super::service::Source;
use crate::aws::{
    BucketName, CallError, Client, Download, FetchError as PlainError, HttpError, ObjectKey,
    S3Endpoint,
};

/// Longest file whose length the manifest does not tell.
const LIMIT: u64 = 20 << 30;

/// Why a file is not here.
#[derive(Debug, thiserror::Error)]
pub(super) enum FetchError {
    #[error("only https and S3 are taken")]
    Insecure,
    #[error(transparent)]
    S3(#[from] CallError),
    #[error(transparent)]
    Plain(#[from] PlainError),
    #[error("the server answered with status {0}")]
    Status(u16),
    #[error("it broke off")]
    Broken(#[from] HttpError),
    #[error("it is longer than {0} bytes")]
    TooLong(u64),
    #[error("it has {got} bytes, the manifest says {expected}")]
    Length { expected: u64, got: u64 },
    #[error("failed to verify its checksum: its sha256 is {got}, the manifest says {expected}")]
    Checksum { expected: String, got: String },
    #[error("it cannot be written")]
    Write(#[from] std::io::Error),
}

/// Brings what `source` names to `path`.
pub(super) async fn fetch(client: &Client, source: &Source, path: &Path) -> Result<(), FetchError> {
    let mut download = open(client, &source.url).await?;
    let limit = source.size.unwrap_or(LIMIT);
    if download.length().is_some_and(|length| length > limit) {
        return Err(FetchError::TooLong(limit));
    }
    let mut file = create(path).await?;
    let mut context = Context::new(&SHA256);
    let mut length: u64 = 0;
    while let Some(piece) = download.next().await? {
        length = length.saturating_add(piece.len() as u64);
        if length > limit {
            return Err(FetchError::TooLong(limit));
        }
        context.update(&piece);
        file.write_all(&piece).await?;
    }
    file.flush().await?;
    if let Some(expected) = source.size.filter(|expected| *expected != length) {
        return Err(FetchError::Length {
            expected,
            got: length,
        });
    }
    let got = hex(context.finish().as_ref());
    if got != source.sha256 {
        return Err(FetchError::Checksum {
            expected: source.sha256.clone(),
            got,
        });
    }
    Ok(())
}

async fn create(path: &Path) -> std::io::Result<File> {
    let mut options = File::options();
    options
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(path)
        .await
}

/// S3 is asked with a signature first, unless the URL carries its own; what it refuses may be public.
async fn open(client: &Client, url: &Url) -> Result<Download, FetchError> {
    let place = s3_place(url, &client.endpoints().s3).filter(|_| !is_presigned(url));
    let is_secure = url.scheme() == "https";
    let refused = match place {
        Some((bucket, key)) => match object(client, bucket, &key).await {
            Ok(download) => return Ok(download),
            Err(error) => Some(error),
        },
        None => None,
    };
    match refused {
        Some(error) if !is_secure => return Err(error.into()),
        None if !is_secure => return Err(FetchError::Insecure),
        Some(_) | None => {}
    }
    let download = client.fetch(url, &HeaderMap::new(), false).await?;
    match (download.status().as_u16(), refused) {
        (200, _) => Ok(download),
        (_, Some(error)) => Err(error.into()),
        (status, None) => Err(FetchError::Status(status)),
    }
}

async fn object(
    client: &Client,
    bucket: BucketName,
    key: &ObjectKey,
) -> Result<Download, CallError> {
    client.bucket(bucket).await?.get_object(key).await
}

fn is_presigned(url: &Url) -> bool {
    let mut names = url.query_pairs();
    names.any(|(name, _)| name == "X-Amz-Signature" || name == "Signature")
}

/// Bucket and key of a URL of S3.
fn s3_place(url: &Url, endpoint: &S3Endpoint) -> Option<(BucketName, ObjectKey)> {
    let location = Location::parse(url.as_str(), endpoint)?;
    let bucket = BucketName::new(&location.bucket).ok()?;
    Some((bucket, ObjectKey::exact(&location.key).ok()?))
}

#[cfg(test)]
mod tests {
    use aws_lc_rs::digest::digest;

    use super::*;
    use crate::aws::Endpoints;
    use crate::aws::tests::server::{Reply, Seen, TestServer};

    const CONTENT: &str = "the content of a package";

    fn source(url: &str) -> Source {
        Source {
            url: url.parse().unwrap(),
            sha256: hex(digest(&SHA256, CONTENT.as_bytes()).as_ref()),
            size: Some(CONTENT.len() as u64),
        }
    }

    async fn serve(answer: impl Fn(&Seen) -> Reply + Send + Sync + 'static) -> TestServer {
        TestServer::start_tls(move |_, seen| answer(seen)).await
    }

    fn found() -> Reply {
        Reply(200, vec![], CONTENT.into())
    }

    struct Target(tempfile::TempDir);

    impl Target {
        fn new() -> Self {
            Self(tempfile::tempdir().unwrap())
        }

        async fn fetch(&self, server: &TestServer, source: &Source) -> Result<String, FetchError> {
            let path = self.0.path().join("file");
            fetch(&server.client(), source, &path).await?;
            Ok(std::fs::read_to_string(path).unwrap())
        }
    }

    #[tokio::test]
    async fn file_comes_over_https() {
        let server = serve(|_| found()).await;
        // Without a bucket in its path it is no place of S3.
        let url = format!("https://{}/x.zip?token=1", server.address);

        let got = Target::new().fetch(&server, &source(&url)).await.unwrap();

        assert_eq!(got, CONTENT);
        assert_eq!(server.seen()[0].query, "token=1");
        assert!(server.seen()[0].header("authorization").is_empty());
    }

    #[tokio::test]
    async fn object_is_asked_for_with_a_signature_and_if_refused_without() {
        let server = serve(|seen| {
            if seen.header("authorization").is_empty() {
                found()
            } else {
                Reply(403, vec![], String::new())
            }
        })
        .await;
        let url = format!("https://{}/bucket/a%20b/x.zip", server.address);

        let got = Target::new().fetch(&server, &source(&url)).await.unwrap();

        assert_eq!(got, CONTENT);
        let paths: Vec<String> = server.seen().iter().map(|seen| seen.path.clone()).collect();
        assert!(
            paths.contains(&"/bucket/a%20b/x.zip".to_owned()),
            "{paths:?}"
        );
        assert!(!server.seen()[0].header("authorization").is_empty());
    }

    #[tokio::test]
    async fn presigned_url_is_used_as_it_is() {
        let server = serve(|_| found()).await;
        let url = format!("https://{}/bucket/x.zip?X-Amz-Signature=1", server.address);

        Target::new().fetch(&server, &source(&url)).await.unwrap();

        let seen = server.seen();
        assert_eq!(
            (seen.len(), seen[0].query.as_str()),
            (1, "X-Amz-Signature=1")
        );
        assert!(seen[0].header("authorization").is_empty());
    }

    #[tokio::test]
    async fn what_is_not_what_the_manifest_says_is_refused() {
        let server = serve(|_| found()).await;
        let good = source(&format!("https://{}/b/x", server.address));
        let target = Target::new();
        for (source, text) in [
            (
                Source {
                    size: Some(3),
                    ..good.clone()
                },
                "it is longer than 3 bytes",
            ),
            (
                Source {
                    size: Some(300),
                    ..good.clone()
                },
                "it has 24 bytes, the manifest says 300",
            ),
            (
                Source {
                    sha256: "ab".into(),
                    size: None,
                    ..good
                },
                "failed to verify its checksum: its sha256 is ",
            ),
        ] {
            let error = target.fetch(&server, &source).await.unwrap_err();
            assert!(error.to_string().starts_with(text), "{error}");
        }
    }

    #[tokio::test]
    async fn plain_http_is_taken_from_the_configured_s3_alone() {
        let server = TestServer::start(|_, _| found()).await;
        let at_s3 = source(&format!("http://{}/bucket/x.zip", server.address));
        let elsewhere = source("http://127.0.0.2:9/x.zip");

        assert!(Target::new().fetch(&server, &at_s3).await.is_ok());
        let refused = Target::new().fetch(&server, &elsewhere).await.unwrap_err();
        assert!(matches!(refused, FetchError::Insecure));
    }

    #[tokio::test]
    async fn status_other_than_success_is_told() {
        let server = serve(|_| Reply(404, vec![], "not here".into())).await;
        let source = source(&format!("https://{}/x?Signature=1", server.address));

        let refused = Target::new().fetch(&server, &source).await.unwrap_err();

        assert!(matches!(refused, FetchError::Status(404)));
    }

    #[test]
    fn urls_of_s3_are_known() {
        let endpoint = Endpoints::for_region("eu-central-1", None).unwrap().s3;
        for (url, place) in [
            (
                "https://b-1.s3.eu-central-1.amazonaws.com/a/b%2Bc.zip",
                Some(("b-1", "a/b+c.zip")),
            ),
            ("https://s3.amazonaws.com/b-1/x/y", Some(("b-1", "x/y"))),
            ("https://example.org/b-1/x", None),
            ("https://s3.amazonaws.com/b-1", None),
            ("https://s3.amazonaws.com/B_1/x", None),
        ] {
            let found = s3_place(&url.parse().unwrap(), &endpoint);
            let found = found
                .as_ref()
                .map(|(bucket, key)| (bucket.as_str(), key.as_str()));
            assert_eq!(found, place, "{url}");
        }
    }
}

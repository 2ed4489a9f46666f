//! The operations of S3 that read what is there.

use bytes::Bytes;
use http::Method;

use super::names::encode;
use super::{Bucket, ObjectKey, xml};
use crate::aws::client::Download;
use crate::aws::error::CallError;
use crate::aws::retry::Attempts;

/// Some of the objects of a bucket, in the order of their keys.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listing {
    /// Their keys, as S3 has them.
    pub keys: Vec<String>,
    /// Gets those that follow.
    pub next: Option<String>,
}

impl Bucket {
    /// Lists the objects whose keys begin with `prefix`, a thousand at most, from the start or from
    /// where another listing ended.
    ///
    /// # Errors
    /// [`CallError`].
    pub async fn list(&self, prefix: &str, after: Option<&str>) -> Result<Listing, CallError> {
        const OPERATION: &str = "ListObjectsV2";
        const ROOT: &str = "ListBucketResult";
        let after = after.map(|token| format!("continuation-token={}&", encode(token)));
        let target = format!(
            "?{}list-type=2&prefix={}",
            after.unwrap_or_default(),
            encode(prefix)
        );
        let draft = self.draft(OPERATION, Method::GET, &target, Bytes::new())?;
        let answer = self.call(&draft).await?.into_body();
        let has_more = xml::text(OPERATION, &answer, &[ROOT, "IsTruncated"])?;
        let next = xml::text(OPERATION, &answer, &[ROOT, "NextContinuationToken"])?;
        Ok(Listing {
            keys: xml::texts(OPERATION, &answer, &[ROOT, "Contents", "Key"])?,
            next: next.filter(|_| has_more.as_deref() == Some("true")),
        })
    }

    /// Gets an object.
    ///
    /// # Errors
    /// [`CallError`].
    pub async fn get_object(&self, key: &ObjectKey) -> Result<Download, CallError> {
        const OPERATION: &str = "GetObject";
        let draft = self.draft(OPERATION, Method::GET, &key.encoded(), Bytes::new())?;
        self.client
            .open(&draft, self.authority(), Attempts::of(OPERATION))
            .await
    }
}

#[cfg(test)]
mod tests {
    use super::super::BucketName;
    use super::super::tests::{key, ok, refusal, serve};
    use crate::aws::tests::server::TestServer;

    #[tokio::test]
    async fn objects_are_listed_page_by_page() {
        let (server, bucket) = serve(|count| match count {
            0 => ok("<ListBucketResult><IsTruncated>true</IsTruncated><Contents><Key>a/b</Key></Contents>\
                <Contents><Key>a/ &amp;</Key></Contents><NextContinuationToken>t=1</NextContinuationToken></ListBucketResult>"),
            _ => ok("<ListBucketResult><IsTruncated>false</IsTruncated></ListBucketResult>"),
        })
        .await;

        let first = bucket.list("a/", None).await.unwrap();
        let second = bucket.list("a/", first.next.as_deref()).await.unwrap();

        assert_eq!(first.keys, ["a/b", "a/ &"]);
        assert_eq!((second.keys.len(), second.next), (0, None));
        let seen = server.seen();
        assert_eq!(seen[1].query, "list-type=2&prefix=a%2F");
        assert_eq!(
            seen[2].query,
            "continuation-token=t%3D1&list-type=2&prefix=a%2F"
        );
    }

    #[tokio::test]
    async fn object_comes_in_pieces_and_a_refusal_with_its_code() {
        let (_server, bucket) = serve(|count| match count {
            0 => ok("content"),
            1 => refusal(500, "InternalError"),
            2 => ok("again"),
            _ => refusal(404, "NoSuchKey"),
        })
        .await;

        let got = bucket.get_object(&key()).await.unwrap();
        assert_eq!(&got.bytes(100).await.unwrap()[..], b"content");
        let got = bucket.get_object(&key()).await.unwrap();
        assert_eq!(&got.bytes(100).await.unwrap()[..], b"again");
        let refused = bucket.get_object(&key()).await.unwrap_err();
        assert_eq!(refused.code(), Some("NoSuchKey"));
    }

    #[tokio::test]
    async fn public_bucket_is_asked_without_a_signature() {
        let server = TestServer::start(|_, _| ok("x")).await;
        let name = BucketName::new("my-logs").unwrap();

        let bucket = server.client().public_bucket(name).await.unwrap();
        bucket.get_object(&key()).await.unwrap();

        assert!(
            server
                .seen()
                .iter()
                .all(|seen| seen.header("authorization").is_empty())
        );
    }
}

//! The operations of S3 that go on with an object which is there already. Both take `s3:GetObject`.

use bytes::Bytes;
use http::Method;
use http::header::CONTENT_LENGTH;

use super::names::encode;
use super::{Bucket, ObjectKey, Part, unexpected, xml};
use crate::aws::error::CallError;

impl Bucket {
    /// Makes the first `length` bytes of the object at `key` a part of its successor; at most 5 GiB,
    /// and at least 1.
    ///
    /// # Errors
    /// [`CallError`]; also if the answer's status is a success and its body is not.
    pub async fn copy_part(
        &self,
        key: &ObjectKey,
        upload: &str,
        number: u16,
        length: u64,
    ) -> Result<Part, CallError> {
        const OPERATION: &str = "UploadPartCopy";
        let source = key.encoded();
        let target = format!("{source}?partNumber={number}&uploadId={}", encode(upload));
        let mut draft = self.draft(OPERATION, Method::PUT, &target, Bytes::new())?;
        let source = format!("/{}/{source}", self.name.as_str());
        let last = length.saturating_sub(1);
        draft.headers = vec![
            ("x-amz-copy-source", source),
            ("x-amz-copy-source-range", format!("bytes=0-{last}")),
        ];
        let answer = self.call(&draft).await?;
        let etag = xml::text(OPERATION, answer.body(), &["CopyPartResult", "ETag"])?;
        // S3 sends the status before it knows how the work ends.
        let failed = || CallError::refusal(OPERATION, 500, answer.headers(), answer.body());
        Ok(Part {
            number,
            etag: etag.ok_or_else(failed)?,
        })
    }

    /// How many bytes the object has; none if there is no object.
    ///
    /// # Errors
    /// [`CallError`].
    pub async fn object_length(&self, key: &ObjectKey) -> Result<Option<u64>, CallError> {
        const OPERATION: &str = "HeadObject";
        let draft = self.draft(OPERATION, Method::HEAD, &key.encoded(), Bytes::new())?;
        let answer = match self.call(&draft).await {
            Ok(answer) => answer,
            Err(failure) if failure.status() == Some(404) => return Ok(None),
            Err(failure) => return Err(failure),
        };
        let length = answer.headers().get(CONTENT_LENGTH);
        let length = length.and_then(|length| length.to_str().ok()?.parse().ok());
        length
            .map(Some)
            .ok_or_else(|| unexpected(OPERATION, "it has no length"))
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{key, ok, refusal, serve};
    use crate::aws::tests::server::Reply;

    #[tokio::test]
    async fn beginning_of_an_object_becomes_a_part() {
        let (server, bucket) = serve(|count| match count {
            0 => ok("<CopyPartResult><ETag>\"e\"</ETag></CopyPartResult>"),
            _ => refusal(200, "InternalError"),
        })
        .await;

        let part = bucket.copy_part(&key(), "u/1", 1, 5).await.unwrap();
        let failure = bucket.copy_part(&key(), "u/1", 1, 5).await.unwrap_err();

        assert_eq!((part.number, &*part.etag), (1, "\"e\""));
        assert!(failure.is_transient_refusal());
        let seen = &server.seen()[1];
        assert_eq!(seen.query, "partNumber=1&uploadId=u%2F1");
        assert_eq!(seen.header("x-amz-copy-source"), "/my-logs/pre/s-1%40x.log");
        assert_eq!(seen.header("x-amz-copy-source-range"), "bytes=0-4");
    }

    #[tokio::test]
    async fn length_of_an_object_is_asked_for() {
        let (_server, bucket) = serve(|count| match count {
            0 => Reply(200, vec![("content-length", "7".into())], String::new()),
            1 => Reply(404, vec![], String::new()),
            _ => Reply(403, vec![], String::new()),
        })
        .await;

        assert_eq!(bucket.object_length(&key()).await.unwrap(), Some(7));
        assert_eq!(bucket.object_length(&key()).await.unwrap(), None);
        assert!(bucket.object_length(&key()).await.is_err());
    }
}

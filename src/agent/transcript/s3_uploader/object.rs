//! The object of a record, and the calls that make it.

use bytes::Bytes;

use crate::aws::{Attributes, Bucket, CallError, Encryption, ObjectKey, Part};

/// An object and its place.
#[derive(Debug, Clone)]
pub struct Object {
    /// Its bucket.
    pub bucket: Bucket,
    /// Its key.
    pub key: ObjectKey,
    /// Its media type.
    pub content_type: &'static str,
    /// How the bucket encrypts.
    pub encryption: Option<Encryption>,
}

impl Object {
    /// Stores it whole.
    pub async fn put(&self, text: Bytes) -> Result<(), CallError> {
        self.bucket
            .put_object(&self.key, text, self.attributes())
            .await
    }

    /// Begins its successor with the first `bytes` of it.
    pub async fn go_on(&self, bytes: u64) -> Result<(String, Part), CallError> {
        let upload = self.create().await?;
        match self.bucket.copy_part(&self.key, &upload, 1, bytes).await {
            Ok(copy) => Ok((upload, copy)),
            Err(failure) => Err(self.abandon(&upload, failure).await),
        }
    }

    /// Begins its successor with `text`.
    pub async fn begin_parts(&self, text: Bytes) -> Result<(String, Part), CallError> {
        let upload = self.create().await?;
        match self.part(&upload, 1, text).await {
            Ok(part) => Ok((upload, part)),
            Err(failure) => Err(self.abandon(&upload, failure).await),
        }
    }

    /// Adds a part.
    pub async fn part(&self, upload: &str, number: u16, text: Bytes) -> Result<Part, CallError> {
        self.bucket
            .upload_part(&self.key, upload, number, text)
            .await
    }

    /// Puts the successor in its place.
    pub async fn complete(&self, upload: &str, parts: &[Part]) -> Result<(), CallError> {
        let bucket = &self.bucket;
        bucket
            .complete_multipart_upload(&self.key, upload, parts)
            .await
    }

    /// How long it is.
    pub async fn length(&self) -> Result<Option<u64>, CallError> {
        self.bucket.object_length(&self.key).await
    }

    async fn create(&self) -> Result<String, CallError> {
        let attributes = self.attributes();
        let bucket = &self.bucket;
        bucket.create_multipart_upload(&self.key, attributes).await
    }

    fn attributes(&self) -> Attributes<'_> {
        Attributes {
            content_type: self.content_type,
            encryption: self.encryption.as_ref(),
        }
    }

    /// Deletes an upload that came to nothing. If that fails too, the bucket's lifecycle does it.
    async fn abandon(&self, upload: &str, failure: CallError) -> CallError {
        let aborted = self.bucket.abort_multipart_upload(&self.key, upload).await;
        if let Err(error) = aborted {
            tracing::debug!(%error, "cannot delete an upload in parts");
        }
        failure
    }
}

//! The operations of S3 that uploads of transcripts and downloads of content need.
//!
//! A bucket is addressed by its host name, `bucket.s3.region.domain`, and in the path where its name
//! has a dot, which no certificate covers, or where an endpoint is configured.

mod copy;
mod names;
mod read;
mod xml;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::Bytes;
use http::header::{ETAG, HeaderMap};
use http::{Method, Response};
use md5::{Digest, Md5};
use serde::{Deserialize, Serialize};
use url::Url;

use self::names::encode;
use super::client::{Authority, Client, Draft, Service};
use super::endpoint::S3Endpoint;
use super::error::CallError;
use super::retry::Attempts;

pub use self::names::{BucketName, ObjectKey, S3NameError};
pub use self::read::Listing;

const REGION_HEADER: &str = "x-amz-bucket-region";
/// The owner of the bucket may be another account than that of the node.
const ACL: &str = "bucket-owner-full-control";

/// A bucket whose region is known. Clones share connections.
#[derive(Debug, Clone)]
pub struct Bucket {
    client: Client,
    name: BucketName,
    region: String,
    base: Url,
    /// Whether calls to it carry no signature.
    is_public: bool,
}

/// How a bucket encrypts what is stored in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Encryption {
    /// `AES256`, `aws:kms` or a newer one.
    pub algorithm: String,
    /// The key of KMS, if the bucket names one.
    pub key_id: Option<String>,
}

/// What S3 notes of an object beside its content.
#[derive(Debug, Clone, Copy)]
pub struct Attributes<'a> {
    /// Its media type.
    pub content_type: &'a str,
    /// How it is to be encrypted, if the bucket says.
    pub encryption: Option<&'a Encryption>,
}

/// A part that S3 has.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Part {
    /// From 1 to 10,000.
    pub number: u16,
    /// What S3 called its content.
    pub etag: String,
}

impl Client {
    /// Finds the region of a bucket.
    ///
    /// # Errors
    /// [`CallError`]; the code is `NoSuchBucket` if there is none.
    pub async fn bucket(&self, name: BucketName) -> Result<Bucket, CallError> {
        self.find_bucket(name, false).await
    }

    /// The same for a bucket that everybody may read; calls to it are not signed.
    ///
    /// # Errors
    /// [`CallError`]; the code is `NoSuchBucket` if there is none.
    pub async fn public_bucket(&self, name: BucketName) -> Result<Bucket, CallError> {
        self.find_bucket(name, true).await
    }

    async fn find_bucket(&self, name: BucketName, is_public: bool) -> Result<Bucket, CallError> {
        let home = &self.endpoints().region;
        let base = base(&self.endpoints().s3, &name, home)?;
        let bucket = Bucket {
            client: self.clone(),
            name,
            region: home.clone(),
            base,
            is_public,
        };
        let region = match bucket.head().await {
            Ok(answer) => region_of(answer.headers()),
            // The right to ask is no condition for the right to write.
            Err(failure) if failure.status() == Some(403) => None,
            Err(failure) => return Err(failure),
        };
        match region {
            Some(region) => Ok(Bucket {
                base: base_checked(&bucket, &region)?,
                region,
                ..bucket
            }),
            None => Ok(bucket),
        }
    }
}

impl Bucket {
    /// Its name.
    pub fn name(&self) -> &BucketName {
        &self.name
    }

    /// Its default encryption, if it has one.
    ///
    /// # Errors
    /// [`CallError`].
    pub async fn encryption(&self) -> Result<Option<Encryption>, CallError> {
        const OPERATION: &str = "GetBucketEncryption";
        const DEFAULT: [&str; 3] = [
            "ServerSideEncryptionConfiguration",
            "Rule",
            "ApplyServerSideEncryptionByDefault",
        ];
        let draft = self.draft(OPERATION, Method::GET, "?encryption=", Bytes::new())?;
        let answer = match self.call(&draft).await {
            Ok(answer) => answer.into_body(),
            Err(failure)
                if failure.code() == Some("ServerSideEncryptionConfigurationNotFoundError") =>
            {
                return Ok(None);
            }
            Err(failure) => return Err(failure),
        };
        let find = |name: &str| {
            let [root, rule, default] = DEFAULT;
            xml::text(OPERATION, &answer, &[root, rule, default, name])
        };
        let Some(algorithm) = find("SSEAlgorithm")? else {
            return Ok(None);
        };
        let key_id = find("KMSMasterKeyID")?;
        Ok(Some(Encryption { algorithm, key_id }))
    }

    /// Stores a whole object.
    ///
    /// # Errors
    /// [`CallError`].
    pub async fn put_object(
        &self,
        key: &ObjectKey,
        body: Bytes,
        attributes: Attributes<'_>,
    ) -> Result<(), CallError> {
        let mut draft = self.draft("PutObject", Method::PUT, &key.encoded(), body)?;
        draft.headers = object_headers(attributes);
        draft.headers.insert(0, content_md5(&draft.body));
        self.call(&draft).await.map(drop)
    }

    /// Begins an object that is uploaded in parts; returns the id of the upload.
    ///
    /// # Errors
    /// [`CallError`].
    pub async fn create_multipart_upload(
        &self,
        key: &ObjectKey,
        attributes: Attributes<'_>,
    ) -> Result<String, CallError> {
        const OPERATION: &str = "CreateMultipartUpload";
        let target = format!("{}?uploads=", key.encoded());
        let mut draft = self.draft(OPERATION, Method::POST, &target, Bytes::new())?;
        draft.headers = object_headers(attributes);
        let answer = self.call(&draft).await?.into_body();
        let path = ["InitiateMultipartUploadResult", "UploadId"];
        xml::text(OPERATION, &answer, &path)?.ok_or_else(|| unexpected(OPERATION, "it has no id"))
    }

    /// Stores a part, in place of an earlier one with the same number.
    ///
    /// # Errors
    /// [`CallError`].
    pub async fn upload_part(
        &self,
        key: &ObjectKey,
        upload: &str,
        number: u16,
        body: Bytes,
    ) -> Result<Part, CallError> {
        const OPERATION: &str = "UploadPart";
        let target = format!(
            "{}?partNumber={number}&uploadId={}",
            key.encoded(),
            encode(upload)
        );
        let mut draft = self.draft(OPERATION, Method::PUT, &target, body)?;
        draft.headers = vec![content_md5(&draft.body)];
        let answer = self.call(&draft).await?;
        let etag = answer.headers().get(ETAG);
        let etag = etag.and_then(|etag| etag.to_str().ok());
        let etag = etag.ok_or_else(|| unexpected(OPERATION, "it has no ETag"))?;
        Ok(Part {
            number,
            etag: etag.to_owned(),
        })
    }

    /// Makes an object of parts, which are in the order of their numbers.
    ///
    /// # Errors
    /// [`CallError`]; also if the answer's status is a success and its body is not.
    pub async fn complete_multipart_upload(
        &self,
        key: &ObjectKey,
        upload: &str,
        parts: &[Part],
    ) -> Result<(), CallError> {
        const OPERATION: &str = "CompleteMultipartUpload";
        let target = format!("{}?uploadId={}", key.encoded(), encode(upload));
        let parts: String = parts
            .iter()
            .map(|part| {
                let etag = quick_xml::escape::escape(&part.etag);
                let number = part.number;
                format!("<Part><PartNumber>{number}</PartNumber><ETag>{etag}</ETag></Part>")
            })
            .collect();
        let body = format!("<CompleteMultipartUpload>{parts}</CompleteMultipartUpload>");
        let draft = self.draft(OPERATION, Method::POST, &target, body.into())?;
        let answer = self.call(&draft).await?;
        // S3 sends the status before it knows how the work ends.
        let body = answer.body();
        let path = ["CompleteMultipartUploadResult", "ETag"];
        if xml::text(OPERATION, body, &path)?.is_some() {
            return Ok(());
        }
        // It failed inside the service, so that the same call may be made again.
        Err(CallError::refusal(OPERATION, 500, answer.headers(), body))
    }

    /// Forgets the parts of an object.
    ///
    /// # Errors
    /// [`CallError`].
    pub async fn abort_multipart_upload(
        &self,
        key: &ObjectKey,
        upload: &str,
    ) -> Result<(), CallError> {
        let target = format!("{}?uploadId={}", key.encoded(), encode(upload));
        let operation = "AbortMultipartUpload";
        let draft = self.draft(operation, Method::DELETE, &target, Bytes::new())?;
        self.call(&draft).await.map(drop)
    }

    /// The answer to HeadBucket, if it is a success or names the region.
    async fn head(&self) -> Result<Response<Bytes>, CallError> {
        const OPERATION: &str = "HeadBucket";
        let draft = self.draft(OPERATION, Method::HEAD, "", Bytes::new())?;
        let (answer, _) = self.client.attempt(&draft, self.authority()).await?;
        if answer.status().is_success() || region_of(answer.headers()).is_some() {
            return Ok(answer);
        }
        if answer.status() == 404 {
            // The answer to HEAD has no body to say so.
            let body = b"<Error><Code>NoSuchBucket</Code></Error>";
            return Err(CallError::refusal(OPERATION, 404, answer.headers(), body));
        }
        // What is not an answer for good is worth the attempts of any call.
        self.call(&draft).await
    }

    async fn call(&self, draft: &Draft<'_>) -> Result<Response<Bytes>, CallError> {
        let attempts = Attempts::of(draft.operation);
        self.client.call(draft, self.authority(), attempts).await
    }

    fn authority(&self) -> Authority<'static> {
        if self.is_public {
            Authority::Nobody
        } else {
            Authority::Credentials
        }
    }

    /// `target` is an encoded key, a query, or both.
    fn draft<'a>(
        &'a self,
        operation: &'a str,
        method: Method,
        target: &str,
        body: Bytes,
    ) -> Result<Draft<'a>, CallError> {
        let url = Url::parse(&format!("{}{target}", self.base));
        Ok(Draft {
            operation,
            service: Service::S3,
            region: Some(&self.region),
            method,
            url: url.map_err(|error| address(operation, &error.to_string()))?,
            timeout: Service::S3.timeout(),
            success: Service::S3.success(),
            headers: Vec::new(),
            body,
        })
    }
}

fn base_checked(bucket: &Bucket, region: &str) -> Result<Url, CallError> {
    // The name comes from the network and becomes part of a host's.
    super::endpoint::check_region(region)
        .map_err(|error| unexpected("HeadBucket", &error.to_string()))?;
    base(&bucket.client.endpoints().s3, &bucket.name, region)
}

/// The URL of a bucket, with a slash at its end.
fn base(endpoint: &S3Endpoint, name: &BucketName, region: &str) -> Result<Url, CallError> {
    let name = name.as_str();
    let text = match &endpoint.domain {
        None => format!("{}{name}/", endpoint.url),
        Some(domain) if name.contains('.') => format!("https://s3.{region}.{domain}/{name}/"),
        Some(domain) => format!("https://{name}.s3.{region}.{domain}/"),
    };
    Url::parse(&text).map_err(|error| address("HeadBucket", &error.to_string()))
}

fn region_of(headers: &HeaderMap) -> Option<String> {
    let region = headers.get(REGION_HEADER)?.to_str().ok()?;
    Some(region.to_owned())
}

/// The headers of a new object but for the digest of its content, in alphabetical order.
fn object_headers(attributes: Attributes<'_>) -> Vec<(&'static str, String)> {
    let mut headers = vec![
        ("content-type", attributes.content_type.to_owned()),
        ("x-amz-acl", ACL.to_owned()),
    ];
    let Some(encryption) = attributes.encryption else {
        return headers;
    };
    let is_kms = encryption.algorithm == "aws:kms";
    if is_kms || encryption.algorithm == "AES256" {
        let algorithm = encryption.algorithm.clone();
        headers.push(("x-amz-server-side-encryption", algorithm));
    }
    if let Some(key_id) = encryption.key_id.clone().filter(|_| is_kms) {
        headers.push(("x-amz-server-side-encryption-aws-kms-key-id", key_id));
    }
    headers
}

fn content_md5(body: &[u8]) -> (&'static str, String) {
    ("content-md5", BASE64.encode(Md5::digest(body)))
}

fn unexpected(operation: &str, reason: &str) -> CallError {
    CallError::Answer {
        operation: operation.to_owned(),
        reason: reason.to_owned(),
    }
}

fn address(operation: &str, reason: &str) -> CallError {
    CallError::Address {
        operation: operation.to_owned(),
        reason: reason.to_owned(),
    }
}

#[cfg(test)]
mod tests;

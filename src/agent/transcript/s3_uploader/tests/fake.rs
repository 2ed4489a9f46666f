//! A bucket that keeps what it is given, with S3's rules on parts.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard};

use super::super::{PART, S3Place, S3Uploader};
use super::{CAST_KEY, KEY, story};
use crate::aws::Client;
use crate::aws::tests::server::{Reply, Seen, TestServer};

/// Where the text of the story goes.
pub(super) const PLACE: S3Place<'static> = S3Place {
    bucket: "my-logs",
    key_prefix: "pre/fix",
    encrypted: false,
    cast: false,
};

pub(super) struct Fake {
    server: TestServer,
    bucket: Arc<Mutex<Bucket>>,
}

#[derive(Default)]
struct Bucket {
    object: Option<Vec<u8>>,
    uploads: HashMap<String, BTreeMap<u16, Vec<u8>>>,
    made: u32,
    may_copy: bool,
    may_look: bool,
    algorithm: &'static str,
    refusal: Option<(&'static str, u16, &'static str)>,
}

impl Fake {
    /// An empty bucket that allows everything.
    pub(super) async fn start() -> Self {
        let bucket = Arc::new(Mutex::new(Bucket {
            may_copy: true,
            may_look: true,
            algorithm: "AES256",
            ..Bucket::default()
        }));
        let served = Arc::clone(&bucket);
        let server = TestServer::start(move |_, seen| served.lock().unwrap().answer(seen)).await;
        Self { server, bucket }
    }

    pub(super) fn client(&self) -> Client {
        self.server.client()
    }

    pub(super) fn uploader(&self, state: Option<serde_json::Value>) -> S3Uploader {
        let about = Arc::new(story());
        S3Uploader::new(self.client(), about, &PLACE, state)
    }

    /// An uploader of the cast.
    pub(super) fn cast_uploader(&self, state: Option<serde_json::Value>) -> S3Uploader {
        let place = S3Place {
            cast: true,
            ..PLACE
        };
        S3Uploader::new(self.client(), Arc::new(story()), &place, state)
    }

    pub(super) fn encrypted_uploader(&self) -> S3Uploader {
        let about = Arc::new(story());
        let place = S3Place {
            encrypted: true,
            ..PLACE
        };
        S3Uploader::new(self.client(), about, &place, None)
    }

    /// The object, as far as it is there.
    pub(super) fn text(&self) -> Vec<u8> {
        self.lock().object.clone().unwrap_or_default()
    }

    pub(super) fn requests(&self, method: &str) -> Vec<Seen> {
        let mut seen = self.server.seen();
        seen.retain(|seen| seen.method.as_str() == method);
        seen
    }

    pub(super) fn open_uploads(&self) -> usize {
        self.lock().uploads.len()
    }

    pub(super) fn delete_uploads(&self) {
        self.lock().uploads.clear();
    }

    /// Whether `s3:GetObject` is allowed.
    pub(super) fn may_copy(&self, may: bool) {
        let mut bucket = self.lock();
        bucket.may_copy = may;
        bucket.may_look = may;
    }

    pub(super) fn may_look(&self, may: bool) {
        self.lock().may_look = may;
    }

    pub(super) fn encrypt(&self, algorithm: &'static str) {
        self.lock().algorithm = algorithm;
    }

    /// Refuses requests with this method.
    pub(super) fn refuse(&self, method: &'static str, how: Option<(u16, &'static str)>) {
        self.lock().refusal = how.map(|(status, code)| (method, status, code));
    }

    fn lock(&self) -> MutexGuard<'_, Bucket> {
        self.bucket.lock().unwrap()
    }
}

fn refusal(status: u16, code: &str) -> Reply {
    let text = format!("<Error><Code>{code}</Code></Error>");
    Reply(status, vec![], text)
}

fn ok(text: String) -> Reply {
    Reply(200, vec![], text)
}

impl Bucket {
    fn answer(&mut self, seen: &Seen) -> Reply {
        if let Some((method, status, code)) = self.refusal
            && seen.method.as_str() == method
        {
            return refusal(status, code);
        }
        let query: HashMap<&str, &str> = seen
            .query
            .split('&')
            .filter_map(|pair| pair.split_once('='))
            .collect();
        let upload = query.get("uploadId").copied();
        match (seen.method.as_str(), seen.path.as_str()) {
            ("HEAD", "/my-logs/") => ok(String::new()),
            ("GET", "/my-logs/") => self.encryption(),
            ("HEAD", KEY | CAST_KEY) => self.length(),
            ("PUT", KEY | CAST_KEY) if upload.is_none() => {
                self.object = Some(seen.body.to_vec());
                ok(String::new())
            }
            ("POST", KEY | CAST_KEY) if query.contains_key("uploads") => {
                self.made += 1;
                let id = format!("u{}", self.made);
                self.uploads.insert(id.clone(), BTreeMap::new());
                ok(format!(
                    "<InitiateMultipartUploadResult><UploadId>{id}</UploadId></InitiateMultipartUploadResult>"
                ))
            }
            ("PUT", KEY | CAST_KEY) => {
                self.part(upload.unwrap(), query["partNumber"].parse().unwrap(), seen)
            }
            ("POST", KEY | CAST_KEY) => self.complete(upload.unwrap()),
            ("DELETE", KEY) => {
                self.uploads.remove(upload.unwrap());
                Reply(204, vec![], String::new())
            }
            other => panic!("unexpected {other:?}"),
        }
    }

    fn encryption(&self) -> Reply {
        if self.algorithm.is_empty() {
            return refusal(404, "ServerSideEncryptionConfigurationNotFoundError");
        }
        ok(format!(
            "<ServerSideEncryptionConfiguration><Rule><ApplyServerSideEncryptionByDefault>\
             <SSEAlgorithm>{}</SSEAlgorithm></ApplyServerSideEncryptionByDefault></Rule>\
             </ServerSideEncryptionConfiguration>",
            self.algorithm
        ))
    }

    fn length(&self) -> Reply {
        match &self.object {
            _ if !self.may_look => Reply(403, vec![], String::new()),
            None => Reply(404, vec![], String::new()),
            Some(object) => {
                let length = object.len().to_string();
                Reply(200, vec![("content-length", length)], String::new())
            }
        }
    }

    fn part(&mut self, upload: &str, number: u16, seen: &Seen) -> Reply {
        let Some(parts) = self.uploads.get_mut(upload) else {
            return refusal(404, "NoSuchUpload");
        };
        let range = seen.header("x-amz-copy-source-range");
        let Some(last) = range.strip_prefix("bytes=0-") else {
            parts.insert(number, seen.body.to_vec());
            return Reply(200, vec![("etag", format!("\"{number}\""))], String::new());
        };
        if !self.may_copy {
            return refusal(403, "AccessDenied");
        }
        assert_eq!(seen.header("x-amz-copy-source"), seen.path);
        let last: usize = last.parse().unwrap();
        parts.insert(number, self.object.as_ref().unwrap()[..=last].to_vec());
        ok(format!(
            "<CopyPartResult><ETag>\"{number}\"</ETag></CopyPartResult>"
        ))
    }

    fn complete(&mut self, upload: &str) -> Reply {
        let Some(parts) = self.uploads.remove(upload) else {
            return refusal(404, "NoSuchUpload");
        };
        let mut parts: Vec<Vec<u8>> = parts.into_values().collect();
        let is_small = |part: &Vec<u8>| part.len() < PART;
        if parts.iter().rev().skip(1).any(is_small) {
            return refusal(400, "EntityTooSmall");
        }
        self.object = Some(parts.drain(..).flatten().collect());
        ok("<CompleteMultipartUploadResult><ETag>x</ETag></CompleteMultipartUploadResult>".into())
    }
}

//! Uploading a record to S3 while its session runs, as text or as a cast.
//!
//! An object is stored whole or not at all, and a part of one has at least 5 MiB but for the last. So
//! that the object is there, and whole, at any time:
//!
//! | so far | what an upload does |
//! |---|---|
//! | below 5 MiB | stores all of it again; nothing of it is confirmed before the end, so that the journal has it |
//! | 5 MiB to 2 GiB | copies what is confirmed of the object, at the service, and appends parts |
//! | more | goes on with parts, which become the object at the end |
//!
//! The copy ends where what is confirmed does. What an agent that was killed had appended beyond
//! that is appended again in its place: every byte is there once.
//!
//! Copying takes `s3:GetObject`. Where that is denied, the third line holds from 5 MiB on.

mod failure;
mod object;
mod script;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::time::{Instant, timeout};

use self::failure::{Failure, is_elsewhere, is_gone, is_uncopyable, judge};
use self::object::Object;
use super::entry::{About, Entry, Event};
use super::growing::{self, Growing, Piece};
use super::uploader::{Check, CheckError, Confirmed, Upload, UploadError, Uploader, Wants};
use crate::aws::{BucketName, CallError, Client, Encryption, ObjectKey, Part, S3NameError};

/// Least bytes of a part that is not the last, by S3's rule.
const PART: usize = 5 << 20;
/// Bytes of output that one upload takes. With its text, at most twice as long, it is in memory for as
/// long as the upload takes; the owner of the uploaders bounds how many of them there are.
const BATCH: usize = 6 << 20;
/// Most parts of an object, by S3's rule.
const PARTS: u16 = 10_000;
/// Objects that are copied to go on with; copying more takes longer than an upload may.
const COPIED: u64 = 2 << 30;
/// What an object lags behind at least: a request costs money.
const INTERVAL: Duration = Duration::from_secs(2);
/// Bytes a second of text that are stored again, which bounds what a session sends.
const SENT_RATE: u64 = 1 << 20;
/// Bytes a second that are copied at the service. At half of its speed, by experience, a session that
/// prints without end spends half of the time on copies.
const COPY_RATE: u64 = 64 << 20;
/// What a check may take, so that a session which must be encrypted does not start unchecked.
const CHECK_LIMIT: Duration = Duration::from_secs(8);

const UNENCRYPTED: &str = "We couldn't start the session because encryption is not set up on the \
     selected Amazon S3 bucket. Either encrypt the bucket or choose an option to enable logging \
     without encryption.";

/// Media types of a text, which is the reference's, and of a cast.
const TEXT_TYPE: &str = "text/plain";
const CAST_TYPE: &str = "application/x-asciicast";

/// Where an object is to be, and what it holds.
#[derive(Debug, Clone)]
pub struct S3Place<'a> {
    /// The bucket.
    pub bucket: &'a str,
    /// What the key begins with.
    pub key_prefix: &'a str,
    /// The bucket has to be encrypted.
    pub encrypted: bool,
    /// The cast, in place of the text.
    pub cast: bool,
}

/// Uploads one session's text or cast.
pub struct S3Uploader {
    client: Client,
    about: Arc<About>,
    form: Form,
    bucket: String,
    key: Result<(BucketName, ObjectKey), S3NameError>,
    /// The bucket has to be encrypted.
    encrypted: bool,
    /// The bucket, once it is found.
    object: Option<Object>,
    stored: Stored,
    /// When parts became an object, or the upload began.
    shown: Instant,
    /// Bytes of text that are at the service and not confirmed.
    unconfirmed: u64,
}

/// What the object holds.
enum Form {
    /// What `script(1)` writes.
    Text,
    /// A cast, as it goes on after what is confirmed.
    Cast(Box<Growing>),
}

/// What the next run needs to go on with a cast.
#[derive(Serialize, Deserialize)]
struct CastState {
    stored: Stored,
    cast: growing::Stored,
}

/// What is confirmed, and what the next run of the agent needs to go on from there.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
enum Stored {
    /// Nothing.
    #[default]
    Nothing,
    /// The first bytes of the object.
    Object { bytes: u64 },
    /// Parts of an object to come.
    Parts {
        upload: String,
        parts: Vec<Part>,
        bytes: u64,
        /// The first is a copy of the object so far.
        copied: bool,
    },
}

impl S3Uploader {
    /// An uploader for the session that `about` tells of, to an object at `place`. `state` is what
    /// [`Uploader::state`] gave to an earlier run, if there was one.
    pub fn new(
        client: Client,
        about: Arc<About>,
        place: &S3Place<'_>,
        state: Option<Value>,
    ) -> Self {
        let (stored, form) = if place.cast {
            let state = state.and_then(|state| serde_json::from_value::<CastState>(state).ok());
            let (stored, cast) = state
                .map(|state| (state.stored, state.cast))
                .unwrap_or_default();
            (stored, Form::Cast(Box::new(Growing::after(cast))))
        } else {
            let stored = state.and_then(|state| serde_json::from_value(state).ok());
            (stored.unwrap_or_default(), Form::Text)
        };
        // The reference leaves colons out, which no session id has here.
        let ending = if place.cast { "cast" } else { "log" };
        let name = format!("{}.{ending}", about.session_id);
        let key = BucketName::new(place.bucket)
            .and_then(|bucket| Ok((bucket, ObjectKey::join(place.key_prefix, &name)?)));
        Self {
            client,
            about,
            form,
            bucket: place.bucket.to_owned(),
            key,
            encrypted: place.encrypted,
            object: None,
            stored,
            shown: Instant::now(),
            unconfirmed: 0,
        }
    }

    async fn send_text(&mut self, entries: &[Entry]) -> Result<Confirmed, UploadError> {
        let is_first = self.stored == Stored::Nothing;
        let text = Text {
            bytes: script::text(&self.about, entries, is_first).into(),
            is_last: entries
                .last()
                .is_some_and(|last| matches!(last.event, Event::End(_))),
        };
        let is_stored = self.send(text).await?;
        Ok(Confirmed {
            entries: if is_stored { entries.len() } else { 0 },
        })
    }

    async fn send_piece(&mut self, piece: Piece) -> Result<Confirmed, UploadError> {
        let text = Text {
            bytes: piece.bytes.into(),
            is_last: piece.is_last,
        };
        let is_stored = self.send(text).await?;
        if is_stored {
            self.form = Form::Cast(Box::new(piece.after));
        }
        Ok(Confirmed {
            entries: if is_stored { piece.count } else { 0 },
        })
    }

    /// Brings text to the service; returns whether it is there for good.
    async fn send(&mut self, text: Text) -> Result<bool, UploadError> {
        let object = self.find().await?;
        let sent = match self.append(&object, &text).await {
            Err(Stop::Call(failure)) if is_gone(&failure) => {
                match self.find_out(&object, &text).await {
                    Ok(true) => Ok(true),
                    Ok(false) => self.append(&object, &text).await,
                    Err(stop) => Err(stop),
                }
            }
            sent => sent,
        };
        match sent {
            Ok(is_stored) => Ok(is_stored),
            Err(Stop::Call(failure)) => {
                if is_elsewhere(&failure) {
                    self.object = None;
                }
                Err(judge(&self.bucket, failure))
            }
            Err(Stop::Final(failure)) => Err(refused(failure)),
        }
    }

    /// Makes the text a part of the object; returns whether it is there for good.
    async fn append(&mut self, object: &Object, text: &Text) -> Result<bool, Stop> {
        match &self.stored {
            Stored::Nothing => self.begin(object, text).await,
            Stored::Object { bytes } => {
                let bytes = *bytes;
                let (upload, copy) = object.go_on(bytes).await?;
                // The same text as before, so that the next call can go on here if this one fails.
                self.stored = Stored::Parts {
                    upload,
                    parts: vec![copy],
                    bytes,
                    copied: true,
                };
                self.add_part(object, text).await
            }
            Stored::Parts { .. } => self.add_part(object, text).await,
        }
    }

    /// Stores the text as the whole object.
    async fn begin(&mut self, object: &Object, text: &Text) -> Result<bool, Stop> {
        let bytes = text.bytes.len() as u64;
        object.put(text.bytes.clone()).await?;
        self.shown = Instant::now();
        if text.is_last {
            self.stored = Stored::Object { bytes };
        } else if text.bytes.len() >= PART {
            let (upload, part, copied) = match object.go_on(bytes).await {
                Ok((upload, copy)) => (upload, copy, true),
                Err(failure) if is_uncopyable(&failure) => {
                    let (upload, part) = object.begin_parts(text.bytes.clone()).await?;
                    (upload, part, false)
                }
                Err(failure) => return Err(failure.into()),
            };
            self.stored = Stored::Parts {
                upload,
                parts: vec![part],
                bytes,
                copied,
            };
        } else {
            self.unconfirmed = bytes;
            return Ok(false);
        }
        self.unconfirmed = 0;
        Ok(true)
    }

    /// Adds a part, and makes an object of all of them where that is due.
    async fn add_part(&mut self, object: &Object, text: &Text) -> Result<bool, Stop> {
        let interval = self.interval();
        let Stored::Parts {
            upload,
            parts,
            bytes,
            copied,
        } = &self.stored
        else {
            return Ok(false);
        };
        let is_small = text.bytes.len() < PART;
        let can_show = *copied && *bytes < COPIED;
        if is_small && !text.is_last && !can_show {
            return Ok(false);
        }
        let number = u16::try_from(parts.len() + 1).unwrap_or(u16::MAX);
        if number > PARTS {
            return Err(Stop::Final(Failure::TooLarge {
                bucket: self.bucket.clone(),
                limit: PARTS,
            }));
        }
        let part = object.part(upload, number, text.bytes.clone()).await?;
        let (mut parts, bytes) = (parts.clone(), bytes + text.bytes.len() as u64);
        parts.push(part);
        let is_due = is_small || self.shown.elapsed() >= interval;
        self.stored = if text.is_last || (can_show && is_due) {
            object.complete(upload, &parts).await?;
            self.shown = Instant::now();
            Stored::Object { bytes }
        } else {
            Stored::Parts {
                upload: upload.clone(),
                parts,
                bytes,
                copied: *copied,
            }
        };
        Ok(true)
    }

    /// The upload in parts is not there any more: somebody has deleted it, or it was completed by a
    /// call whose answer nobody got. Returns whether the text is there for good; if not, it can be
    /// appended now.
    async fn find_out(&mut self, object: &Object, text: &Text) -> Result<bool, Stop> {
        let Stored::Parts { bytes, copied, .. } = self.stored else {
            return Ok(false);
        };
        let with_text = bytes + text.bytes.len() as u64;
        let there = match object.length().await {
            Ok(length) => length,
            Err(failure) if is_uncopyable(&failure) => {
                return Err(self.gone("nobody may look (s3:GetObject)".to_owned()));
            }
            Err(failure) => return Err(failure.into()),
        };
        let there = there.unwrap_or(0);
        if text.is_last && there == with_text {
            self.stored = Stored::Object { bytes: with_text };
            Ok(true)
        } else if copied && there >= bytes {
            self.stored = Stored::Object { bytes };
            Ok(false)
        } else {
            Err(self.gone(format!("the object has {there} bytes instead of {bytes}")))
        }
    }

    fn gone(&self, text: String) -> Stop {
        let bucket = self.bucket.clone();
        Stop::Final(Failure::Gone { bucket, text })
    }

    /// The place of the object.
    async fn find(&mut self) -> Result<Object, UploadError> {
        if let Some(object) = &self.object {
            return Ok(object.clone());
        }
        let (name, key) = self.key.clone().map_err(refused)?;
        let failed = |failure| judge(&self.bucket, failure);
        let bucket = self.client.bucket(name).await.map_err(failed)?;
        // As the reference has it: what cannot be asked for is left to the bucket.
        let encryption = bucket.encryption().await.unwrap_or_default();
        let object = Object {
            bucket,
            key,
            content_type: match self.form {
                Form::Text => TEXT_TYPE,
                Form::Cast(_) => CAST_TYPE,
            },
            encryption,
        };
        self.object = Some(object.clone());
        Ok(object)
    }

    async fn look(&mut self) -> Result<(), CheckError> {
        if matches!(self.form, Form::Cast(_)) {
            // The text goes beside it, and its uploader looks.
            return Ok(());
        }
        let (name, _) = self.key.clone().map_err(refused)?;
        if !self.encrypted {
            let failed = |failure| judge(&self.bucket, failure);
            self.client.bucket(name).await.map_err(failed)?;
            return Ok(());
        }
        let encryption = timeout(CHECK_LIMIT, self.encryption(name)).await;
        let error = match encryption {
            Ok(Ok(encryption)) if is_accepted(encryption.as_ref()) => return Ok(()),
            Ok(Ok(_)) => return Err(CheckError::Unmet(UNENCRYPTED.to_owned())),
            Ok(Err(failure)) => crate::runtime::cause::in_one_line(&failure),
            Err(_) => format!("no answer within {} s", CHECK_LIMIT.as_secs()),
        };
        Err(CheckError::Unmet(format!(
            "Couldn't start the session because we are unable to validate encryption on Amazon S3 \
             bucket. Error: {error}"
        )))
    }

    async fn encryption(&self, name: BucketName) -> Result<Option<Encryption>, CallError> {
        self.client.bucket(name).await?.encryption().await
    }
}

/// What a batch adds to the object.
struct Text {
    bytes: Bytes,
    /// Nothing follows.
    is_last: bool,
}

/// Why text was not brought to the service.
enum Stop {
    Call(CallError),
    Final(Failure),
}

impl From<CallError> for Stop {
    fn from(failure: CallError) -> Self {
        Self::Call(failure)
    }
}

impl Uploader for S3Uploader {
    fn name(&self) -> &'static str {
        "S3"
    }

    fn place(&self) -> String {
        match &self.key {
            Ok((_, key)) => format!("s3://{}/{}", self.bucket, key.as_str()),
            Err(_) => format!("s3://{}/", self.bucket),
        }
    }

    fn interval(&self) -> Duration {
        let seconds = match &self.stored {
            Stored::Nothing => self.unconfirmed / SENT_RATE,
            Stored::Object { bytes }
            | Stored::Parts {
                bytes,
                copied: true,
                ..
            } if *bytes < COPIED => bytes / COPY_RATE,
            // Less than a part is looked at and left, as often as it would be stored again.
            Stored::Object { .. } | Stored::Parts { .. } => PART as u64 / SENT_RATE,
        };
        INTERVAL + Duration::from_secs(seconds)
    }

    fn batch_limit(&self) -> usize {
        BATCH
    }

    fn wants(&self) -> Wants {
        match self.form {
            Form::Text => Wants::Output,
            Form::Cast(_) => Wants::Cast,
        }
    }

    fn check(&mut self) -> Check<'_> {
        Box::pin(self.look())
    }

    fn upload<'a>(&'a mut self, entries: &'a [Entry]) -> Upload<'a> {
        Box::pin(self.send_text(entries))
    }

    fn cast(&self) -> Option<Piece> {
        match &self.form {
            Form::Text => None,
            Form::Cast(cast) => Some(cast.piece(&self.about)),
        }
    }

    fn upload_cast(&mut self, piece: Piece) -> Upload<'_> {
        Box::pin(self.send_piece(piece))
    }

    fn state(&self) -> Value {
        match &self.form {
            Form::Text => json!(self.stored),
            Form::Cast(cast) => json!({"stored": self.stored, "cast": cast.stored}),
        }
    }
}

/// Whether this is encryption to the reference, which knows no newer algorithms.
fn is_accepted(encryption: Option<&Encryption>) -> bool {
    let algorithm = encryption.map(|encryption| encryption.algorithm.as_str());
    matches!(algorithm, Some("AES256" | "aws:kms"))
}

fn refused(error: impl std::error::Error + Send + Sync + 'static) -> UploadError {
    UploadError::Refused(Box::new(error))
}

#[cfg(test)]
mod tests;

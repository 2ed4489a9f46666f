//! `SsmAgent.Transcript`, the part on services that get records: `S3`, `CloudWatch`, `Gateway`, and the
//! journals that records wait in.

use std::time::Duration;

use super::ConfigError;
use super::section::Section;

/// The journal of one session takes at most 1 GiB: a day of a busy terminal while a service is away.
const JOURNAL_BYTES: i64 = 1 << 30;
/// All journals together take at most 4 GiB.
const JOURNAL_TOTAL_BYTES: i64 = 4 << 30;
/// Records wait for 14 days, as long as recordings are kept by default.
const JOURNAL_HOURS: i64 = 336;
/// Least bytes of a journal: one segment.
const JOURNAL_MIN: i64 = 4 << 20;
/// Most bytes of a journal.
const JOURNAL_MAX: i64 = 1 << 50;

/// Services that get records.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UploadSettings {
    /// `S3`: the bucket of sessions whose document names none.
    pub s3: S3Settings,
    /// `CloudWatch`: the log group of sessions whose document names none.
    pub cloud_watch: CloudWatchSettings,
    /// `Gateway.Enabled`: whether a gateway that takes records gets them. Off by default, as are the
    /// other services: what people see does not leave a host unasked.
    pub gateway: bool,
    /// `Gateway.Policy`.
    pub gateway_policy: RecordPolicy,
    /// `JournalBytes`: most bytes of one session that wait on disk.
    pub journal: u64,
    /// `JournalTotalBytes`: most bytes of all sessions that wait on disk.
    pub journal_total: u64,
    /// `JournalHours`: how long they wait for a service that takes nothing.
    pub journal_retention: Duration,
}

/// `SsmAgent.Transcript.S3`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct S3Settings {
    /// Empty for none.
    pub bucket: String,
    /// What keys begin with.
    pub key_prefix: String,
    /// Whether the bucket has to be encrypted.
    pub encrypted: bool,
    /// Whether the cast goes there too, beside the text. The reference stores the text alone.
    pub cast: bool,
    /// What follows if it does not take a record.
    pub policy: RecordPolicy,
}

/// `SsmAgent.Transcript.CloudWatch`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CloudWatchSettings {
    /// `Endpoint`, in place of that of the region; empty for none. The reference has no such key.
    pub endpoint: String,
    /// Empty for none.
    pub group: String,
    /// Whether the group has to be encrypted.
    pub encrypted: bool,
    /// Whether records go there while the session runs.
    pub streaming: bool,
    /// What follows if it does not take a record.
    pub policy: RecordPolicy,
}

/// What follows if a place does not take the record of a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RecordPolicy {
    /// `fail-open`, the default: the session goes on.
    FailOpen,
    /// `fail-closed`: the session does not start, or ends.
    FailClosed,
}

/// Reads what `Transcript` says of services.
pub(super) fn read(transcript: &mut Section) -> Result<UploadSettings, ConfigError> {
    let mut s3 = transcript.section("S3")?;
    let mut cloud_watch = transcript.section("CloudWatch")?;
    let mut gateway = transcript.section("Gateway")?;
    let settings = UploadSettings {
        s3: S3Settings {
            bucket: s3.text("Bucket")?,
            key_prefix: s3.text("KeyPrefix")?,
            encrypted: s3.boolean("Encrypted", false)?,
            cast: s3.boolean("Cast", false)?,
            policy: policy(&mut s3)?,
        },
        cloud_watch: CloudWatchSettings {
            endpoint: cloud_watch.text("Endpoint")?,
            group: cloud_watch.text("LogGroup")?,
            encrypted: cloud_watch.boolean("Encrypted", false)?,
            streaming: cloud_watch.boolean("Streaming", false)?,
            policy: policy(&mut cloud_watch)?,
        },
        gateway: gateway.boolean("Enabled", false)?,
        gateway_policy: policy(&mut gateway)?,
        journal: transcript.number("JournalBytes", JOURNAL_BYTES, JOURNAL_MIN..=JOURNAL_MAX)?,
        journal_total: transcript.number(
            "JournalTotalBytes",
            JOURNAL_TOTAL_BYTES,
            JOURNAL_MIN..=JOURNAL_MAX,
        )?,
        journal_retention: Duration::from_hours(transcript.number(
            "JournalHours",
            JOURNAL_HOURS,
            1..=87_600,
        )?),
    };
    for section in [s3, cloud_watch, gateway] {
        transcript.absorb(section);
    }
    Ok(settings)
}

/// A word that is no policy counts as the stricter one: somebody meant to be strict.
pub(super) fn policy(section: &mut Section) -> Result<RecordPolicy, ConfigError> {
    Ok(match section.text("Policy")?.as_str() {
        "" | "fail-open" => RecordPolicy::FailOpen,
        "fail-closed" => RecordPolicy::FailClosed,
        other => {
            section.warn(format!(
                "SsmAgent.Transcript: policy {other:?} is neither \"fail-open\" nor \"fail-closed\", the latter is used"
            ));
            RecordPolicy::FailClosed
        }
    })
}

//! The configuration: the reference's JSON file with the reference's keys, and our own under the one
//! object `SsmAgent`.
//!
//! As in the reference, key case does not matter and a number out of range is replaced by its
//! default, not clamped. Unlike there, such a key and an unknown key are warned of, and a value of the
//! wrong type is an error that names the key.

mod commands;
mod known;
mod section;
mod uploads;

use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::args::DEFAULT_CONFIG;
pub use commands::CommandSettings;
use section::Section;
pub use uploads::{CloudWatchSettings, RecordPolicy, S3Settings, UploadSettings};

/// `Ssm.HealthFrequencyMinutes`: 5, allowed 5 to 60, as in the reference.
const HEALTH_MINUTES: i64 = 5;
/// `Mgs.SessionWorkersLimit`: 1000, as in the reference.
const SESSION_LIMIT: i64 = 1000;
/// Unacknowledged output per session: 4 MiB fills 40 MB/s at 100 ms round trip.
const SEND_WINDOW_BYTES: i64 = 4 << 20;
/// Longest wait for acknowledgements at a session's end: 2 s, as in the reference.
const DRAIN_SECONDS: i64 = 2;
/// Recordings are kept 336 hours, the reference's `Ssm.SessionLogsRetentionDurationHours`.
const RETENTION_HOURS: i64 = 336;
/// Recordings take at most 1 GiB, so that they alone cannot fill a host's disk.
const QUOTA_BYTES: i64 = 1 << 30;
/// Memory that recording one session may take: rides out a disk that stalls for a moment.
const SPOOL_BYTES: i64 = 256 << 10;

/// A file of the audit log takes 10 MiB, some 40,000 lines.
const AUDIT_BYTES: i64 = 10 << 20;
/// Least bytes of a file of the audit log: as many as it may be given at once.
const AUDIT_BYTES_MIN: i64 = 4 << 20;
/// Five files of the audit log are kept.
const AUDIT_FILES: i64 = 5;

/// Every form of recording: the cast replays with timing, the log greps.
const ALL_FORMATS: [RecordingFormat; 2] = [RecordingFormat::Cast, RecordingFormat::Log];

/// What the configuration says, checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// Sharing of on-prem credentials with other programs of the host.
    pub profile: Profile,
    /// Where the service is.
    pub endpoints: EndpointSettings,
    /// Who the agent is.
    pub identity: IdentitySettings,
    /// Interval of UpdateInstanceInformation.
    pub health_interval: Duration,
    /// How sessions run.
    pub session: SessionSettings,
    /// How commands run.
    pub commands: CommandSettings,
    /// `Agent.ContainerMode`: the agent runs in a container.
    pub in_container: bool,
    /// How sessions are recorded; `None` if they are not.
    pub transcript: Option<TranscriptSettings>,
    /// Services that get records, also where nothing is recorded on the host.
    pub uploads: UploadSettings,
    /// The audit log; `None` if there shall be none.
    pub audit: Option<AuditSettings>,
    /// PEM file with further certificate authorities to trust.
    pub ca_file: Option<PathBuf>,
}

/// `Profile`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Profile {
    /// Write on-prem credentials to the shared credentials file.
    pub share_credentials: bool,
    /// Section of that file; empty for `default`.
    pub share_profile: String,
    /// Overwrite a credentials file that does not parse.
    pub force_update: bool,
    /// Age in days at which the node's key is replaced; 0 for never.
    pub key_auto_rotate_days: u32,
}

/// Overrides of endpoints and regions; empty text means none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EndpointSettings {
    /// `Ssm.Endpoint`.
    pub ssm: String,
    /// `Mds.Endpoint`.
    pub delivery: String,
    /// `Kms.Endpoint`.
    pub kms: String,
    /// `S3.Endpoint`.
    pub s3: String,
    /// `Mgs.Endpoint`.
    pub messages: String,
    /// `Mgs.Region`.
    pub messages_region: String,
    /// `Agent.Region`.
    pub region: String,
    /// `Agent.ServiceDomain`.
    pub service_domain: String,
}

/// A way to know who the agent is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IdentityKind {
    /// A hybrid activation.
    OnPrem,
    /// Instance metadata.
    Ec2,
    /// Task metadata.
    Ecs,
    /// An identity from the configuration.
    Custom,
}

/// `Identity`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IdentitySettings {
    /// The order in which identities are tried.
    pub order: Vec<IdentityKind>,
    /// Entries of `CustomIdentities` that have an id and a region.
    pub custom: Vec<CustomIdentity>,
}

/// One entry of `Identity.CustomIdentities`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CustomIdentity {
    /// The node's id.
    pub instance_id: String,
    /// Its region.
    pub region: String,
}

/// Whose shell a session opens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DefaultUser {
    /// `ssm-user` if the agent is root, else the agent's own user; as in the reference.
    ByPrivilege,
    /// The agent's own user, root too.
    Agent,
}

/// `SsmAgent.Session` and `Mgs`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SessionSettings {
    /// Sessions at once.
    pub limit: usize,
    /// Whose shell it is.
    pub default_user: DefaultUser,
    /// Whether `ssm-user` may use sudo; without a word of it, what the reference does.
    pub ssm_user_sudo: Option<bool>,
    /// Processes that left the session stay when it ends.
    pub keep_detached: bool,
    /// The service of the host's PAM by whose rules sessions log in, if by any.
    pub pam_service: Option<String>,
    /// Unacknowledged output kept per session, in bytes.
    pub send_window: usize,
    /// Longest wait for acknowledgements at the end.
    pub drain: Duration,
    /// `Kms.RequireKMSChallengeResponse`: refuse clients that do not tie the key of an encrypted
    /// session to its handshake.
    pub requires_kms_challenge: bool,
    /// `Mgs.DeniedPortForwardingRemoteIPs`; `None` for the default.
    pub denied_destinations: Option<Vec<IpAddr>>,
}

/// A form of recording.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RecordingFormat {
    /// asciicast v2.
    Cast,
    /// The bytes that the client was sent.
    Log,
}

/// `SsmAgent.Transcript`.
///
/// Recording is on unless `Enabled` is false: the reference keeps nothing on the host by default
/// (`Ssm.SessionLogsDestination`), which leaves operators with nothing to show afterwards.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TranscriptSettings {
    /// Folder of the recordings; `None` for `sessions` in the log folder.
    pub directory: Option<PathBuf>,
    /// The forms to write.
    pub formats: Vec<RecordingFormat>,
    /// How long recordings are kept.
    pub retention: Duration,
    /// Most bytes that all recordings take.
    pub quota: u64,
    /// Record input too.
    pub record_input: bool,
    /// Memory per session, in bytes.
    pub spool: usize,
    /// `Policy`: what follows if the files cannot be written.
    pub policy: RecordPolicy,
}

/// `SsmAgent.Audit`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditSettings {
    /// The file; `None` for `audit.log` in the log folder.
    pub file: Option<PathBuf>,
    /// Bytes after which a file is put aside.
    pub limit: u64,
    /// Most files, the present one included.
    pub files: u32,
}

/// Why the configuration cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read configuration {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// It is no JSON object.
    #[error("configuration {} is not valid JSON", path.display())]
    Syntax {
        /// The file.
        path: PathBuf,
        /// Where and why.
        #[source]
        source: serde_json::Error,
    },
    /// A value has the wrong type.
    #[error("configuration {}: {key} must be {expected}, but is {got}", path.display())]
    Type {
        /// The file.
        path: PathBuf,
        /// The key, with its section.
        key: String,
        /// What it must be.
        expected: &'static str,
        /// What it is.
        got: String,
    },
}

/// Reads and checks the file. Without the file in its usual place the defaults apply. Returns what is
/// odd but usable as warnings.
///
/// # Errors
/// [`ConfigError`], also for any other file that does not exist: its name was mistyped.
pub fn load(path: &Path) -> Result<(Settings, Vec<String>), ConfigError> {
    let may_be_absent = path == Path::new(DEFAULT_CONFIG);
    let text = match std::fs::read(path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound && may_be_absent => b"{}".to_vec(),
        Err(source) => {
            let path = path.to_owned();
            return Err(ConfigError::Read { path, source });
        }
    };
    let members: serde_json::Map<_, _> =
        serde_json::from_slice(&text).map_err(|source| ConfigError::Syntax {
            path: path.to_owned(),
            source,
        })?;
    let mut root = Section::root(path, members);
    let settings = read(&mut root)?;
    Ok((settings, root.finish()))
}

fn read(root: &mut Section) -> Result<Settings, ConfigError> {
    let mut profile = root.section("Profile")?;
    let mut ssm = root.section("Ssm")?;
    let mut mds = root.section("Mds")?;
    let mut mgs = root.section("Mgs")?;
    let mut kms = root.section("Kms")?;
    let mut s3 = root.section("S3")?;
    let mut agent = root.section("Agent")?;
    let mut identity = root.section("Identity")?;
    let mut own = root.section("SsmAgent")?;
    let (transcript, uploads) = read_transcript(&mut ssm, &mut own)?;
    let settings = Settings {
        profile: Profile {
            share_credentials: profile.boolean("ShareCreds", true)?,
            share_profile: profile.text("ShareProfile")?,
            force_update: profile.boolean("ForceUpdateCreds", false)?,
            key_auto_rotate_days: profile.number("KeyAutoRotateDays", 0, 0..=365)?,
        },
        endpoints: EndpointSettings {
            ssm: ssm.text("Endpoint")?,
            kms: kms.text("Endpoint")?,
            s3: s3.text("Endpoint")?,
            delivery: mds.text("Endpoint")?,
            messages: mgs.text("Endpoint")?,
            messages_region: mgs.text("Region")?,
            region: agent.text("Region")?,
            service_domain: agent.text("ServiceDomain")?,
        },
        identity: read_identity(&mut identity)?,
        health_interval: minutes(ssm.number("HealthFrequencyMinutes", HEALTH_MINUTES, 5..=60)?),
        session: read_session(&mut mgs, &mut kms, &mut own)?,
        commands: commands::read(&mut mds, &mut ssm)?,
        in_container: agent.boolean("ContainerMode", false)?,
        transcript,
        uploads,
        audit: read_audit(&mut own)?,
        ca_file: path_of(own.text("CaFile")?),
    };
    ssm.known(&known::SSM)?;
    mgs.known(&known::MGS)?;
    agent.known(&known::AGENT)?;
    identity.known(&known::IDENTITY)?;
    s3.known(&known::S3)?;
    for section in [profile, ssm, mds, mgs, kms, s3, agent, identity, own] {
        root.absorb(section);
    }
    for (name, keys) in known::SECTIONS {
        root.known_section(name, keys)?;
    }
    Ok(settings)
}

fn read_identity(section: &mut Section) -> Result<IdentitySettings, ConfigError> {
    const DEFAULT_ORDER: [IdentityKind; 3] = [
        IdentityKind::OnPrem,
        IdentityKind::Ec2,
        IdentityKind::Custom,
    ];
    let mut order = Vec::new();
    for name in section.texts("ConsumptionOrder")?.unwrap_or_default() {
        match name.as_str() {
            "OnPrem" => order.push(IdentityKind::OnPrem),
            "EC2" => order.push(IdentityKind::Ec2),
            "ECS" => order.push(IdentityKind::Ecs),
            "CustomIdentity" => order.push(IdentityKind::Custom),
            other => section.warn(format!(
                "Identity.ConsumptionOrder: {other:?} is no identity and is left out"
            )),
        }
    }
    if order.is_empty() {
        order = DEFAULT_ORDER.to_vec();
    }
    let mut custom = Vec::new();
    for mut entry in section.sections("CustomIdentities")? {
        let (instance_id, region) = (entry.text("InstanceID")?, entry.text("Region")?);
        entry.known(&known::CUSTOM_IDENTITY)?;
        let provider = entry.text("CredentialsProvider")?;
        if !matches!(provider.as_str(), "" | "DEFAULT") {
            entry.warn(format!("Identity.CustomIdentities: credentials provider {provider:?} is unknown, DEFAULT is used"));
        }
        if instance_id.is_empty() || region.is_empty() {
            entry.warn(
                "Identity.CustomIdentities: an entry without InstanceID or Region is left out"
                    .into(),
            );
        } else {
            custom.push(CustomIdentity {
                instance_id,
                region,
            });
        }
        section.absorb(entry);
    }
    Ok(IdentitySettings { order, custom })
}

fn read_session(
    mgs: &mut Section,
    kms: &mut Section,
    own: &mut Section,
) -> Result<SessionSettings, ConfigError> {
    let limit = mgs.number("SessionWorkersLimit", SESSION_LIMIT, 1..=100_000)?;
    let mut section = own.section("Session")?;
    let default_user = match section.text("DefaultUser")?.as_str() {
        "" | "ssm-user" => DefaultUser::ByPrivilege,
        "self" => DefaultUser::Agent,
        other => {
            section.warn(format!("SsmAgent.Session.DefaultUser: {other:?} is neither \"ssm-user\" nor \"self\", the default is used"));
            DefaultUser::ByPrivilege
        }
    };
    let settings = SessionSettings {
        limit,
        default_user,
        ssm_user_sudo: section.optional_boolean("SsmUserSudo")?,
        keep_detached: section.boolean("KeepDetached", false)?,
        pam_service: read_pam_service(&mut section)?,
        send_window: section.number("SendWindowBytes", SEND_WINDOW_BYTES, 64 << 10..=64 << 20)?,
        drain: Duration::from_secs(section.number("DrainSeconds", DRAIN_SECONDS, 0..=60)?),
        requires_kms_challenge: kms.boolean("RequireKMSChallengeResponse", false)?,
        denied_destinations: read_addresses(mgs, "DeniedPortForwardingRemoteIPs")?,
    };
    own.absorb(section);
    Ok(settings)
}

/// A name that names no file in PAM's folder would mean other rules than its author's, so it is an error.
fn read_pam_service(section: &mut Section) -> Result<Option<String>, ConfigError> {
    const KEY: &str = "PamService";
    let name = section.text(KEY)?;
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    if name.starts_with('.') || !name.bytes().all(is_plain) {
        return Err(section.wrong_type(KEY, "the name of a service", &name.into()));
    }
    Ok(Some(name).filter(|name| !name.is_empty()))
}

fn read_addresses(section: &mut Section, key: &str) -> Result<Option<Vec<IpAddr>>, ConfigError> {
    let Some(texts) = section.texts(key)? else {
        return Ok(None);
    };
    let mut addresses = Vec::new();
    for text in texts {
        match text.trim().parse() {
            Ok(address) => addresses.push(address),
            Err(_) => section.warn(format!(
                "Mgs.{key}: {text:?} is no IP address and is left out"
            )),
        }
    }
    Ok(Some(addresses))
}

fn read_transcript(
    ssm: &mut Section,
    own: &mut Section,
) -> Result<(Option<TranscriptSettings>, UploadSettings), ConfigError> {
    const HOURS: std::ops::RangeInclusive<i64> = 1..=87_600;
    let default_hours = ssm.number("SessionLogsRetentionDurationHours", RETENTION_HOURS, HOURS)?;
    let mut section = own.section("Transcript")?;
    let enabled = section.boolean("Enabled", true)?;
    let formats = read_formats(&mut section)?;
    let hours: u64 = section.number("RetentionHours", default_hours, HOURS)?;
    let settings = TranscriptSettings {
        directory: path_of(section.text("Directory")?),
        formats,
        retention: Duration::from_secs(hours * 3600),
        quota: section.number("QuotaBytes", QUOTA_BYTES, 1 << 20..=1 << 50)?,
        record_input: section.boolean("RecordInput", false)?,
        spool: section.number("SpoolBytes", SPOOL_BYTES, 64 << 10..=64 << 20)?,
        policy: uploads::policy(&mut section)?,
    };
    let uploads = uploads::read(&mut section)?;
    own.absorb(section);
    Ok((enabled.then_some(settings), uploads))
}

fn read_audit(own: &mut Section) -> Result<Option<AuditSettings>, ConfigError> {
    let mut section = own.section("Audit")?;
    let enabled = section.boolean("Enabled", true)?;
    let settings = AuditSettings {
        file: path_of(section.text("File")?),
        limit: section.number("MaxBytes", AUDIT_BYTES, AUDIT_BYTES_MIN..=1 << 40)?,
        files: section.number("Files", AUDIT_FILES, 1..=1000)?,
    };
    own.absorb(section);
    Ok(enabled.then_some(settings))
}

/// A list that names no format is a mistake, not a wish for no recording: that is `Enabled`.
fn read_formats(section: &mut Section) -> Result<Vec<RecordingFormat>, ConfigError> {
    let Some(names) = section.texts("Formats")? else {
        return Ok(ALL_FORMATS.to_vec());
    };
    let mut formats = Vec::new();
    for name in names {
        let format = match name.as_str() {
            "cast" => RecordingFormat::Cast,
            "log" => RecordingFormat::Log,
            other => {
                section.warn(format!(
                    "SsmAgent.Transcript.Formats: {other:?} is neither \"cast\" nor \"log\" and is left out"
                ));
                continue;
            }
        };
        if !formats.contains(&format) {
            formats.push(format);
        }
    }
    if formats.is_empty() {
        section.warn(
            "SsmAgent.Transcript.Formats: it names no format, all are written; SsmAgent.Transcript.Enabled turns recording off"
                .into(),
        );
        formats = ALL_FORMATS.to_vec();
    }
    Ok(formats)
}

fn minutes(count: u64) -> Duration {
    Duration::from_secs(count * 60)
}

fn path_of(text: String) -> Option<PathBuf> {
    (!text.is_empty()).then(|| text.into())
}

#[cfg(test)]
mod tests;

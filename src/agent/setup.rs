//! Turns the configuration and the command line's places into the rooms' own settings.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use jiff::SignedDuration;
use tracing::warn;

use super::audit;
use super::config::{
    DefaultUser, IdentityKind, RecordPolicy, RecordingFormat, SessionSettings, Settings,
};
use super::health::{Platform, Zone};
use super::host::control_group::Delegated;
use super::host::users::Sudo;
use super::identity::{self, Identity, share};
use super::run_command;
use super::session::{self, DenyList, ShellUser};
use super::transcript::{self, Destination, Policy};
use crate::aws::metadata::{Patience, Places};
use crate::aws::{Overrides, Variant};
use crate::protocol::channel::Window;
use crate::runtime::{limits, tls};
use crate::transport::KeySource;

/// Folder of the recordings in the log folder, unless the configuration names one.
const RECORDINGS: &str = "sessions";
/// Folder of the journals in the state folder.
const SPOOL: &str = "spool";
/// The audit log in the log folder, unless the configuration names another.
const AUDIT_LOG: &str = "audit.log";

/// The variables by which the AWS tools are told which endpoints to use.
const FIPS_VARIABLE: &str = "AWS_USE_FIPS_ENDPOINT";
const DUAL_STACK_VARIABLE: &str = "AWS_USE_DUALSTACK_ENDPOINT";

/// The TLS configuration for every connection to the service.
///
/// # Errors
/// If the configured file with certificate authorities cannot be read or used.
pub fn tls(settings: &Settings) -> io::Result<Arc<rustls::ClientConfig>> {
    match &settings.ca_file {
        None => Ok(tls::client_config()),
        Some(path) => {
            let authorities = std::fs::read(path).map_err(|error| {
                io::Error::new(error.kind(), format!("{}: {error}", path.display()))
            })?;
            tls::client_config_with(&authorities)
        }
    }
}

/// Endpoints as configuration and environment override them.
pub fn overrides(settings: &Settings) -> Overrides {
    overrides_in(settings, |name| std::env::var(name).ok())
}

/// Endpoints as the configuration overrides them, and an environment of which `lookup` knows the
/// variables. What the configuration says comes first.
pub fn overrides_in(settings: &Settings, lookup: impl Fn(&str) -> Option<String>) -> Overrides {
    let endpoints = &settings.endpoints;
    let is_set = |name| lookup(name).is_some_and(|value| value.trim().eq_ignore_ascii_case("true"));
    let given = |text: &String| Some(text.clone()).filter(|text| !text.is_empty());
    Overrides {
        service_domain: given(&endpoints.service_domain),
        region: given(&endpoints.region),
        ssm: given(&endpoints.ssm),
        delivery: given(&endpoints.delivery),
        kms: given(&endpoints.kms),
        logs: given(&settings.uploads.cloud_watch.endpoint),
        s3: given(&endpoints.s3),
        messages_region: given(&endpoints.messages_region),
        messages: given(&endpoints.messages),
        variant: Variant {
            fips: endpoints.use_fips.unwrap_or_else(|| is_set(FIPS_VARIABLE)),
            dual_stack: endpoints
                .use_dual_stack
                .unwrap_or_else(|| is_set(DUAL_STACK_VARIABLE)),
        },
    }
}

/// What the choice of an identity depends on.
pub fn identity(settings: &Settings, state: &Path) -> identity::Settings {
    identity_in(settings, state, |name| std::env::var(name).ok())
}

/// What the choice of an identity depends on in an environment of which `lookup` knows the variables.
pub fn identity_in(
    settings: &Settings,
    state: &Path,
    lookup: impl Fn(&str) -> Option<String>,
) -> identity::Settings {
    let profile = &settings.profile;
    let order = settings.identity.order.iter().map(|kind| match kind {
        IdentityKind::OnPrem => identity::Kind::OnPrem,
        IdentityKind::Ec2 => identity::Kind::Ec2,
        IdentityKind::Ecs => identity::Kind::Ecs,
        IdentityKind::Custom => identity::Kind::Custom,
    });
    let custom = settings
        .identity
        .custom
        .iter()
        .map(|entry| identity::CustomIdentity {
            node_id: entry.instance_id.clone(),
            region: entry.region.clone(),
            credentials_provider: String::new(),
        });
    let share = credentials_file().map(|file| share::Settings {
        file,
        profile: profile.share_profile.clone(),
        force: profile.force_update,
    });
    let days = i64::from(profile.key_auto_rotate_days);
    identity::Settings {
        state: state.to_owned(),
        order: order.collect(),
        custom: custom.collect(),
        ec2: identity::ec2::Settings {
            places: Places::from_lookup(&lookup),
            is_instance: settings.identity.is_instance,
        },
        overrides: overrides_in(settings, lookup),
        share: share.filter(|_| profile.share_credentials),
        rotate_key_after: (days > 0).then(|| SignedDuration::from_hours(24 * days)),
    }
}

/// Where the node is, as reports tell.
pub fn zone(node: &Identity) -> Zone {
    let instance = node.instance();
    instance.map_or_else(Zone::default, |instance| Zone {
        name: instance.availability_zone.clone(),
        id: instance.availability_zone_id.clone(),
    })
}

/// How sessions run on `node_id`; `program` takes the login step, `keys` decrypts data keys.
pub fn session(
    settings: &Settings,
    node_id: &str,
    program: PathBuf,
    keys: Arc<dyn KeySource>,
) -> session::Settings {
    let own = &settings.session;
    let defaults = session::Settings::new(node_id, program);
    session::Settings {
        limit: own.limit,
        open_files: limits::raise_nofile_limit().ok().map(|limit| limit.soft),
        language: std::env::var_os("LANG"),
        shell_user: match own.default_user {
            DefaultUser::ByPrivilege => ShellUser::by_privilege(),
            DefaultUser::Agent => ShellUser::Agent,
        },
        keys: Some(session::Keys {
            source: keys,
            requires_challenge: own.requires_kms_challenge,
        }),
        sudo: match own.ssm_user_sudo {
            None => Sudo::WhenCreated,
            Some(true) => Sudo::On,
            Some(false) => Sudo::Off,
        },
        in_container: settings.in_container,
        control_groups: if own.keep_detached {
            None
        } else {
            Delegated::of_this_process()
        },
        pam_service: pam_service(own),
        record: record(settings),
        drain: own.drain,
        denied_destinations: own
            .denied_destinations
            .clone()
            .map_or_else(DenyList::default, DenyList::new),
        send_window: Window {
            bytes: own.send_window,
            ..defaults.send_window
        },
        ..defaults
    }
}

/// The service by whose rules sessions log in.
fn pam_service(own: &SessionSettings) -> Option<String> {
    let service = own.pam_service.clone();
    if service.is_some() && !nix::unistd::geteuid().is_root() {
        warn!(
            "SsmAgent.Session.PamService: only an agent that runs as root can log in through PAM"
        );
        return None;
    }
    service
}

/// How commands run on the node; `open_files` is the limit for their scripts.
pub fn commands(
    settings: &Settings,
    state: &Path,
    node: &Identity,
    open_files: Option<u64>,
) -> run_command::Settings {
    let own = &settings.commands;
    let platform = Platform::of_this_host();
    run_command::Settings {
        region: node.region().to_owned(),
        platform_name: platform.name,
        platform_version: platform.version,
        workers: own.workers,
        queue: own.queue,
        start_limit: own.start_limit,
        retention: own.retention,
        output_clean_up: own.output_clean_up,
        folder_clean_up: own.folder_clean_up,
        open_files,
        control_groups: Delegated::of_this_process(),
        in_container: settings.in_container,
        metadata: node
            .metadata()
            .map(|metadata| metadata.with_patience(Patience::CERTAIN)),
        ..run_command::Settings::new(state.join(node.short_id()), node.node_id())
    }
}

/// How the message delivery service is polled for commands; not at all by an agent in a container, as in
/// the reference.
pub fn delivery(settings: &Settings, node: &Identity) -> Option<run_command::DeliverySettings> {
    (!settings.in_container).then(|| run_command::DeliverySettings {
        node_id: node.node_id().to_owned(),
        timeout: settings.commands.delivery_timeout,
        calls: settings.commands.workers,
    })
}

fn policy(policy: RecordPolicy) -> Policy {
    match policy {
        RecordPolicy::FailOpen => Policy::FailOpen,
        RecordPolicy::FailClosed => Policy::FailClosed,
    }
}

/// The services that get records.
fn record(settings: &Settings) -> session::Record {
    let own = &settings.uploads;
    session::Record {
        s3: (!own.s3.bucket.is_empty()).then(|| Destination::S3 {
            bucket: own.s3.bucket.clone(),
            key_prefix: own.s3.key_prefix.clone(),
            encrypted: own.s3.encrypted,
            cast: false,
        }),
        s3_cast: own.s3.cast,
        s3_policy: policy(own.s3.policy),
        cloud_watch: (!own.cloud_watch.group.is_empty()).then(|| Destination::CloudWatch {
            group: own.cloud_watch.group.clone(),
            encrypted: own.cloud_watch.encrypted,
            streaming: own.cloud_watch.streaming,
        }),
        cloud_watch_policy: policy(own.cloud_watch.policy),
        gateway: own.gateway.then(|| policy(own.gateway_policy)),
    }
}

/// Where records wait for their upload, in the state folder.
pub fn journal(settings: &Settings, state: &Path) -> transcript::JournalSettings {
    transcript::JournalSettings {
        directory: state.join(SPOOL),
        session_bytes: settings.uploads.journal,
        total_bytes: settings.uploads.journal_total,
        retention: settings.uploads.journal_retention,
    }
}

/// How sessions are recorded, in the log folder unless the configuration says otherwise.
pub fn transcript(settings: &Settings, logs: &Path) -> Option<transcript::Settings> {
    let own = settings.transcript.as_ref()?;
    let formats = own.formats.iter().map(|format| match format {
        RecordingFormat::Cast => transcript::Format::Cast,
        RecordingFormat::Log => transcript::Format::Log,
    });
    Some(transcript::Settings {
        directory: own
            .directory
            .clone()
            .unwrap_or_else(|| logs.join(RECORDINGS)),
        formats: formats.collect(),
        retention: own.retention,
        quota: own.quota,
        record_input: own.record_input,
        spool: own.spool,
        policy: policy(own.policy),
    })
}

/// The audit log, in the log folder unless the configuration says otherwise.
pub fn audit(settings: &Settings, logs: &Path) -> Option<audit::Settings> {
    let own = settings.audit.as_ref()?;
    Some(audit::Settings {
        path: own.file.clone().unwrap_or_else(|| logs.join(AUDIT_LOG)),
        limit: own.limit,
        files: own.files,
    })
}

/// The shared credentials file, found as the reference does: the variable, `$HOME`, passwd's home.
fn credentials_file() -> Option<PathBuf> {
    let named = std::env::var_os("AWS_SHARED_CREDENTIALS_FILE").filter(|name| !name.is_empty());
    named.map(PathBuf::from).or_else(|| {
        let home = std::env::var_os("HOME").filter(|home| !home.is_empty());
        let home = home.map(PathBuf::from).or_else(|| {
            let user = nix::unistd::User::from_uid(nix::unistd::geteuid())
                .ok()
                .flatten();
            user.map(|user| user.dir)
        });
        home.map(|home| home.join(".aws/credentials"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::agent::config;

    fn settings(text: &str) -> Settings {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("agent.json");
        std::fs::write(&path, text).unwrap();
        config::load(&path).unwrap().0
    }

    fn variant(text: &str, variables: &[&str]) -> (bool, bool) {
        let lookup = |name: &str| variables.contains(&name).then(|| "TRUE".to_owned());
        let variant = overrides_in(&settings(text), lookup).variant;
        (variant.fips, variant.dual_stack)
    }

    #[test]
    fn configuration_decides_on_endpoints_before_the_environment() {
        let both = [FIPS_VARIABLE, DUAL_STACK_VARIABLE];
        let ours = r#"{"SsmAgent":{"Endpoints":{"UseFips":false,"UseDualStack":true}}}"#;

        assert_eq!(variant("{}", &[]), (false, false));
        assert_eq!(variant("{}", &both), (true, true));
        assert_eq!(variant(ours, &[FIPS_VARIABLE]), (false, true));
    }

    #[test]
    fn dual_stack_key_of_the_reference_counts_when_it_is_true() {
        let on = r#"{"Agent":{"UseDualStackEndpoint":true}}"#;
        let off = r#"{"Agent":{"UseDualStackEndpoint":false}}"#;

        assert_eq!(variant(on, &[]), (false, true));
        assert_eq!(variant(off, &[DUAL_STACK_VARIABLE]), (false, true));
    }
}

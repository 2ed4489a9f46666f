//! Which services get the record of a session: what its document says, else what the host is
//! configured to.

use crate::agent::transcript::{Destination, Policy, Target};
use crate::protocol::wire::session_document::Preferences;

/// The services that get records.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Record {
    /// The bucket of sessions whose document names none.
    pub s3: Option<Destination>,
    /// Whether the cast goes beside the text in the bucket.
    pub s3_cast: bool,
    /// What follows if a bucket does not take a record.
    pub s3_policy: Policy,
    /// The log group of sessions whose document names none.
    pub cloud_watch: Option<Destination>,
    /// What follows if a log group does not take a record.
    pub cloud_watch_policy: Policy,
    /// Whether the gateway gets records, and what follows if it does not take one.
    pub gateway: Option<Policy>,
}

impl Record {
    /// Where the record of a session with these preferences goes.
    pub(super) fn targets(&self, preferences: &Preferences) -> Vec<Target> {
        let s3 = bucket(preferences).or_else(|| self.s3.clone());
        let cloud_watch = group(preferences).or_else(|| self.cloud_watch.clone());
        let gateway = self.gateway.map(|policy| (Destination::Gateway, policy));
        let casts = s3.clone().filter(|_| self.s3_cast).map(as_cast);
        let [s3, casts] = [s3, casts].map(|s3| Some((s3?, self.s3_policy)));
        let cloud_watch = cloud_watch.map(|destination| (destination, self.cloud_watch_policy));
        [s3, casts, cloud_watch, gateway]
            .into_iter()
            .flatten()
            .map(|(destination, policy)| Target {
                destination,
                policy,
            })
            .collect()
    }

    /// Where the record of a command goes. As with the reference, it does not go to a log group before its
    /// end.
    pub(super) fn targets_of_command(&self, preferences: &Preferences) -> Vec<Target> {
        let mut targets = self.targets(preferences);
        for target in &mut targets {
            match &mut target.destination {
                Destination::CloudWatch { streaming, .. } => *streaming = false,
                Destination::S3 { .. } | Destination::Gateway => {}
            }
        }
        targets
    }
}

fn bucket(preferences: &Preferences) -> Option<Destination> {
    (!preferences.s3_bucket_name.is_empty()).then(|| Destination::S3 {
        bucket: preferences.s3_bucket_name.clone(),
        key_prefix: preferences.s3_key_prefix.clone(),
        encrypted: preferences.s3_encryption_enabled,
        cast: false,
    })
}

/// The cast of a record, beside its text.
fn as_cast(mut destination: Destination) -> Destination {
    if let Destination::S3 { cast, .. } = &mut destination {
        *cast = true;
    }
    destination
}

fn group(preferences: &Preferences) -> Option<Destination> {
    (!preferences.cloud_watch_log_group_name.is_empty()).then(|| Destination::CloudWatch {
        group: preferences.cloud_watch_log_group_name.clone(),
        encrypted: preferences.cloud_watch_encryption_enabled,
        streaming: preferences.cloud_watch_streaming_enabled,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn document_goes_before_the_configuration() {
        let record = Record {
            s3: Some(s3("host")),
            s3_policy: Policy::FailClosed,
            ..Record::default()
        };
        let preferences = Preferences {
            s3_bucket_name: "document".into(),
            ..Preferences::default()
        };

        let expected = |bucket| Target {
            destination: s3(bucket),
            policy: Policy::FailClosed,
        };
        assert_eq!(record.targets(&preferences), [expected("document")]);
        assert_eq!(record.targets(&Preferences::default()), [expected("host")]);
    }

    #[test]
    fn cast_goes_beside_the_text_in_whatever_bucket_that_goes_to() {
        let record = Record {
            s3_cast: true,
            ..Record::default()
        };
        let preferences = Preferences {
            s3_bucket_name: "document".into(),
            ..Preferences::default()
        };

        let targets = record.targets(&preferences);

        let destinations: Vec<_> = targets.into_iter().map(|t| t.destination).collect();
        assert_eq!(destinations, [s3("document"), as_cast(s3("document"))]);
        assert_eq!(record.targets(&Preferences::default()), []);
    }

    #[test]
    fn only_shells_are_streamed_to_a_log_group() {
        let group = |streaming| Destination::CloudWatch {
            group: "/grp".into(),
            encrypted: false,
            streaming,
        };
        let record = Record {
            cloud_watch: Some(group(true)),
            ..Record::default()
        };

        let preferences = Preferences::default();
        let shell = record.targets(&preferences).remove(0);
        let command = record.targets_of_command(&preferences).remove(0);

        assert_eq!(shell.destination, group(true));
        assert_eq!(command.destination, group(false));
    }

    #[test]
    fn without_a_word_of_either_nothing_leaves_the_host() {
        assert_eq!(Record::default().targets(&Preferences::default()), []);
    }

    fn s3(bucket: &str) -> Destination {
        Destination::S3 {
            bucket: bucket.into(),
            key_prefix: String::new(),
            encrypted: false,
            cast: false,
        }
    }
}

//! Keys of the reference that mean nothing to this version: their types, defaults and ranges.

use super::section::Kind::{self, Flag, Number, OneOf, Text};

/// A key and what it has to be.
type Keys = [(&'static str, Kind)];

/// In `Ssm`.
pub(super) const SSM: [(&str, Kind); 5] = [
    ("AssociationFrequencyMinutes", number(10, 5, 60)),
    ("AssociationRetryLimit", number(5, i64::MIN, i64::MAX)),
    ("CustomInventoryDefaultLocation", Text),
    (
        "AssociationLogsRetentionDurationHours",
        number(24, 8, i64::MAX),
    ),
    ("SessionLogsDestination", OneOf(&["none", "disk"])),
];

/// In `Mgs`.
pub(super) const MGS: [(&str, Kind); 2] = [
    ("StopTimeoutMillis", number(20_000, i64::MIN, i64::MAX)),
    ("SessionWorkerBufferLimit", number(1, 1, i64::MAX)),
];

/// In `Agent`.
pub(super) const AGENT: [(&str, Kind); 14] = [
    ("Name", Text),
    ("Version", Text),
    ("OrchestrationRootDir", Text),
    ("DownloadRootDir", Text),
    ("SelfUpdate", Flag),
    ("SelfUpdateScheduleDay", number(7, 1, 7)),
    ("TelemetryMetricsToCloudWatch", Flag),
    ("TelemetryMetricsToSSM", Flag),
    ("TelemetryMetricsNamespace", Text),
    (
        "LongRunningWorkerMonitorIntervalSeconds",
        number(60, 30, 1800),
    ),
    ("AuditExpirationDay", number(7, 3, 30)),
    ("ForceFileIPC", Flag),
    // The threads of a process that we do not have, so its range is nobody's business.
    ("GoMaxProcForAgentWorker", number(0, i64::MIN, i64::MAX)),
    ("ShouldPurgeInstanceProfileRoleCreds", Flag),
];

/// In `Identity`.
pub(super) const IDENTITY: [(&str, Kind); 1] = [(
    "Ec2SystemInfoDetectionResponse",
    OneOf(&["", "true", "false"]),
)];

/// In an entry of `Identity.CustomIdentities`.
pub(super) const CUSTOM_IDENTITY: [(&str, Kind); 3] = [
    ("AvailabilityZone", Text),
    ("AvailabilityZoneId", Text),
    ("InstanceType", Text),
];

/// In `S3`.
pub(super) const S3: [(&str, Kind); 3] = [("Region", Text), ("LogBucket", Text), ("LogKey", Text)];

/// Whole sections.
pub(super) const SECTIONS: [(&str, &Keys); 2] = [
    ("Os", &[("Lang", Text), ("Name", Text), ("Version", Text)]),
    ("Birdwatcher", &[("ForceEnable", Flag)]),
];

const fn number(default: i64, least: i64, greatest: i64) -> Kind {
    Number {
        default,
        range: (least, greatest),
    }
}

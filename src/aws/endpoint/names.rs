//! The names of AWS's services: by service, region, and the variant that is asked for.
//!
//! | variant | service | name |
//! |---|---|---|
//! | none | all | `<service>.<region>.<domain>` |
//! | dual-stack | all but S3 | `<service>.<region>.<dual-stack domain>` |
//! | FIPS | all | `<service>-fips.<region>.<domain>` |
//! | FIPS | ssm, ssmmessages, ec2messages, logs in GovCloud | the ordinary name, which is FIPS-validated there |
//! | both | all but S3 | `<service>-fips.<region>.<dual-stack domain>` |
//! | dual-stack, both | S3 | `s3.dualstack.<region>.<domain>`, `s3-fips.dualstack.<region>.<domain>` |
//!
//! They are those of the rules that the AWS SDKs have for `ssm`, `kms`, `logs` and `s3`; `ssmmessages`
//! and `ec2messages` have no rules of their own and follow `ssm`.

/// Which of a service's names is meant.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Variant {
    /// Whose cryptography is validated by FIPS 140.
    pub fips: bool,
    /// Which has IPv6 addresses too.
    pub dual_stack: bool,
}

/// A partition of AWS.
struct Partition {
    /// What the names of its regions begin with.
    prefix: &'static str,
    domain: &'static str,
    dual_stack_domain: &'static str,
}

/// The partition of regions that no prefix of [`PARTITIONS`] matches.
const DEFAULT: Partition = Partition {
    prefix: "",
    domain: "amazonaws.com",
    dual_stack_domain: "api.aws",
};

const PARTITIONS: [Partition; 6] = [
    Partition {
        prefix: "cn-",
        domain: "amazonaws.com.cn",
        dual_stack_domain: "api.amazonwebservices.com.cn",
    },
    Partition {
        prefix: "us-iso-",
        domain: "c2s.ic.gov",
        dual_stack_domain: "api.aws.ic.gov",
    },
    Partition {
        prefix: "us-isob-",
        domain: "sc2s.sgov.gov",
        dual_stack_domain: "api.aws.scloud",
    },
    Partition {
        prefix: "us-isof-",
        domain: "csp.hci.ic.gov",
        dual_stack_domain: "api.aws.hci.ic.gov",
    },
    Partition {
        prefix: "eu-isoe-",
        domain: "cloud.adc-e.uk",
        dual_stack_domain: "api.cloud-aws.adc-e.uk",
    },
    Partition {
        prefix: "eusc-de-",
        domain: "amazonaws.eu",
        dual_stack_domain: "api.amazonwebservices.eu",
    },
];

/// What the names of GovCloud's regions begin with.
const GOVCLOUD: &str = "us-gov-";
/// Regions with FIPS endpoints of Systems Manager, beside those of GovCloud.
const FIPS_REGIONS: [&str; 6] = [
    "us-east-1",
    "us-east-2",
    "us-west-1",
    "us-west-2",
    "ca-central-1",
    "ca-west-1",
];
/// Services whose ordinary names are FIPS-validated in GovCloud.
const FIPS_IN_GOVCLOUD: [&str; 4] = ["ssm", "ssmmessages", "ec2messages", "logs"];

/// Whether AWS has FIPS endpoints of Systems Manager in `region`.
pub(super) fn has_fips(region: &str) -> bool {
    region.starts_with(GOVCLOUD) || FIPS_REGIONS.contains(&region)
}

/// The name of `service` in `region`.
pub(super) fn host(service: &str, region: &str, variant: Variant) -> String {
    let partition = partition(region);
    let Variant { fips, dual_stack } = variant;
    if service == "s3" {
        return format!("{}.{region}.{}", s3_label(variant), partition.domain);
    }
    let is_fips_anyway =
        !dual_stack && region.starts_with(GOVCLOUD) && FIPS_IN_GOVCLOUD.contains(&service);
    let suffix = if fips && !is_fips_anyway { "-fips" } else { "" };
    let domain = if dual_stack {
        partition.dual_stack_domain
    } else {
        partition.domain
    };
    format!("{service}{suffix}.{region}.{domain}")
}

/// What S3's names have before the region.
pub(super) fn s3_label(variant: Variant) -> &'static str {
    match (variant.fips, variant.dual_stack) {
        (false, false) => "s3",
        (false, true) => "s3.dualstack",
        (true, false) => "s3-fips",
        (true, true) => "s3-fips.dualstack",
    }
}

/// The domain of the partition that `region` is in.
pub(super) fn domain(region: &str) -> &'static str {
    partition(region).domain
}

fn partition(region: &str) -> &'static Partition {
    let found = PARTITIONS
        .iter()
        .find(|partition| region.starts_with(partition.prefix));
    found.unwrap_or(&DEFAULT)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NONE: Variant = Variant {
        fips: false,
        dual_stack: false,
    };
    const DUAL: Variant = Variant {
        fips: false,
        dual_stack: true,
    };
    const FIPS: Variant = Variant {
        fips: true,
        dual_stack: false,
    };
    const BOTH: Variant = Variant {
        fips: true,
        dual_stack: true,
    };

    /// Names that botocore 1.44 makes by its endpoint rules.
    #[test]
    fn names_are_those_of_the_sdks() {
        let table = [
            ("ssm", "us-east-1", NONE, "ssm.us-east-1.amazonaws.com"),
            ("ssm", "us-east-1", DUAL, "ssm.us-east-1.api.aws"),
            ("ssm", "us-east-1", FIPS, "ssm-fips.us-east-1.amazonaws.com"),
            ("ssm", "us-east-1", BOTH, "ssm-fips.us-east-1.api.aws"),
            (
                "ssm",
                "us-gov-west-1",
                FIPS,
                "ssm.us-gov-west-1.amazonaws.com",
            ),
            ("ssm", "us-gov-west-1", DUAL, "ssm.us-gov-west-1.api.aws"),
            (
                "ssm",
                "us-gov-west-1",
                BOTH,
                "ssm-fips.us-gov-west-1.api.aws",
            ),
            ("ssm", "cn-north-1", NONE, "ssm.cn-north-1.amazonaws.com.cn"),
            (
                "ssm",
                "cn-north-1",
                DUAL,
                "ssm.cn-north-1.api.amazonwebservices.com.cn",
            ),
            (
                "ssm",
                "us-iso-east-1",
                DUAL,
                "ssm.us-iso-east-1.api.aws.ic.gov",
            ),
            (
                "ssm",
                "us-isob-east-1",
                DUAL,
                "ssm.us-isob-east-1.api.aws.scloud",
            ),
            (
                "ssm",
                "us-isof-south-1",
                DUAL,
                "ssm.us-isof-south-1.api.aws.hci.ic.gov",
            ),
            (
                "ssm",
                "eu-isoe-west-1",
                DUAL,
                "ssm.eu-isoe-west-1.api.cloud-aws.adc-e.uk",
            ),
            (
                "ssm",
                "eusc-de-east-1",
                NONE,
                "ssm.eusc-de-east-1.amazonaws.eu",
            ),
            (
                "ssm",
                "eusc-de-east-1",
                DUAL,
                "ssm.eusc-de-east-1.api.amazonwebservices.eu",
            ),
            ("kms", "eu-west-1", DUAL, "kms.eu-west-1.api.aws"),
            ("kms", "eu-west-1", FIPS, "kms-fips.eu-west-1.amazonaws.com"),
            (
                "kms",
                "us-gov-west-1",
                FIPS,
                "kms-fips.us-gov-west-1.amazonaws.com",
            ),
            (
                "kms",
                "us-iso-east-1",
                BOTH,
                "kms-fips.us-iso-east-1.api.aws.ic.gov",
            ),
            (
                "logs",
                "us-west-2",
                FIPS,
                "logs-fips.us-west-2.amazonaws.com",
            ),
            (
                "logs",
                "us-gov-west-1",
                FIPS,
                "logs.us-gov-west-1.amazonaws.com",
            ),
            (
                "logs",
                "us-gov-west-1",
                BOTH,
                "logs-fips.us-gov-west-1.api.aws",
            ),
            ("s3", "us-east-1", NONE, "s3.us-east-1.amazonaws.com"),
            (
                "s3",
                "eu-west-1",
                DUAL,
                "s3.dualstack.eu-west-1.amazonaws.com",
            ),
            (
                "s3",
                "us-gov-west-1",
                FIPS,
                "s3-fips.us-gov-west-1.amazonaws.com",
            ),
            (
                "s3",
                "us-east-1",
                BOTH,
                "s3-fips.dualstack.us-east-1.amazonaws.com",
            ),
            (
                "s3",
                "cn-north-1",
                DUAL,
                "s3.dualstack.cn-north-1.amazonaws.com.cn",
            ),
            (
                "s3",
                "us-isob-east-1",
                BOTH,
                "s3-fips.dualstack.us-isob-east-1.sc2s.sgov.gov",
            ),
        ];

        for (service, region, variant, expected) in table {
            assert_eq!(host(service, region, variant), expected);
        }
    }

    #[test]
    fn message_gateway_is_named_as_systems_manager_is() {
        for region in ["us-east-1", "us-gov-east-1", "eusc-de-east-1"] {
            for variant in [NONE, DUAL, FIPS, BOTH] {
                let ssm = host("ssm", region, variant);
                assert_eq!(
                    host("ssmmessages", region, variant),
                    ssm.replacen("ssm", "ssmmessages", 1)
                );
            }
        }
    }

    #[test]
    fn fips_is_where_aws_has_it() {
        for region in ["us-east-1", "ca-west-1", "us-gov-east-1"] {
            assert!(has_fips(region), "{region}");
        }
        for region in ["eu-west-1", "cn-north-1", "us-iso-east-1"] {
            assert!(!has_fips(region), "{region}");
        }
    }
}

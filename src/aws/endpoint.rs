//! Where the services of a region are: partitions, and the overrides that a configuration names.

use url::{Host, Url};

/// Longest region name.
const MAX_REGION: usize = 100;

/// Domain of a region that no prefix of [`PARTITIONS`] matches.
const DEFAULT_DOMAIN: &str = "amazonaws.com";

/// Region prefix and the domain of its services.
const PARTITIONS: [(&str, &str); 6] = [
    ("cn-", "amazonaws.com.cn"),
    ("us-iso-", "c2s.ic.gov"),
    ("us-isob-", "sc2s.sgov.gov"),
    ("us-isof-", "csp.hci.ic.gov"),
    ("eu-isoe-", "cloud.adc-e.uk"),
    ("eusc-de-", "amazonaws.eu"),
];

/// Where calls go, and the regions that they are signed for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoints {
    /// Region that calls to Systems Manager, KMS, S3 and CloudWatch Logs are signed for.
    pub region: String,
    /// Base of KMS, `http` or `https`, with a path of `/`.
    pub kms: Url,
    /// Base of CloudWatch Logs, `http` or `https`, with a path of `/`.
    pub logs: Url,
    /// Where buckets are.
    pub s3: S3Endpoint,
    /// Base of Systems Manager, `http` or `https`, with a path of `/`.
    pub ssm: Url,
    /// Base of the message delivery service, `http` or `https`, with a path of `/`.
    pub delivery: Url,
    /// Region that calls to the message gateway are signed for.
    pub messages_region: String,
    /// Base of the message gateway, always `https`, with a path of `/`.
    pub messages: Url,
}

/// Where buckets are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct S3Endpoint {
    /// Base of S3 in the region of the agent, or the configured endpoint, `http` or `https`.
    pub url: Url,
    /// Domain of S3 in every region; absent if an endpoint is configured, which all buckets are at.
    pub domain: Option<String>,
}

/// Why an endpoint cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EndpointError {
    /// Not a region name: it becomes part of a host name.
    #[error("region {0:?} is not 1 to {MAX_REGION} letters, digits and hyphens")]
    Region(String),
    /// Not a domain name that services can be found under.
    #[error("service domain {0:?} is not a domain name")]
    ServiceDomain(String),
    /// Neither a host, nor a host with a port, nor a URL.
    #[error("endpoint {text:?} is not a host, host:port or URL: {reason}")]
    Malformed {
        /// What was given.
        text: String,
        /// What is wrong with it.
        reason: String,
    },
}

impl Endpoints {
    /// The endpoints of `region`; `service_domain` takes the place of the partition's domain.
    ///
    /// # Errors
    /// [`EndpointError::Region`] or [`EndpointError::ServiceDomain`].
    pub fn for_region(region: &str, service_domain: Option<&str>) -> Result<Self, EndpointError> {
        check_region(region)?;
        let domain = service_domain.map_or_else(|| domain_of(region), |domain| domain.trim());
        let url = |service: &str| {
            Url::parse(&format!("https://{service}.{region}.{domain}/"))
                .ok()
                .filter(|url| is_bare(url) && !domain.is_empty())
                .ok_or_else(|| EndpointError::ServiceDomain(domain.to_owned()))
        };
        Ok(Self {
            region: region.to_owned(),
            kms: url("kms")?,
            logs: url("logs")?,
            s3: S3Endpoint {
                url: url("s3")?,
                domain: Some(domain.to_owned()),
            },
            ssm: url("ssm")?,
            delivery: url("ec2messages")?,
            messages_region: region.to_owned(),
            messages: url("ssmmessages")?,
        })
    }

    /// Sends Systems Manager calls to `endpoint`: a URL, a host, or a host with a port. `https` is
    /// meant where no scheme is given.
    ///
    /// # Errors
    /// [`EndpointError::Malformed`].
    pub fn with_ssm(mut self, endpoint: &str) -> Result<Self, EndpointError> {
        self.ssm = parse_endpoint(endpoint, &["https", "http"])?;
        Ok(self)
    }

    /// Polls the message delivery service at `endpoint`: a URL, a host, or a host with a port. `https`
    /// is meant where no scheme is given.
    ///
    /// # Errors
    /// [`EndpointError::Malformed`].
    pub fn with_delivery(mut self, endpoint: &str) -> Result<Self, EndpointError> {
        self.delivery = parse_endpoint(endpoint, &["https", "http"])?;
        Ok(self)
    }

    /// Sends KMS calls to `endpoint`: a URL, a host, or a host with a port. `https` is meant where no
    /// scheme is given.
    ///
    /// # Errors
    /// [`EndpointError::Malformed`].
    pub fn with_kms(mut self, endpoint: &str) -> Result<Self, EndpointError> {
        self.kms = parse_endpoint(endpoint, &["https", "http"])?;
        Ok(self)
    }

    /// Sends CloudWatch Logs calls to `endpoint`: a URL, a host, or a host with a port. `https` is
    /// meant where no scheme is given.
    ///
    /// # Errors
    /// [`EndpointError::Malformed`].
    pub fn with_logs(mut self, endpoint: &str) -> Result<Self, EndpointError> {
        self.logs = parse_endpoint(endpoint, &["https", "http"])?;
        Ok(self)
    }

    /// Looks for every bucket at `endpoint`, named in the path: a URL, a host, or a host with a
    /// port. `https` is meant where no scheme is given.
    ///
    /// # Errors
    /// [`EndpointError::Malformed`].
    pub fn with_s3(mut self, endpoint: &str) -> Result<Self, EndpointError> {
        self.s3 = S3Endpoint {
            url: parse_endpoint(endpoint, &["https", "http"])?,
            domain: None,
        };
        Ok(self)
    }

    /// Sends message gateway calls to `endpoint`. Only its host and port count: the message
    /// gateway is never spoken to without TLS.
    ///
    /// # Errors
    /// [`EndpointError::Malformed`].
    pub fn with_messages(mut self, endpoint: &str) -> Result<Self, EndpointError> {
        self.messages = gateway_base(&parse_endpoint(endpoint, &["https", "wss", "http", "ws"])?)
            .ok_or_else(|| malformed(endpoint, "it has no host"))?;
        Ok(self)
    }
}

/// What a configuration may say about endpoints. `None` is the default of the region.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Overrides {
    /// Takes the place of the partition's domain, for every service.
    pub service_domain: Option<String>,
    /// Region of Systems Manager.
    pub region: Option<String>,
    /// Endpoint of Systems Manager.
    pub ssm: Option<String>,
    /// Endpoint of the message delivery service.
    pub delivery: Option<String>,
    /// Endpoint of KMS.
    pub kms: Option<String>,
    /// Endpoint of CloudWatch Logs.
    pub logs: Option<String>,
    /// Endpoint of S3, for every bucket.
    pub s3: Option<String>,
    /// Region of the message gateway.
    pub messages_region: Option<String>,
    /// Endpoint of the message gateway.
    pub messages: Option<String>,
}

impl Overrides {
    /// The endpoints of a node in `region`.
    ///
    /// # Errors
    /// [`EndpointError`].
    pub fn resolve(&self, region: &str) -> Result<Endpoints, EndpointError> {
        let domain = self.service_domain.as_deref();
        let of_messages = self.messages_region.as_deref().unwrap_or(region);
        let of_messages = Endpoints::for_region(of_messages, domain)?;
        let of_ssm = self.region.as_deref().unwrap_or(region);
        let mut endpoints = Endpoints {
            messages_region: of_messages.messages_region,
            messages: of_messages.messages,
            ..Endpoints::for_region(of_ssm, domain)?
        };
        if let Some(ssm) = &self.ssm {
            endpoints = endpoints.with_ssm(ssm)?;
        }
        if let Some(delivery) = &self.delivery {
            endpoints = endpoints.with_delivery(delivery)?;
        }
        if let Some(kms) = &self.kms {
            endpoints = endpoints.with_kms(kms)?;
        }
        if let Some(s3) = &self.s3 {
            endpoints = endpoints.with_s3(s3)?;
        }
        if let Some(logs) = &self.logs {
            endpoints = endpoints.with_logs(logs)?;
        }
        if let Some(messages) = &self.messages {
            endpoints = endpoints.with_messages(messages)?;
        }
        Ok(endpoints)
    }
}

/// Checks that a name can be that of a region.
pub(super) fn check_region(region: &str) -> Result<(), EndpointError> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || c == '-';
    if region.is_empty() || region.len() > MAX_REGION || !region.chars().all(allowed) {
        return Err(EndpointError::Region(region.to_owned()));
    }
    Ok(())
}

fn domain_of(region: &str) -> &'static str {
    PARTITIONS
        .iter()
        .find(|(prefix, _)| region.starts_with(prefix))
        .map_or(DEFAULT_DOMAIN, |(_, domain)| domain)
}

/// A scheme is only what is followed by `//`: `localhost:8443` is a host with a port, which URL
/// parsers take for a scheme with a path.
fn parse_endpoint(text: &str, schemes: &[&str]) -> Result<Url, EndpointError> {
    let trimmed = text.trim();
    let absolute = if trimmed.contains("://") {
        trimmed.to_owned()
    } else {
        format!("https://{trimmed}")
    };
    let mut url = Url::parse(&absolute).map_err(|error| malformed(text, &error.to_string()))?;
    if !schemes.contains(&url.scheme()) {
        return Err(malformed(text, &format!("scheme {:?}", url.scheme())));
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err(malformed("…", "it has a user name or password"));
    }
    url.set_query(None);
    url.set_fragment(None);
    if !url.path().ends_with('/') {
        url.set_path(&format!("{}/", url.path()));
    }
    Ok(url)
}

/// `https://host[:port]/` of any URL.
fn gateway_base(url: &Url) -> Option<Url> {
    let host = match url.host()? {
        Host::Ipv6(address) => format!("[{address}]"),
        host => host.to_string(),
    };
    let authority = match url.port() {
        Some(port) => format!("{host}:{port}"),
        None => host,
    };
    Url::parse(&format!("https://{authority}/")).ok()
}

fn is_bare(url: &Url) -> bool {
    url.path() == "/" && url.query().is_none() && url.fragment().is_none() && url.port().is_none()
}

fn malformed(text: &str, reason: &str) -> EndpointError {
    EndpointError::Malformed {
        text: text.to_owned(),
        reason: reason.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ireland() -> Endpoints {
        Endpoints::for_region("eu-west-1", None).unwrap()
    }

    #[test]
    fn prefix_of_the_region_decides_the_domain() {
        let table = [
            ("us-east-1", "https://ssm.us-east-1.amazonaws.com/"),
            ("cn-north-1", "https://ssm.cn-north-1.amazonaws.com.cn/"),
            ("us-iso-east-1", "https://ssm.us-iso-east-1.c2s.ic.gov/"),
            (
                "us-isob-east-1",
                "https://ssm.us-isob-east-1.sc2s.sgov.gov/",
            ),
            (
                "us-isof-south-1",
                "https://ssm.us-isof-south-1.csp.hci.ic.gov/",
            ),
            (
                "eu-isoe-west-1",
                "https://ssm.eu-isoe-west-1.cloud.adc-e.uk/",
            ),
            ("eusc-de-east-1", "https://ssm.eusc-de-east-1.amazonaws.eu/"),
            ("us-gov-west-1", "https://ssm.us-gov-west-1.amazonaws.com/"),
        ];

        for (region, expected) in table {
            let endpoints = Endpoints::for_region(region, None).unwrap();
            assert_eq!(endpoints.ssm.as_str(), expected);
        }
    }

    #[test]
    fn service_domain_replaces_the_domain_of_every_service() {
        let endpoints = Endpoints::for_region("eu-west-1", Some("my.domain")).unwrap();

        assert_eq!(endpoints.ssm.as_str(), "https://ssm.eu-west-1.my.domain/");
        assert_eq!(
            endpoints.messages.as_str(),
            "https://ssmmessages.eu-west-1.my.domain/"
        );
    }

    #[test]
    fn service_domain_that_is_no_domain_is_refused() {
        for domain in ["", "a/b", "a?b", "a:1", "a b", "x#y"] {
            assert_eq!(
                Endpoints::for_region("eu-west-1", Some(domain)),
                Err(EndpointError::ServiceDomain(domain.to_owned()))
            );
        }
    }

    #[test]
    fn region_that_could_change_the_host_is_refused() {
        let long = "a".repeat(MAX_REGION + 1);
        for region in ["", "eu.west", "eu/west", "eu west", "é", long.as_str()] {
            assert_eq!(
                Endpoints::for_region(region, None),
                Err(EndpointError::Region(region.to_owned()))
            );
        }
    }

    #[test]
    fn gateway_endpoint_is_understood_in_every_way_a_person_writes_it() {
        let table = [
            ("host.example.com", "https://host.example.com/"),
            ("127.0.0.1:8443", "https://127.0.0.1:8443/"),
            ("localhost:8443", "https://localhost:8443/"),
            ("https://127.0.0.1:8443", "https://127.0.0.1:8443/"),
            ("wss://gateway:8443/v1/", "https://gateway:8443/"),
            ("http://gateway:8080", "https://gateway:8080/"),
            ("[::1]:8443", "https://[::1]:8443/"),
            (" gateway ", "https://gateway/"),
        ];

        for (text, expected) in table {
            let endpoints = ireland().with_messages(text).unwrap();
            assert_eq!(endpoints.messages.as_str(), expected, "{text:?}");
        }
    }

    #[test]
    fn ssm_endpoint_may_be_plain_http_and_keeps_its_path() {
        let table = [
            ("http://127.0.0.1:8080", "http://127.0.0.1:8080/"),
            ("127.0.0.1:8080", "https://127.0.0.1:8080/"),
            ("https://proxy.example/ssm", "https://proxy.example/ssm/"),
        ];

        for (text, expected) in table {
            let endpoints = ireland().with_ssm(text).unwrap();
            assert_eq!(endpoints.ssm.as_str(), expected, "{text:?}");
        }
    }

    #[test]
    fn endpoint_that_nothing_can_be_sent_to_is_refused() {
        for text in [
            "",
            "ftp://host",
            "host:port",
            "https://",
            "https://u:p@host",
        ] {
            assert!(ireland().with_ssm(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn password_in_an_endpoint_is_not_repeated_in_the_error() {
        let error = ireland().with_ssm("https://u:secret@host").unwrap_err();

        assert!(!error.to_string().contains("secret"));
    }

    #[test]
    fn overrides_apply_each_to_its_service() {
        let overrides = Overrides {
            region: Some("us-east-1".into()),
            messages_region: Some("us-east-2".into()),
            ssm: Some("http://127.0.0.1:8080".into()),
            kms: Some("http://127.0.0.1:8081".into()),
            delivery: Some("http://127.0.0.1:8083".into()),
            logs: Some("http://127.0.0.1:8082".into()),
            ..Overrides::default()
        };

        let endpoints = overrides.resolve("eu-west-1").unwrap();

        assert_eq!(endpoints.region, "us-east-1");
        assert_eq!(endpoints.kms.as_str(), "http://127.0.0.1:8081/");
        assert_eq!(endpoints.logs.as_str(), "http://127.0.0.1:8082/");
        assert_eq!(endpoints.delivery.as_str(), "http://127.0.0.1:8083/");
        assert_eq!(endpoints.ssm.as_str(), "http://127.0.0.1:8080/");
        assert_eq!(endpoints.messages_region, "us-east-2");
        assert_eq!(
            endpoints.messages.as_str(),
            "https://ssmmessages.us-east-2.amazonaws.com/"
        );
    }

    #[test]
    fn no_overrides_leave_the_endpoints_of_the_region() {
        assert_eq!(
            Overrides::default().resolve("eu-west-1").unwrap(),
            ireland()
        );
    }
}

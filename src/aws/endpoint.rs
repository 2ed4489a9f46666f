//! Where the services of a region are, and the overrides that a configuration names.

mod names;

use url::{Host, Url};

pub use names::Variant;

/// Longest region name.
const MAX_REGION: usize = 100;

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
    /// The names of S3 in every region; absent if an endpoint is configured, which all buckets are at.
    pub names: Option<S3Names>,
}

/// The names of S3, `<label>.<region>.<domain>`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct S3Names {
    /// What stands before the region.
    pub label: &'static str,
    /// What stands after it.
    pub domain: String,
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
    /// FIPS endpoints are wanted where AWS has none.
    #[error(
        "AWS has no FIPS endpoint of {service} in {region}: name its endpoint in the configuration, or want none"
    )]
    NoFips {
        /// The service.
        service: &'static str,
        /// The region.
        region: String,
    },
    /// FIPS endpoints are wanted of a domain that is not AWS's.
    #[error(
        "there are no FIPS endpoints of {service} under the service domain {domain:?}: name its endpoint in the configuration, or want none"
    )]
    NoFipsDomain {
        /// The service.
        service: &'static str,
        /// The domain.
        domain: String,
    },
}

impl Endpoints {
    /// The endpoints of `region`; `service_domain` takes the place of the partition's domain.
    ///
    /// # Errors
    /// [`EndpointError::Region`] or [`EndpointError::ServiceDomain`].
    pub fn for_region(region: &str, service_domain: Option<&str>) -> Result<Self, EndpointError> {
        Self::of(region, service_domain, Variant::default())
    }

    /// The endpoints of `region` of that variant. A domain of one's own has no variants.
    ///
    /// # Errors
    /// [`EndpointError::Region`] or [`EndpointError::ServiceDomain`].
    pub fn of(
        region: &str,
        service_domain: Option<&str>,
        variant: Variant,
    ) -> Result<Self, EndpointError> {
        check_region(region)?;
        let service_domain = service_domain.map(str::trim);
        let url = |service: &str| {
            let host = match service_domain {
                Some(domain) => format!("{service}.{region}.{domain}"),
                None => names::host(service, region, variant),
            };
            Url::parse(&format!("https://{host}/"))
                .ok()
                .filter(|url| is_bare(url) && service_domain != Some(""))
                .ok_or_else(|| {
                    EndpointError::ServiceDomain(service_domain.unwrap_or(&host).to_owned())
                })
        };
        let s3_names = match service_domain {
            Some(domain) => S3Names {
                label: names::s3_label(Variant::default()),
                domain: domain.to_owned(),
            },
            None => S3Names {
                label: names::s3_label(variant),
                domain: names::domain(region).to_owned(),
            },
        };
        Ok(Self {
            region: region.to_owned(),
            kms: url("kms")?,
            logs: url("logs")?,
            s3: S3Endpoint {
                url: url("s3")?,
                names: Some(s3_names),
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
            names: None,
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
    /// The variant of all endpoints that are not overridden.
    pub variant: Variant,
}

impl Overrides {
    /// The endpoints of a node in `region`.
    ///
    /// Of the services that an agent cannot do without, FIPS endpoints have to exist. The others get
    /// the names that the SDKs would give them, which lead nowhere where there are none, and never to
    /// an endpoint that is not validated.
    ///
    /// # Errors
    /// [`EndpointError`].
    pub fn resolve(&self, region: &str) -> Result<Endpoints, EndpointError> {
        let domain = self.service_domain.as_deref();
        let of_messages = self.messages_region.as_deref().unwrap_or(region);
        let of_ssm = self.region.as_deref().unwrap_or(region);
        for (service, endpoint, region) in [
            ("ssm", &self.ssm, of_ssm),
            ("ssmmessages", &self.messages, of_messages),
        ] {
            if endpoint.is_none() {
                self.check_fips(service, region)?;
            }
        }
        let of_messages = Endpoints::of(of_messages, domain, self.variant)?;
        let mut endpoints = Endpoints {
            messages_region: of_messages.messages_region,
            messages: of_messages.messages,
            ..Endpoints::of(of_ssm, domain, self.variant)?
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

    fn check_fips(&self, service: &'static str, region: &str) -> Result<(), EndpointError> {
        if !self.variant.fips {
            return Ok(());
        }
        match &self.service_domain {
            Some(domain) => Err(EndpointError::NoFipsDomain {
                service,
                domain: domain.clone(),
            }),
            None if !names::has_fips(region) => Err(EndpointError::NoFips {
                service,
                region: region.to_owned(),
            }),
            None => Ok(()),
        }
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
mod tests;

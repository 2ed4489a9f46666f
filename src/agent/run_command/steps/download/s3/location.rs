//! URLs of S3: which bucket and key one means.

use std::sync::LazyLock;

use regex::Regex;
use url::Url;

use crate::aws::S3Endpoint;

/// Domains of AWS, of which a bucket's host is part.
const DOMAINS: &str = r"(?:amazonaws\.com(?:\.cn)?|c2s\.ic\.gov|sc2s\.sgov\.gov|cloud\.adc-e\.uk|csp\.hci\.ic\.gov|amazonaws\.eu)";

/// Hosts of S3, with a bucket before them or without.
static HOSTS: LazyLock<[Regex; 2]> = LazyLock::new(|| {
    [
        format!(
            r"^(?:(.+)\.)?(?:bucket|accesspoint|control)\.vpce-[-a-z0-9]+\.s3[.-](?:[-a-z0-9]+\.)?vpce\.{DOMAINS}$"
        ),
        format!(
            r"^(?:(.+)\.)?s3(?:-fips|-accelerate|[.-]website)?(?:[.-]accelerate)?(?:\.dualstack)?(?:[.-][-a-z0-9]+)?\.{DOMAINS}$"
        ),
    ]
    .map(|pattern| Regex::new(&pattern).expect("it is a pattern"))
});

/// What a URL means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in super::super::super) struct Location {
    /// The bucket.
    pub(in super::super::super) bucket: String,
    /// The key, or the prefix of keys; may be empty.
    pub(in super::super::super) key: String,
}

impl Location {
    /// Reads a URL: of AWS, or of the endpoint that is configured. Nothing if it is none.
    pub(in super::super::super) fn parse(text: &str, endpoint: &S3Endpoint) -> Option<Self> {
        // S3 takes a plus for a space.
        let url = Url::parse(&text.replace('+', "%20")).ok()?;
        if !matches!(url.scheme(), "http" | "https") {
            return None;
        }
        let host = url.host_str()?;
        let is_configured = endpoint.domain.is_none() && url.origin() == endpoint.url.origin();
        let in_host = if is_configured {
            None
        } else {
            let found = HOSTS.iter().find_map(|pattern| pattern.captures(host))?;
            found.get(1).map(|bucket| bucket.as_str().to_owned())
        };
        let path = decode(url.path().strip_prefix('/').unwrap_or_default())?;
        let (bucket, key) = match in_host {
            Some(bucket) => (bucket, path),
            None => match path.split_once('/') {
                Some((bucket, key)) => (bucket.to_owned(), key.to_owned()),
                None => (path, String::new()),
            },
        };
        (!bucket.is_empty()).then_some(Self { bucket, key })
    }

    /// What the keys below it begin with.
    pub(super) fn prefix(&self) -> String {
        if self.is_folder() {
            self.key.clone()
        } else {
            format!("{}/", self.key)
        }
    }

    /// Whether it can be no object.
    pub(super) fn is_folder(&self) -> bool {
        self.key.is_empty() || self.key.ends_with('/')
    }

    /// The last part of the key.
    pub(super) fn name(&self) -> &str {
        self.key.rsplit('/').next().unwrap_or_default()
    }
}

/// `text` with `%XX` as the bytes that they stand for, if that is text.
fn decode(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let digits = [rest.next()?, rest.next()?];
        let digits = std::str::from_utf8(&digits).ok()?;
        bytes.push(u8::from_str_radix(digits, 16).ok()?);
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::aws::Endpoints;

    fn parse(text: &str) -> Option<(String, String)> {
        let endpoints = Endpoints::for_region("us-east-1", None).unwrap();
        let location = Location::parse(text, &endpoints.s3)?;
        Some((location.bucket, location.key))
    }

    #[test]
    fn urls_of_every_style_name_a_bucket_and_a_key() {
        for (host, path) in [
            ("s3.amazonaws.com", "/bkt/a/b.sh"),
            ("s3.eu-west-1.amazonaws.com", "/bkt/a/b.sh"),
            ("s3-eu-west-1.amazonaws.com", "/bkt/a/b.sh"),
            ("s3.dualstack.eu-west-1.amazonaws.com", "/bkt/a/b.sh"),
            ("s3-fips.us-gov-west-1.amazonaws.com", "/bkt/a/b.sh"),
            ("s3.cn-north-1.amazonaws.com.cn", "/bkt/a/b.sh"),
            ("bkt.s3.amazonaws.com", "/a/b.sh"),
            ("bkt.s3.eu-west-1.amazonaws.com", "/a/b.sh"),
            ("bkt.s3-accelerate.amazonaws.com", "/a/b.sh"),
            ("bkt.s3-website-eu-west-1.amazonaws.com", "/a/b.sh"),
            (
                "bkt.bucket.vpce-1a2b-c.s3.us-east-1.vpce.amazonaws.com",
                "/a/b.sh",
            ),
        ] {
            let found = parse(&format!("https://{host}{path}"));
            assert_eq!(found, Some(("bkt".into(), "a/b.sh".into())), "{host}");
        }
        let dotted = parse("https://my.s3.bkt.s3.eu-west-1.amazonaws.com/k");
        assert_eq!(dotted, Some(("my.s3.bkt".into(), "k".into())));
    }

    #[test]
    fn keys_are_decoded_and_a_plus_is_a_space() {
        let key = |path: &str| {
            parse(&format!("https://s3.amazonaws.com/bkt/{path}"))
                .unwrap()
                .1
        };

        assert_eq!(
            key("hello%2Bworld/spaces+file.sh"),
            "hello+world/spaces file.sh"
        );
        assert_eq!(key("%C3%BC//x"), "\u{fc}//x");
        assert_eq!(key(""), "");
    }

    #[test]
    fn other_urls_are_none() {
        for text in [
            "",
            "bkt/key",
            "s3://bkt/key",
            "https://example.com/bkt/key",
            "https://s3.amazonaws.com.example.com/bkt/key",
            "https://s3.amazonaws.com/",
            "ftp://s3.amazonaws.com/bkt/key",
            "http://127.0.0.1:1/bkt/key",
        ] {
            assert_eq!(parse(text), None, "{text}");
        }
    }

    #[test]
    fn configured_endpoint_has_buckets_in_its_paths() {
        let endpoints = Endpoints::for_region("us-east-1", None).unwrap();
        let endpoints = endpoints.with_s3("http://127.0.0.1:1").unwrap();

        let here = Location::parse("http://127.0.0.1:1/bkt/a/b", &endpoints.s3);

        let here = here.unwrap();
        assert_eq!((here.bucket.as_str(), here.key.as_str()), ("bkt", "a/b"));
        assert_eq!((here.prefix().as_str(), here.name()), ("a/b/", "b"));
        assert!(Location::parse("http://127.0.0.1:2/bkt/a", &endpoints.s3).is_none());
    }
}

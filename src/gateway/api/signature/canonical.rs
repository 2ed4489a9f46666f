//! The text a signature is made over.
//!
//! ```text
//! <method>                                AWS4-HMAC-SHA256
//! <path, each byte escaped once more>     <time>
//! <query, decoded, escaped, sorted>       <date>/<region>/<service>/aws4_request
//! <name>:<value>  per signed header       <SHA-256 of the left side>
//!
//! <signed header names>
//! <SHA-256 of the body>
//! ```

use std::time::{Duration, SystemTime};

use aws_lc_rs::digest;
use http::HeaderMap;
use http::request::Parts;
use jiff::Timestamp;
use jiff::tz::TimeZone;

use super::SignatureError;

const TIME_FORMAT: &str = "%Y%m%dT%H%M%SZ";

/// The time a request was signed at, as its headers state it.
pub(super) struct SigningTime {
    time: SystemTime,
    /// `20261122T100523Z`.
    text: String,
}

impl SigningTime {
    /// Reads `X-Amz-Date`, or `Date` if that is missing.
    ///
    /// # Errors
    /// [`SignatureError::Incomplete`] or [`SignatureError::Invalid`].
    pub(super) fn read(headers: &HeaderMap) -> Result<Self, SignatureError> {
        let header = headers.get("x-amz-date").or_else(|| headers.get("date"));
        let header = header.ok_or_else(|| {
            SignatureError::Incomplete(
                "Authorization header requires existence of either a 'X-Amz-Date' or a 'Date' header."
                    .into(),
            )
        })?;
        let time = header.to_str().ok().and_then(parse_time).ok_or_else(|| {
            SignatureError::Incomplete(format!(
                "Date must be in ISO-8601 'basic format'. Got {header:?}. See http://en.wikipedia.org/wiki/ISO_8601"
            ))
        })?;
        Ok(Self {
            time: time.into(),
            text: format_time(time),
        })
    }

    /// Checks that the time is on the day `date` of the credential scope and at most `window` from `now`.
    ///
    /// # Errors
    /// [`SignatureError::Invalid`] with AWS's words, from which SDKs learn our time.
    pub(super) fn check(
        &self,
        date: &str,
        now: SystemTime,
        window: Duration,
    ) -> Result<(), SignatureError> {
        let (text, day) = (&self.text, &self.text[..8]);
        if date != day {
            return Err(SignatureError::Invalid(format!(
                "Date in Credential scope does not match YYYYMMDD from ISO-8601 version of date \
                 from HTTP: '{date}' != '{day}', from '{text}'."
            )));
        }
        let (earliest, latest) = (now - window, now + window);
        let minutes = window.as_secs() / 60;
        let [now, first, last] = [now, earliest, latest].map(|time| {
            Timestamp::try_from(time).map_or_else(|_| "an unknown time".into(), format_time)
        });
        if self.time < earliest {
            return Err(SignatureError::Invalid(format!(
                "Signature expired: {text} is now earlier than {first} ({now} - {minutes} min.)"
            )));
        }
        if self.time > latest {
            return Err(SignatureError::Invalid(format!(
                "Signature not yet current: {text} is still later than {last} ({now} + {minutes} min.)"
            )));
        }
        Ok(())
    }
}

fn parse_time(text: &str) -> Option<Timestamp> {
    let basic = jiff::civil::DateTime::strptime(TIME_FORMAT, text);
    let zoned = match basic {
        Ok(civil) => civil.to_zoned(TimeZone::UTC).ok()?,
        Err(_) => jiff::fmt::rfc2822::parse(text).ok()?,
    };
    Some(zoned.timestamp())
}

fn format_time(time: Timestamp) -> String {
    time.strftime(TIME_FORMAT).to_string()
}

/// The canonical request.
///
/// # Errors
/// [`SignatureError::Invalid`] if a header is listed as signed and is not there.
pub(super) fn request(
    parts: &Parts,
    signed_headers: &[String],
    payload_hash: &str,
) -> Result<Vec<u8>, SignatureError> {
    let mut text = Vec::with_capacity(512);
    push_line(&mut text, parts.method.as_str().as_bytes());
    push_line(&mut text, path(parts.uri.path()).as_bytes());
    push_line(
        &mut text,
        query(parts.uri.query().unwrap_or_default()).as_bytes(),
    );
    for name in signed_headers {
        text.extend_from_slice(name.as_bytes());
        text.push(b':');
        push_header_values(&mut text, name, &parts.headers)?;
        text.push(b'\n');
    }
    text.push(b'\n');
    push_line(&mut text, signed_headers.join(";").as_bytes());
    text.extend_from_slice(payload_hash.as_bytes());
    Ok(text)
}

/// What is signed in the end.
pub(super) fn string_to_sign(time: &SigningTime, scope: &str, request: &[u8]) -> Vec<u8> {
    let hash = hex(digest::digest(&digest::SHA256, request).as_ref());
    format!("AWS4-HMAC-SHA256\n{}\n{scope}\n{hash}", time.text).into_bytes()
}

/// Lower-case hexadecimal.
pub(in crate::gateway::api) fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::new(), |mut text, byte| {
        // Writing to a string cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

fn push_line(text: &mut Vec<u8>, line: &[u8]) {
    text.extend_from_slice(line);
    text.push(b'\n');
}

/// The values of a header, trimmed, runs of spaces made one, joined by commas.
fn push_header_values(
    text: &mut Vec<u8>,
    name: &str,
    headers: &HeaderMap,
) -> Result<(), SignatureError> {
    let mut values = headers.get_all(name).iter().peekable();
    if values.peek().is_none() {
        return Err(SignatureError::Invalid(format!(
            "'{name}' is a 'SignedHeader' in the AWS Authorization and is not in the request."
        )));
    }
    for (number, value) in values.enumerate() {
        if number > 0 {
            text.push(b',');
        }
        let words = value.as_bytes().split(u8::is_ascii_whitespace);
        let words: Vec<&[u8]> = words.filter(|word| !word.is_empty()).collect();
        text.extend_from_slice(&words.join(&b' '));
    }
    Ok(())
}

/// The path with every byte but unreserved ones and slashes escaped. What the sender has escaped
/// is escaped again: all services but S3 sign it so.
fn path(sent: &str) -> String {
    let mut text = String::with_capacity(sent.len());
    for byte in sent.bytes() {
        push_escaped(&mut text, byte, byte == b'/');
    }
    text
}

/// The query with every name and value escaped in the one canonical way, sorted.
fn query(sent: &str) -> String {
    let escape = |text: &str| {
        let mut escaped = String::with_capacity(text.len());
        for byte in unescape(text) {
            push_escaped(&mut escaped, byte, false);
        }
        escaped
    };
    let mut pairs: Vec<(String, String)> = sent
        .split('&')
        .filter(|pair| !pair.is_empty())
        .map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            (escape(name), escape(value))
        })
        .collect();
    pairs.sort();
    let pairs: Vec<String> = pairs
        .iter()
        .map(|(name, value)| format!("{name}={value}"))
        .collect();
    pairs.join("&")
}

fn push_escaped(text: &mut String, byte: u8, keep: bool) {
    const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
    if keep || byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
        text.push(char::from(byte));
    } else {
        text.push('%');
        text.push(char::from(DIGITS[usize::from(byte >> 4)]));
        text.push(char::from(DIGITS[usize::from(byte & 15)]));
    }
}

/// Undoes percent escapes and `+`; a broken escape stands for itself.
fn unescape(text: &str) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        rest = tail;
        bytes.push(match (first, tail) {
            (b'+', _) => b' ',
            (b'%', [high, low, after @ ..]) => match super::decode_hex_pair(*high, *low) {
                Some(byte) => {
                    rest = after;
                    byte
                }
                None => b'%',
            },
            (byte, _) => *byte,
        });
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn path_is_escaped_once_more_than_it_was_sent() {
        assert_eq!(path("/"), "/");
        assert_eq!(path("/v1/data-channel/a@b-01"), "/v1/data-channel/a%40b-01");
        assert_eq!(path("/v1/data-channel/a%40b"), "/v1/data-channel/a%2540b");
    }

    #[test]
    fn query_is_sorted_and_escaped_in_one_way() {
        assert_eq!(
            query("stream=input&role=subscribe"),
            "role=subscribe&stream=input"
        );
        assert_eq!(query("b=&a&c=x%7ey+z%2f"), "a=&b=&c=x~y%20z%2F");
        assert_eq!(query("a=%zz%4"), "a=%25zz%254");
        assert_eq!(query(""), "");
    }

    #[test]
    fn header_values_lose_outer_and_doubled_spaces_and_are_joined() {
        let mut headers = HeaderMap::new();
        headers.append("x-amz-meta", "  a   b ".parse().unwrap());
        headers.append("x-amz-meta", "c".parse().unwrap());

        let mut text = Vec::new();
        push_header_values(&mut text, "x-amz-meta", &headers).unwrap();

        assert_eq!(text, b"a b,c");
    }

    #[test]
    fn both_forms_of_dates_are_read() {
        let basic = parse_time("20150830T123600Z").unwrap();

        assert_eq!(basic, parse_time("Sun, 30 Aug 2015 12:36:00 GMT").unwrap());
        assert_eq!(format_time(basic), "20150830T123600Z");
        for text in [
            "",
            "20150830",
            "20150830T123600",
            "2015-08-30T12:36:00Z",
            "yesterday",
        ] {
            assert_eq!(parse_time(text), None, "{text}");
        }
    }
}

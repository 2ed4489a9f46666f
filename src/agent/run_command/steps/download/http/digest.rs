//! Digest access authentication (RFC 7616): MD5 and SHA-256, each also with `-sess`, `qop=auth` or
//! none.

use aws_lc_rs::digest;
use md5::{Digest as _, Md5};

/// How texts are digested, the strongest last.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Algorithm {
    Md5,
    Sha256,
}

/// What a server wants to be answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Challenge {
    pub(super) algorithm: Algorithm,
    /// The name of the algorithm, if the server gave one.
    algorithm_name: Option<String>,
    is_session: bool,
    realm: String,
    nonce: String,
    opaque: Option<String>,
    has_qop: bool,
}

impl Challenge {
    /// The challenges in a header that can be answered; a header may have several.
    pub(super) fn parse_all(header: &str) -> Vec<Self> {
        let mut found = Vec::new();
        let mut schemes = header.match_indices("Digest ").peekable();
        while let Some((at, word)) = schemes.next() {
            let end = schemes.peek().map_or(header.len(), |(next, _)| *next);
            found.extend(Self::parse(&header[at + word.len()..end]));
        }
        found
    }

    fn parse(text: &str) -> Option<Self> {
        let parameters = parameters(text);
        let get = |name: &str| {
            let found = parameters
                .iter()
                .find(|(key, _)| key.eq_ignore_ascii_case(name));
            found.map(|(_, value)| value.clone())
        };
        let algorithm_name = get("algorithm");
        let named = algorithm_name
            .as_deref()
            .unwrap_or("MD5")
            .to_ascii_uppercase();
        let (base, is_session) = match named.strip_suffix("-SESS") {
            Some(base) => (base, true),
            None => (named.as_str(), false),
        };
        let algorithm = match base {
            "MD5" => Algorithm::Md5,
            "SHA-256" => Algorithm::Sha256,
            _ => return None,
        };
        let qop = get("qop");
        let offers_auth = |qop: &str| qop.split(',').any(|word| word.trim() == "auth");
        if qop.as_deref().is_some_and(|qop| !offers_auth(qop)) {
            return None;
        }
        Some(Self {
            algorithm,
            algorithm_name,
            is_session,
            realm: get("realm")?,
            nonce: get("nonce")?,
            opaque: get("opaque"),
            has_qop: qop.is_some(),
        })
    }

    /// The header that answers it for a GET of `path`; `cnonce` is the client's own random text.
    pub(super) fn answer(&self, user: &str, password: &str, path: &str, cnonce: &str) -> String {
        const COUNT: &str = "00000001";
        let Self { realm, nonce, .. } = self;
        let mut secret = self.digest(&format!("{user}:{realm}:{password}"));
        if self.is_session {
            secret = self.digest(&format!("{secret}:{nonce}:{cnonce}"));
        }
        let request = self.digest(&format!("GET:{path}"));
        let response = if self.has_qop {
            self.digest(&format!("{secret}:{nonce}:{COUNT}:{cnonce}:auth:{request}"))
        } else {
            self.digest(&format!("{secret}:{nonce}:{request}"))
        };
        let quoted = |text: &str| text.replace('\\', "\\\\").replace('"', "\\\"");
        let mut header = format!(
            "Digest username=\"{}\", realm=\"{}\", nonce=\"{}\", uri=\"{path}\", response=\"{response}\"",
            quoted(user),
            quoted(realm),
            quoted(nonce),
        );
        if let Some(name) = &self.algorithm_name {
            header.push_str(&format!(", algorithm={name}"));
        }
        if let Some(opaque) = &self.opaque {
            header.push_str(&format!(", opaque=\"{}\"", quoted(opaque)));
        }
        if self.has_qop {
            header.push_str(&format!(", qop=auth, nc={COUNT}, cnonce=\"{cnonce}\""));
        } else if self.is_session {
            header.push_str(&format!(", cnonce=\"{cnonce}\""));
        }
        header
    }

    fn digest(&self, text: &str) -> String {
        let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        match self.algorithm {
            Algorithm::Md5 => hex(&Md5::digest(text)),
            Algorithm::Sha256 => hex(digest::digest(&digest::SHA256, text.as_bytes()).as_ref()),
        }
    }
}

/// `name=value` and `name="value"`, separated by commas.
fn parameters(text: &str) -> Vec<(String, String)> {
    let mut found = Vec::new();
    let mut rest = text.trim_start();
    while let Some((name, after)) = rest.split_once('=') {
        let (value, after) = match after.strip_prefix('"') {
            Some(quoted) => unquote(quoted),
            None => {
                let (value, after) = after.split_once(',').unwrap_or((after, ""));
                (value.trim().to_owned(), after)
            }
        };
        found.push((name.trim_matches([' ', ',', '\t']).to_owned(), value));
        rest = after.trim_start_matches([' ', ',', '\t']);
    }
    found
}

/// A quoted text without its end, and what follows that.
fn unquote(text: &str) -> (String, &str) {
    let mut value = String::new();
    let mut characters = text.char_indices();
    while let Some((at, c)) = characters.next() {
        match c {
            '"' => return (value, &text[at + 1..]),
            '\\' => value.extend(characters.next().map(|(_, c)| c)),
            c => value.push(c),
        }
    }
    (value, "")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of RFC 7616, section 3.9.1.
    const OFFER: &str = "realm=\"http-auth@example.org\", qop=\"auth, auth-int\", \
        nonce=\"7ypf/xlj9XXwfDPEoM4URrv/xwf94BcCAzFZH4GiTo0v\", \
        opaque=\"FQhe/qaU925kfnzjCev0ciny7QMkPqMAFRtzCUYo5tdS\"";
    const CNONCE: &str = "f2/wE4q74E6zIJEtWaHKaf5wv/H5QzzpXusqGemxURZJ";

    #[test]
    fn answers_are_those_of_the_standard() {
        for (algorithm, response) in [
            ("MD5", "8ca523f5e9506fed4657c9700eebdbec"),
            (
                "SHA-256",
                "753927fa0e85d155564e2e272a28d1802ca10daf4496794697cf8db5856cb6c1",
            ),
        ] {
            let header = format!("Digest {OFFER}, algorithm={algorithm}");
            let challenge = &Challenge::parse_all(&header)[0];
            let answer = challenge.answer("Mufasa", "Circle of Life", "/dir/index.html", CNONCE);
            let expected = format!("response=\"{response}\"");
            assert!(answer.contains(&expected), "{algorithm}: {answer}");
            assert!(answer.contains("qop=auth, nc=00000001"), "{answer}");
            assert!(answer.contains("opaque=\"FQhe/"), "{answer}");
        }
    }

    #[test]
    fn header_may_have_several_challenges_and_unknown_ones() {
        let header = "Basic realm=\"x\", Digest realm=\"a \\\"b\\\"\", nonce=n, algorithm=SHA-512-256, \
            Digest realm=\"r\", nonce=\"n\"";

        let found = Challenge::parse_all(header);

        assert_eq!(found.len(), 1);
        let plain = found[0].answer("u\"", "p", "/", "c");
        assert!(
            plain.starts_with("Digest username=\"u\\\"\", realm=\"r\""),
            "{plain}"
        );
        assert!(
            !plain.contains("qop") && !plain.contains("cnonce"),
            "{plain}"
        );
        for broken in [
            "Digest",
            "Digest realm=\"r\"",
            "Digest nonce=\"n",
            "Basic x",
        ] {
            assert!(Challenge::parse_all(broken).is_empty(), "{broken}");
        }
        let integrity = "Digest realm=\"r\", nonce=\"n\", qop=\"auth-int\"";
        assert!(Challenge::parse_all(integrity).is_empty());
    }
}

//! Which files there are, and the URLs that hosts get them by.

use std::fs::File;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use aws_lc_rs::hmac;
use aws_lc_rs::rand;
use url::Url;

use super::folder::Folder;

/// How long a URL is good for: to begin a download with it, right after it was asked for.
const LIFETIME: Duration = Duration::from_secs(15 * 60);
/// Bytes of the key.
const KEY: usize = 32;

/// The files that the gateway has. Clones share the key.
#[derive(Clone)]
pub struct Attachments {
    folder: Folder,
    base: Url,
    key: Arc<hmac::Key>,
}

impl Attachments {
    /// The files in the state folder `state`, for hosts that reach the gateway at `base`.
    pub fn new(state: &Path, base: Url) -> Self {
        let mut key = [0; KEY];
        rand::fill(&mut key).expect("the system's random generator answers");
        Self {
            folder: Folder::new(state),
            base,
            key: Arc::new(hmac::Key::new(hmac::HMAC_SHA256, &key)),
        }
    }

    /// The length of the file with that digest; none if it is not there.
    ///
    /// # Errors
    /// The I/O error.
    pub async fn length(&self, sha256: &str) -> io::Result<Option<u64>> {
        Ok(self.open(sha256).await?.map(|(_, length)| length))
    }

    /// Opens the file with that digest; none if it is not there.
    ///
    /// # Errors
    /// The I/O error.
    pub async fn open(&self, sha256: &str) -> io::Result<Option<(File, u64)>> {
        let (folder, sha256) = (self.folder.clone(), sha256.to_owned());
        let opened = tokio::task::spawn_blocking(move || folder.open(&sha256)).await;
        opened.map_err(io::Error::other)?
    }

    /// Whether a URL is one of this gateway.
    pub fn is_own(&self, url: &Url) -> bool {
        url.origin() == self.base.origin()
    }

    /// A URL by which somebody gets the file with that digest under the name `name`, for a while from
    /// `now` on.
    pub fn url(&self, sha256: &str, name: &str, now: SystemTime) -> Url {
        let expires = seconds(now + LIFETIME);
        let mut url = self.base.clone();
        if let Ok(mut segments) = url.path_segments_mut() {
            segments.clear().extend(["v1", "attachments", sha256, name]);
        }
        let token = hex(self.mac(sha256, expires).as_ref());
        url.query_pairs_mut()
            .append_pair("expires", &expires.to_string())
            .append_pair("token", &token);
        url
    }

    /// Whether `token` lets one get the file with that digest at `now`.
    pub fn is_allowed(&self, sha256: &str, expires: u64, token: &str, now: SystemTime) -> bool {
        let message = message(sha256, expires);
        let is_genuine = bytes(token)
            .is_some_and(|token| hmac::verify(&self.key, message.as_bytes(), &token).is_ok());
        is_genuine && seconds(now) <= expires
    }

    fn mac(&self, sha256: &str, expires: u64) -> hmac::Tag {
        hmac::sign(&self.key, message(sha256, expires).as_bytes())
    }
}

fn message(sha256: &str, expires: u64) -> String {
    format!("{sha256} {expires}")
}

fn seconds(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_secs())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn bytes(hex: &str) -> Option<Vec<u8>> {
    if hex.len() != 2 * KEY || !hex.is_ascii() {
        return None;
    }
    let pairs = (0..hex.len()).step_by(2);
    pairs
        .map(|at| u8::from_str_radix(&hex[at..at + 2], 16).ok())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";

    fn attachments() -> Attachments {
        let base = "https://gateway.example:8443/".parse().unwrap();
        Attachments::new(Path::new("/nowhere"), base)
    }

    fn parts(url: &Url) -> (u64, String) {
        let value = |wanted: &str| {
            let mut pairs = url.query_pairs();
            let found = pairs.find(|(name, _)| name == wanted).unwrap();
            found.1.into_owned()
        };
        (value("expires").parse().unwrap(), value("token"))
    }

    #[test]
    fn url_is_good_for_one_file_and_for_a_while() {
        let attachments = attachments();
        let now = UNIX_EPOCH + Duration::from_secs(1_000_000);

        let url = attachments.url(FILE, "a b.zip", now);
        let (expires, token) = parts(&url);

        assert!(url.as_str().starts_with(&format!(
            "https://gateway.example:8443/v1/attachments/{FILE}/a%20b.zip?expires="
        )));
        let allowed = |sha256: &str, expires, token: &str, now| {
            attachments.is_allowed(sha256, expires, token, now)
        };
        assert!(allowed(FILE, expires, &token, now));
        assert!(allowed(FILE, expires, &token, now + LIFETIME));
        assert!(!allowed(FILE, expires, &token, now + 2 * LIFETIME));
        assert!(!allowed(FILE, expires + 1, &token, now));
        assert!(!allowed(&FILE.replace('b', "c"), expires, &token, now));
        for wrong in ["", "00", &"0".repeat(64), &"é".repeat(32)] {
            assert!(!allowed(FILE, expires, wrong, now), "{wrong}");
        }
    }

    #[test]
    fn each_gateway_has_a_key_of_its_own() {
        let now = SystemTime::now();
        let (expires, token) = parts(&attachments().url(FILE, "a", now));

        assert!(!attachments().is_allowed(FILE, expires, &token, now));
    }

    #[test]
    fn urls_of_the_gateway_are_known() {
        let own = |url: &str| attachments().is_own(&url.parse().unwrap());

        assert!(own("https://gateway.example:8443/v1/attachments"));
        assert!(!own("https://gateway.example/v1/attachments"));
        assert!(!own("http://gateway.example:8443/"));
    }
}

//! The RSA key pair that proves a registered node's identity.
//!
//! | form | encoding |
//! |---|---|
//! | private, in the vault | base64 of DER `RSAPrivateKey` (PKCS#1) |
//! | public, sent to the service | base64 of DER `SubjectPublicKeyInfo` (PKIX) |
//! | signature | base64 of RSASSA-PSS, SHA-256, MGF1 with SHA-256, salt of 32 bytes |

use std::fmt;

use aws_lc_rs::encoding::{AsDer, Pkcs8V1Der, PublicKeyX509Der};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::{KeyPair, KeySize};
use aws_lc_rs::signature::{self, KeyPair as _};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;

use super::secret::Secret;

/// What the service calls the only kind of key there is.
pub const KEY_TYPE: &str = "Rsa";

/// A node's key pair.
pub struct NodeKey {
    pair: KeyPair,
}

/// Why a key cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// The text is not base64.
    #[error("private key is not base64")]
    Base64,
    /// The bytes are no RSA private key that may be used.
    #[error("private key is not an RSA key in PKCS#1 form: {0}")]
    Rejected(String),
    /// The crypto library failed, which it does when it finds no randomness or memory.
    #[error("the crypto library failed to {0}")]
    Crypto(&'static str),
}

impl NodeKey {
    /// Makes a new key pair. Takes some tenths of a second of CPU time.
    ///
    /// # Errors
    /// [`KeyError::Crypto`].
    pub fn generate() -> Result<Self, KeyError> {
        let pair =
            KeyPair::generate(KeySize::Rsa2048).map_err(|_| KeyError::Crypto("generate a key"))?;
        Ok(Self { pair })
    }

    /// Reads the private form.
    ///
    /// # Errors
    /// [`KeyError::Base64`] or [`KeyError::Rejected`].
    pub fn parse(text: &Secret) -> Result<Self, KeyError> {
        let der = BASE64
            .decode(text.expose().trim())
            .map_err(|_| KeyError::Base64)?;
        let pair =
            KeyPair::from_der(&der).map_err(|rejected| KeyError::Rejected(rejected.to_string()))?;
        Ok(Self { pair })
    }

    /// The private form.
    ///
    /// # Errors
    /// [`KeyError::Crypto`].
    pub fn private_text(&self) -> Result<Secret, KeyError> {
        let failed = || KeyError::Crypto("encode the private key");
        let pkcs8: Pkcs8V1Der<'_> = self.pair.as_der().map_err(|_| failed())?;
        let pkcs1 = pkcs1_of_pkcs8(pkcs8.as_ref()).ok_or_else(failed)?;
        Ok(Secret::new(BASE64.encode(pkcs1)))
    }

    /// The public form.
    ///
    /// # Errors
    /// [`KeyError::Crypto`].
    pub fn public_text(&self) -> Result<String, KeyError> {
        let spki: PublicKeyX509Der<'_> = self
            .pair
            .public_key()
            .as_der()
            .map_err(|_| KeyError::Crypto("encode the public key"))?;
        Ok(BASE64.encode(spki.as_ref()))
    }

    /// Signs `message`.
    ///
    /// # Errors
    /// [`KeyError::Crypto`].
    pub fn sign(&self, message: &[u8]) -> Result<String, KeyError> {
        let mut signature = vec![0; self.pair.public_modulus_len()];
        self.pair
            .sign(
                &signature::RSA_PSS_SHA256,
                &SystemRandom::new(),
                message,
                &mut signature,
            )
            .map_err(|_| KeyError::Crypto("sign"))?;
        Ok(BASE64.encode(signature))
    }
}

impl fmt::Debug for NodeKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NodeKey").finish_non_exhaustive()
    }
}

const DER_INTEGER: u8 = 0x02;
const DER_OCTET_STRING: u8 = 0x04;
const DER_SEQUENCE: u8 = 0x30;

/// PKCS#8 wraps PKCS#1: `SEQUENCE { INTEGER version, SEQUENCE algorithm, OCTET STRING key }`.
fn pkcs1_of_pkcs8(pkcs8: &[u8]) -> Option<&[u8]> {
    let (info, _) = take_der(pkcs8, DER_SEQUENCE)?;
    let (_version, rest) = take_der(info, DER_INTEGER)?;
    let (_algorithm, rest) = take_der(rest, DER_SEQUENCE)?;
    take_der(rest, DER_OCTET_STRING).map(|(key, _)| key)
}

/// The contents of the first element of `bytes`, which must have `tag`, and what follows it.
fn take_der(bytes: &[u8], tag: u8) -> Option<(&[u8], &[u8])> {
    let (&found, rest) = bytes.split_first()?;
    let (&first, rest) = rest.split_first()?;
    if found != tag {
        return None;
    }
    let (length, rest) = if first < 0x80 {
        (usize::from(first), rest)
    } else {
        let digits = usize::from(first & 0x7f);
        let (length, rest) = (digits <= 4).then(|| rest.split_at_checked(digits))??;
        let length = length
            .iter()
            .fold(0, |sum, &digit| (sum << 8) | usize::from(digit));
        (length, rest)
    };
    rest.split_at_checked(length)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn key_survives_its_text_form() {
        let key = NodeKey::generate().unwrap();
        let text = key.private_text().unwrap();

        let again = NodeKey::parse(&text).unwrap();

        assert_eq!(again.private_text().unwrap(), text);
        assert_eq!(again.public_text().unwrap(), key.public_text().unwrap());
    }

    #[test]
    fn forms_are_those_that_the_reference_writes() {
        let key = NodeKey::generate().unwrap();

        let private = BASE64.decode(key.private_text().unwrap().expose()).unwrap();
        let public = key.public_text().unwrap();

        let (fields, _) = take_der(&private, DER_SEQUENCE).unwrap();
        let (version, rest) = take_der(fields, DER_INTEGER).unwrap();
        let (modulus, _) = take_der(rest, DER_INTEGER).unwrap();
        assert_eq!((version, modulus.len()), (&[0][..], 257));
        assert_eq!(public.len(), 392);
        assert!(public.starts_with("MIIBIjANBgkqhkiG9w0BAQEFAAOCAQ8A"));
    }

    #[test]
    fn signature_verifies_with_a_salt_as_long_as_the_hash() {
        let key = NodeKey::generate().unwrap();

        let signature = key.sign(b"message").unwrap();

        let spki = BASE64.decode(key.public_text().unwrap()).unwrap();
        let public = signature::UnparsedPublicKey::new(&signature::RSA_PSS_2048_8192_SHA256, spki);
        public
            .verify(b"message", &BASE64.decode(&signature).unwrap())
            .unwrap();
        assert_eq!(signature.len(), 344);
    }

    #[test]
    fn text_that_is_no_key_is_refused() {
        let not_base64 = Secret::new("***");
        let not_a_key = Secret::new(BASE64.encode(b"no key at all"));

        assert_eq!(NodeKey::parse(&not_base64).unwrap_err(), KeyError::Base64);
        assert!(matches!(
            NodeKey::parse(&not_a_key),
            Err(KeyError::Rejected(_))
        ));
    }

    #[test]
    fn truncated_der_is_measured_before_it_is_read() {
        for bytes in [
            &[][..],
            &[0x30],
            &[0x30, 5, 1],
            &[0x30, 0x82, 1],
            &[0x30, 0x85, 1, 1, 1, 1, 1, 1],
            &[0x30, 0x84, 0xff, 0xff, 0xff, 0xff, 0],
        ] {
            assert_eq!(take_der(bytes, DER_SEQUENCE), None, "{bytes:?}");
        }
    }
}

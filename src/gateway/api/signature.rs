//! Who signed a request: AWS Signature Version 4, and its RSA form for nodes that have no
//! credentials yet.
//!
//! Only signatures in the `Authorization` header are taken. The payload hash always comes from the
//! body itself, so an unsigned payload cannot pass. A captured request can be repeated until its
//! time leaves [`WINDOW`], no longer.

mod authorization;
mod canonical;

use std::time::{Duration, SystemTime};

use aws_lc_rs::{digest, hmac, signature as rsa};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::HeaderMap;
use http::request::Parts;

use crate::gateway::store::{Secret, Store, StoreError};

use authorization::Authorization;
use canonical::SigningTime;

pub(super) use canonical::hex;

/// How far the time of a request may be from ours, either way; AWS's own window.
pub const WINDOW: Duration = Duration::from_secs(5 * 60);

/// Account shown in names of people: the gateway has one, and no numbers for it.
pub(super) const ACCOUNT: &str = "000000000000";

/// Who made a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Caller {
    /// A person with an access key.
    Person {
        /// The key.
        access_key_id: String,
        /// The person.
        name: String,
        /// The person's name in the form that AWS writes into session records.
        arn: String,
        /// User on the hosts that the person's sessions run as; may be empty.
        run_as: String,
        /// Whether the person may read the recordings of other people's sessions.
        auditor: bool,
    },
    /// The agent of a node.
    Node {
        /// The node it speaks for.
        node_id: String,
    },
}

/// Why a request is not believed. The text is AWS's, so that tools recognise it.
#[derive(Debug, thiserror::Error)]
pub enum SignatureError {
    /// No signature at all.
    #[error("Missing Authentication Token")]
    Missing,
    /// A signature with a part missing.
    #[error("{0}")]
    Incomplete(String),
    /// A signature that does not fit the request, or a request out of its time.
    #[error("{0}")]
    Invalid(String),
    /// A key that is not known, was revoked, or came with another token.
    #[error("The security token included in the request is invalid.")]
    UnknownKey,
    /// Credentials past their end.
    #[error("The security token included in the request is expired")]
    Expired,
    /// The signature could not be checked.
    #[error("the signature could not be checked")]
    Store(#[from] StoreError),
}

impl SignatureError {
    /// AWS's code for it.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Missing => "MissingAuthenticationTokenException",
            Self::Incomplete(_) => "IncompleteSignatureException",
            Self::Invalid(_) => "InvalidSignatureException",
            Self::UnknownKey => "UnrecognizedClientException",
            Self::Expired => "ExpiredTokenException",
            Self::Store(_) => "InternalServerError",
        }
    }

    fn mismatch() -> Self {
        Self::Invalid(
            "The request signature we calculated does not match the signature you provided. \
             Check your AWS Secret Access Key and signing method. \
             Consult the service documentation for details."
                .into(),
        )
    }
}

/// Checks signatures against the keys in the store.
#[derive(Clone)]
pub struct Verifier {
    store: Store,
}

impl Verifier {
    /// With the keys in `store`.
    pub fn new(store: Store) -> Self {
        Self { store }
    }

    /// Finds out who signed the request `parts` with `body` for `service` (`ssm`, `ssmmessages`,
    /// `ec2messages`).
    ///
    /// # Errors
    /// [`SignatureError`].
    pub async fn verify(
        &self,
        service: &str,
        parts: &Parts,
        body: &[u8],
    ) -> Result<Caller, SignatureError> {
        self.verify_at(service, parts, body, SystemTime::now())
            .await
    }

    async fn verify_at(
        &self,
        service: &str,
        parts: &Parts,
        body: &[u8],
        now: SystemTime,
    ) -> Result<Caller, SignatureError> {
        let claim = Claim::read(service, parts, body, now)?;
        let (secret, caller) = self.find_key(&claim, &parts.headers, now).await?;
        claim.check_hmac(&secret)?;
        Ok(caller)
    }

    /// Finds out which node signed the request with its RSA key, and returns its id.
    ///
    /// # Errors
    /// [`SignatureError`].
    pub async fn verify_node_key(
        &self,
        parts: &Parts,
        body: &[u8],
    ) -> Result<String, SignatureError> {
        self.verify_node_key_at(parts, body, SystemTime::now())
            .await
    }

    async fn verify_node_key_at(
        &self,
        parts: &Parts,
        body: &[u8],
        now: SystemTime,
    ) -> Result<String, SignatureError> {
        let claim = Claim::read("ssm", parts, body, now)?;
        let node_id = claim.access_key_id.clone();
        let node = self.store.node(&node_id).await?;
        let key = node
            .and_then(|node| node.public_key)
            .ok_or(SignatureError::UnknownKey)?;
        claim.check_rsa(&key)?;
        Ok(node_id)
    }

    async fn find_key(
        &self,
        claim: &Claim,
        headers: &HeaderMap,
        now: SystemTime,
    ) -> Result<(Secret, Caller), SignatureError> {
        let id = claim.access_key_id.as_str();
        let token = headers.get("x-amz-security-token");
        let Some(token) = token else {
            let key = self.store.access_key(id).await?;
            let key = key
                .filter(|key| key.disabled.is_none())
                .ok_or(SignatureError::UnknownKey)?;
            let caller = match key.node_id {
                Some(node_id) => Caller::Node { node_id },
                None => Caller::Person {
                    arn: format!("arn:aws:iam::{ACCOUNT}:user/{}", key.name),
                    access_key_id: key.access_key_id,
                    name: key.name,
                    run_as: key.run_as.unwrap_or_default(),
                    auditor: key.auditor,
                },
            };
            return Ok((key.secret, caller));
        };
        let token = token.to_str().map_err(|_| SignatureError::UnknownKey)?;
        let credentials = self.store.node_credentials(id).await?;
        let credentials = credentials
            .filter(|credentials| credentials.has_token(token))
            .ok_or(SignatureError::UnknownKey)?;
        if now >= credentials.expires {
            return Err(SignatureError::Expired);
        }
        let caller = Caller::Node {
            node_id: credentials.node_id,
        };
        Ok((credentials.secret, caller))
    }
}

/// The key that a request says it was signed with for `service`, if what it says is complete and in its
/// time. Nothing is believed yet.
///
/// # Errors
/// [`SignatureError`].
pub fn claimed_key(
    service: &str,
    parts: &Parts,
    body: &[u8],
    now: SystemTime,
) -> Result<String, SignatureError> {
    Ok(Claim::read(service, parts, body, now)?.access_key_id)
}

/// What a request says about its signer, complete and in its time, not yet believed.
struct Claim {
    access_key_id: String,
    /// `date`, `region`, `service`, `aws4_request`.
    scope: [String; 4],
    signature: String,
    string_to_sign: Vec<u8>,
}

impl Claim {
    fn read(
        service: &str,
        parts: &Parts,
        body: &[u8],
        now: SystemTime,
    ) -> Result<Self, SignatureError> {
        let header = parts
            .headers
            .get(http::header::AUTHORIZATION)
            .ok_or(SignatureError::Missing)?;
        let authorization = Authorization::parse(header)?;
        authorization.check_scope(service)?;
        authorization.check_signed_headers(&parts.headers)?;
        let time = SigningTime::read(&parts.headers)?;
        time.check(&authorization.scope[0], now, WINDOW)?;
        let payload_hash = check_payload(&parts.headers, body)?;
        let request = canonical::request(parts, &authorization.signed_headers, &payload_hash)?;
        let string_to_sign =
            canonical::string_to_sign(&time, &authorization.scope.join("/"), &request);
        Ok(Self {
            access_key_id: authorization.access_key_id,
            scope: authorization.scope,
            signature: authorization.signature,
            string_to_sign,
        })
    }

    fn check_hmac(&self, secret: &Secret) -> Result<(), SignatureError> {
        let given = decode_hex(&self.signature).ok_or_else(SignatureError::mismatch)?;
        let mut key = format!("AWS4{}", secret.expose()).into_bytes();
        for part in &self.scope {
            let signing = hmac::Key::new(hmac::HMAC_SHA256, &key);
            key = hmac::sign(&signing, part.as_bytes()).as_ref().to_vec();
        }
        let key = hmac::Key::new(hmac::HMAC_SHA256, &key);
        hmac::verify(&key, &self.string_to_sign, &given).map_err(|_| SignatureError::mismatch())
    }

    fn check_rsa(&self, public_key: &str) -> Result<(), SignatureError> {
        let given = STANDARD.decode(&self.signature);
        let given = given.map_err(|_| SignatureError::mismatch())?;
        // A key that cannot be used was refused at registration, so this one decodes.
        let key = STANDARD
            .decode(public_key)
            .map_err(|_| SignatureError::UnknownKey)?;
        rsa::UnparsedPublicKey::new(&rsa::RSA_PSS_2048_8192_SHA256, key)
            .verify(&self.string_to_sign, &given)
            .map_err(|_| SignatureError::mismatch())
    }
}

/// The hash of `body` in hexadecimal. A header that states another one, or none at all
/// (`UNSIGNED-PAYLOAD`), is refused.
fn check_payload(headers: &HeaderMap, body: &[u8]) -> Result<String, SignatureError> {
    let hash = hex(digest::digest(&digest::SHA256, body).as_ref());
    match headers.get("x-amz-content-sha256") {
        Some(stated) if stated.as_bytes() != hash.as_bytes() => Err(SignatureError::Invalid(
            "The value in the X-Amz-Content-SHA256 header does not match the hash of the payload."
                .into(),
        )),
        Some(_) | None => Ok(hash),
    }
}

fn decode_hex(text: &str) -> Option<Vec<u8>> {
    text.as_bytes()
        .chunks(2)
        .map(|pair| match pair {
            [high, low] => decode_hex_pair(*high, *low),
            _ => None,
        })
        .collect()
}

fn decode_hex_pair(high: u8, low: u8) -> Option<u8> {
    let digit = |byte: u8| char::from(byte).to_digit(16);
    u8::try_from(digit(high)? << 4 | digit(low)?).ok()
}

#[cfg(test)]
mod tests;

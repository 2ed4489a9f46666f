//! What instance metadata answer with.

use jiff::Timestamp;
use serde::Deserialize;

use crate::aws::credentials::Credentials;
use crate::aws::secret::Secret;

/// Longest id of an instance.
const MAX_ID: usize = 64;
/// The code of an answer that has credentials.
const SUCCESS: &str = "Success";

/// An instance.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Instance {
    /// `i-…`: letters, digits, hyphens and underscores.
    pub id: String,
    /// Its region.
    pub region: String,
    /// Its zone; empty if it was not told.
    pub availability_zone: String,
    /// The id of its zone; empty if it was not told.
    pub availability_zone_id: String,
}

/// The part of the instance identity document that is of use.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Document {
    /// The region.
    pub region: String,
    /// The zone.
    pub availability_zone: String,
    /// Products that are billed with the instance.
    pub billing_products: Option<Vec<String>>,
    /// Products of the marketplace.
    pub marketplace_product_codes: Option<Vec<String>>,
}

/// Credentials, or why there are none.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Given {
    code: Option<String>,
    access_key_id: Option<String>,
    secret_access_key: Option<Secret>,
    token: Option<Secret>,
    expiration: Option<String>,
}

impl Given {
    /// The credentials; the error is the code of an answer that has none.
    pub(super) fn into_credentials(self) -> Result<Credentials, String> {
        // Some stand-ins give no code.
        let code = self.code.unwrap_or_else(|| SUCCESS.to_owned());
        if code != SUCCESS {
            return Err(code);
        }
        let (Some(id), Some(secret)) = (self.access_key_id, self.secret_access_key) else {
            return Err("they are incomplete".to_owned());
        };
        let expiry = self.expiration.map(|text| text.parse::<Timestamp>());
        let expiry = expiry.transpose().map_err(|_| "their end is no time")?;
        let token = self.token.filter(|token| !token.is_empty());
        Ok(Credentials::new(
            id,
            secret.expose(),
            token.map(|token| token.expose().to_owned()),
            expiry.map(Into::into),
            "instance metadata",
        ))
    }
}

/// The id of an instance, which becomes part of paths and URLs.
pub(super) fn checked_id(text: &str) -> Result<String, String> {
    let id = text.trim();
    let allowed = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    if id.is_empty() || id.len() > MAX_ID || !id.chars().all(allowed) {
        return Err(format!(
            "it is not 1 to {MAX_ID} letters, digits, hyphens and underscores"
        ));
    }
    Ok(id.to_owned())
}

//! RegisterManagedInstance, RequestManagedInstanceRoleToken, UpdateManagedInstancePublicKey.

use std::time::{SystemTime, UNIX_EPOCH};

use aws_lc_rs::rsa::PublicEncryptingKey;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use tracing::{info, warn};
use uuid::Uuid;

use super::super::ApiState;
use super::super::answer::ApiError;
use super::super::signature::{Caller, SignatureError};
use super::super::validation::{length, required};
use super::speaks_for_itself;
use crate::gateway::store::Secret;
use crate::gateway::store::activations::RegistrationRefused;
use crate::gateway::store::nodes::{InstanceRefused, NewNode};

/// The only type of keys there is.
const KEY_TYPE: &str = "Rsa";
/// Characters of a key: an RSA key of 2048 bits has 392, one of 8192 bits 1400.
const KEY_LENGTH: std::ops::RangeInclusive<usize> = 392..=1500;
/// A fingerprint is a UUID for hosts outside EC2; the rest is room for other forms.
const FINGERPRINT_LENGTH: std::ops::RangeInclusive<usize> = 1..=128;

/// RegisterManagedInstance's members.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(in super::super) struct RegisterRequest {
    activation_code: Option<String>,
    activation_id: Option<String>,
    fingerprint: Option<String>,
    public_key: Option<String>,
    public_key_type: Option<String>,
}

impl RegisterRequest {
    /// Whether it relies on an activation.
    pub(in super::super) fn has_activation(&self) -> bool {
        self.activation_code.is_some() || self.activation_id.is_some()
    }
}

/// RegisterManagedInstance's result.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(in super::super) struct RegisterResult {
    instance_id: String,
}

/// Registers the key of an instance of EC2, which has no activation: that it is a node the gateway knows
/// is proven by its signature.
///
/// # Errors
/// `ValidationException`, `InvalidPublicKey`, `InstanceAlreadyRegistered`, `PublicKeyAlreadyRegistered`,
/// and `AccessDeniedException` for anybody but the node itself.
pub(in super::super) async fn register_instance(
    state: &ApiState,
    caller: Caller,
    request: RegisterRequest,
) -> Result<RegisterResult, ApiError> {
    let node_id = node_of(caller, "RegisterManagedInstance")?;
    let fingerprint = required("fingerprint", request.fingerprint)?;
    speaks_for_itself(&node_id, Some(&fingerprint))?;
    let public_key = check_key(request.public_key, request.public_key_type.as_deref())?;
    let outcome = state
        .store
        .register_instance_key(&node_id, public_key)
        .await?;
    match outcome {
        Ok(()) => {
            info!(node = node_id, "instance registered");
            Ok(RegisterResult {
                instance_id: node_id,
            })
        }
        Err(InstanceRefused::KeyInUse) => Err(refused(RegistrationRefused::KeyInUse)),
        Err(InstanceRefused::Registered) => Err(ApiError::new(
            "InstanceAlreadyRegistered",
            "The instance has been registered already.",
        )),
    }
}

/// The node that signed, for operations that are a node's alone.
pub(in super::super) fn node_of(caller: Caller, operation: &str) -> Result<String, ApiError> {
    match caller {
        Caller::Node { node_id } => Ok(node_id),
        Caller::Person { arn, .. } => Err(ApiError::access_denied(format!(
            "User: {arn} is not authorized to perform: ssm:{operation}"
        ))),
    }
}

/// Registers a host with an activation. The request is not signed: the code is its proof.
///
/// # Errors
/// `ValidationException`, `InvalidPublicKey`, `InvalidActivation`, `ActivationExpired`,
/// `RegistrationLimitExceeded`, `PublicKeyAlreadyRegistered`.
pub(in super::super) async fn register(
    state: &ApiState,
    request: RegisterRequest,
) -> Result<RegisterResult, ApiError> {
    let code = Secret::new(required("activationCode", request.activation_code)?);
    let id = required("activationId", request.activation_id)?;
    let fingerprint = required("fingerprint", request.fingerprint)?;
    length("fingerprint", &fingerprint, FINGERPRINT_LENGTH)?;
    let public_key = check_key(request.public_key, request.public_key_type.as_deref())?;
    if Uuid::parse_str(&id).is_err() {
        return Err(refused(RegistrationRefused::Unknown));
    }
    let new = NewNode {
        public_key,
        fingerprint,
    };
    let outcome = state
        .store
        .register_node(&id, code, new, SystemTime::now())
        .await?;
    match outcome {
        Ok(instance_id) => {
            info!(node = instance_id, activation = id, "node registered");
            Ok(RegisterResult { instance_id })
        }
        Err(error) => {
            warn!(activation = id, %error, "registration refused");
            Err(refused(error))
        }
    }
}

fn refused(error: RegistrationRefused) -> ApiError {
    let (code, text) = match error {
        RegistrationRefused::Unknown => (
            "InvalidActivation",
            "The activation isn't valid. The activation might have been deleted, or the \
             ActivationId and the ActivationCode don't match.",
        ),
        RegistrationRefused::Expired => ("ActivationExpired", "The activation has expired."),
        RegistrationRefused::UsedUp => (
            "RegistrationLimitExceeded",
            "The registration limit of the activation has been reached.",
        ),
        RegistrationRefused::KeyInUse => (
            "PublicKeyAlreadyRegistered",
            "Another node has registered with this public key.",
        ),
    };
    ApiError::new(code, text)
}

/// Checks that a key can be used to check signatures; after this it always can.
fn check_key(key: Option<String>, kind: Option<&str>) -> Result<String, ApiError> {
    let key = required("publicKey", key)?;
    length("publicKey", &key, KEY_LENGTH)?;
    let invalid = |text: &'static str| ApiError::new("InvalidPublicKey", text);
    if kind.is_some_and(|kind| kind != KEY_TYPE) {
        return Err(invalid("The type of the public key must be Rsa."));
    }
    let der = STANDARD
        .decode(&key)
        .map_err(|_| invalid("The public key is not base64."))?;
    // Refuses keys under 2048 bits and whatever is no SubjectPublicKeyInfo.
    PublicEncryptingKey::from_der(&der)
        .map_err(|_| invalid("The public key is not an RSA key of 2048 to 8192 bits."))?;
    Ok(key)
}

/// RequestManagedInstanceRoleToken's members.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(in super::super) struct RoleTokenRequest {
    fingerprint: Option<String>,
}

/// RequestManagedInstanceRoleToken's result; the reference agent needs every member.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
pub(in super::super) struct RoleTokenResult {
    access_key_id: String,
    secret_access_key: String,
    session_token: String,
    token_expiration_date: u64,
    update_key_pair: bool,
}

/// Gives short-lived credentials to a node that has proven its key.
///
/// # Errors
/// `MachineFingerprintDoesNotMatch` if the key is used on another machine than the one that
/// registered, `UnrecognizedClientException` if the node was deregistered meanwhile.
pub(in super::super) async fn role_token(
    state: &ApiState,
    node_id: &str,
    request: RoleTokenRequest,
) -> Result<RoleTokenResult, ApiError> {
    let fingerprint = required("fingerprint", request.fingerprint)?;
    let node = state.store.node(node_id).await?;
    let node = node.ok_or(SignatureError::UnknownKey)?;
    if node.fingerprint != fingerprint {
        warn!(
            node = node_id,
            "credentials refused: another machine uses the node's key"
        );
        return Err(ApiError::new(
            "MachineFingerprintDoesNotMatch",
            "The fingerprint of the machine is not the one it registered with.",
        ));
    }
    let issued = state
        .store
        .issue_credentials(node_id, SystemTime::now())
        .await?
        .ok_or(SignatureError::UnknownKey)?;
    let expires = issued.expires.duration_since(UNIX_EPOCH);
    Ok(RoleTokenResult {
        access_key_id: issued.access_key_id,
        secret_access_key: issued.secret.expose().to_owned(),
        session_token: issued.session_token.expose().to_owned(),
        token_expiration_date: expires.unwrap_or_default().as_secs(),
        update_key_pair: false,
    })
}

/// UpdateManagedInstancePublicKey's members.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(in super::super) struct ReplaceKeyRequest {
    new_public_key: Option<String>,
    new_public_key_type: Option<String>,
}

/// UpdateManagedInstancePublicKey's result.
#[derive(Debug, Serialize)]
pub(in super::super) struct ReplaceKeyResult {}

/// Puts a new key in the place of the one that signed the request.
///
/// # Errors
/// `ValidationException`, `InvalidPublicKey`, `PublicKeyAlreadyRegistered`.
pub(in super::super) async fn replace_key(
    state: &ApiState,
    node_id: &str,
    request: ReplaceKeyRequest,
) -> Result<ReplaceKeyResult, ApiError> {
    let key = check_key(
        request.new_public_key,
        request.new_public_key_type.as_deref(),
    )?;
    if !state.store.replace_public_key(node_id, key).await? {
        return Err(refused(RegistrationRefused::KeyInUse));
    }
    info!(node = node_id, "public key replaced");
    Ok(ReplaceKeyResult {})
}

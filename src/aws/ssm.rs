//! The private operations of Systems Manager by which a node registers and gets its credentials.

use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};

use super::client::{Client, NodeSigner};
use super::credentials::Credentials;
use super::error::CallError;
use super::node_key::KEY_TYPE;
use super::secret::Secret;

/// Request of `RegisterManagedInstance` with an activation.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "PascalCase")]
struct RegisterManagedInstance<'a> {
    activation_code: &'a Secret,
    activation_id: &'a str,
    fingerprint: &'a str,
    public_key: &'a str,
    public_key_type: &'static str,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Registered {
    instance_id: String,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct RequestRoleToken<'a> {
    fingerprint: &'a str,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct RoleTokenAnswer {
    access_key_id: String,
    secret_access_key: Secret,
    session_token: Secret,
    token_expiration_date: f64,
    #[serde(default)]
    update_key_pair: bool,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct UpdatePublicKey<'a> {
    new_public_key: &'a str,
    new_public_key_type: &'static str,
}

#[derive(Debug, Deserialize)]
struct Nothing {}

/// The temporary credentials of a registered node.
#[derive(Debug, Clone)]
pub struct RoleToken {
    /// The credentials, with their expiry by the service's clock.
    pub credentials: Credentials,
    /// The same expiry.
    pub expires: SystemTime,
    /// The service wants the node to change its key.
    pub update_key_pair: bool,
}

/// What a new node shows to be registered.
#[derive(Debug, Clone)]
pub struct Activation {
    /// Proves that the activation may be used.
    pub code: Secret,
    /// Names the activation.
    pub id: String,
}

impl Client {
    /// Registers this host; returns the id of the new node.
    ///
    /// # Errors
    /// [`CallError`]; codes `InvalidActivation`, `InvalidActivationId` and `ActivationExpired` speak
    /// of the activation.
    pub async fn register_managed_instance(
        &self,
        activation: &Activation,
        public_key: &str,
        fingerprint: &str,
    ) -> Result<String, CallError> {
        let request = RegisterManagedInstance {
            activation_code: &activation.code,
            activation_id: &activation.id,
            fingerprint,
            public_key,
            public_key_type: KEY_TYPE,
        };
        let answer: Registered = self
            .ssm_unsigned("RegisterManagedInstance", &request)
            .await?;
        Ok(answer.instance_id)
    }

    /// Gets the node's temporary credentials.
    ///
    /// # Errors
    /// [`CallError`]; the code `MachineFingerprintDoesNotMatch` tells that this is not the hardware
    /// that was registered.
    pub async fn request_role_token(
        &self,
        node: NodeSigner<'_>,
        fingerprint: &str,
    ) -> Result<RoleToken, CallError> {
        let request = RequestRoleToken { fingerprint };
        let answer: RoleTokenAnswer = self
            .ssm_by_node("RequestManagedInstanceRoleToken", &request, node)
            .await?;
        let seconds = answer.token_expiration_date.max(0.0);
        let expires = Duration::try_from_secs_f64(seconds)
            .ok()
            .and_then(|since| SystemTime::UNIX_EPOCH.checked_add(since))
            .unwrap_or(SystemTime::UNIX_EPOCH);
        Ok(RoleToken {
            credentials: Credentials::new(
                answer.access_key_id,
                answer.secret_access_key.expose(),
                Some(answer.session_token.expose().to_owned()),
                Some(expires),
                "RequestManagedInstanceRoleToken",
            ),
            expires,
            update_key_pair: answer.update_key_pair,
        })
    }

    /// Replaces the node's public key; signed with the key that is replaced.
    ///
    /// # Errors
    /// [`CallError`].
    pub async fn update_managed_instance_public_key(
        &self,
        node: NodeSigner<'_>,
        new_public_key: &str,
    ) -> Result<(), CallError> {
        let request = UpdatePublicKey {
            new_public_key,
            new_public_key_type: KEY_TYPE,
        };
        let Nothing {} = self
            .ssm_by_node("UpdateManagedInstancePublicKey", &request, node)
            .await?;
        Ok(())
    }
}

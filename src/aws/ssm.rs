//! The private operations of Systems Manager by which a node registers and gets its credentials.

use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};

use super::client::{Client, NodeSigner};
use super::credentials::Credentials;
use super::error::CallError;
use super::node_key::{KEY_TYPE, NodeKey};
use super::secret::Secret;
use crate::protocol::wire::version::AGENT_WIRE_VERSION;

const ROLE_TOKEN: &str = "RequestManagedInstanceRoleToken";

/// What the service knows agents by.
pub const AGENT_NAME: &str = "amazon-ssm-agent";
/// What reports call the system that we run on.
pub const PLATFORM_TYPE: &str = "Linux";

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

/// Request of `RegisterManagedInstance` of an EC2 instance, whose credentials stand for an activation.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct RegisterInstance<'a> {
    fingerprint: &'a str,
    public_key: &'a str,
    public_key_type: &'static str,
}

/// The short form of `UpdateInstanceInformation`.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Presence<'a> {
    agent_name: &'static str,
    agent_version: &'static str,
    instance_id: &'a str,
    platform_type: &'static str,
}

impl<'a> Presence<'a> {
    fn of(node_id: &'a str) -> Self {
        Self {
            agent_name: AGENT_NAME,
            agent_version: AGENT_WIRE_VERSION,
            instance_id: node_id,
            platform_type: PLATFORM_TYPE,
        }
    }
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

impl From<RoleTokenAnswer> for RoleToken {
    fn from(answer: RoleTokenAnswer) -> Self {
        let seconds = answer.token_expiration_date.max(0.0);
        let expires = Duration::try_from_secs_f64(seconds)
            .ok()
            .and_then(|since| SystemTime::UNIX_EPOCH.checked_add(since))
            .unwrap_or(SystemTime::UNIX_EPOCH);
        Self {
            credentials: Credentials::new(
                answer.access_key_id,
                answer.secret_access_key.expose(),
                Some(answer.session_token.expose().to_owned()),
                Some(expires),
                ROLE_TOKEN,
            ),
            expires,
            update_key_pair: answer.update_key_pair,
        }
    }
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
        let answer: RoleTokenAnswer = self.ssm_by_node(ROLE_TOKEN, &request, node).await?;
        Ok(answer.into())
    }

    /// Gets the temporary credentials of an EC2 instance by its registered key, beside its own
    /// credentials, which the client has.
    ///
    /// # Errors
    /// [`CallError`].
    pub async fn request_instance_role_token(
        &self,
        instance_id: &str,
        key: &NodeKey,
    ) -> Result<RoleToken, CallError> {
        let request = RequestRoleToken {
            fingerprint: instance_id,
        };
        let answer: RoleTokenAnswer = self.ssm_with_key(ROLE_TOKEN, &request, key).await?;
        Ok(answer.into())
    }

    /// Registers the key of an EC2 instance, with its own credentials, which the client has.
    ///
    /// # Errors
    /// [`CallError`]; the code `InstanceAlreadyRegistered` tells that it has a key already.
    pub async fn register_instance(
        &self,
        instance_id: &str,
        public_key: &str,
    ) -> Result<(), CallError> {
        let request = RegisterInstance {
            fingerprint: instance_id,
            public_key,
            public_key_type: KEY_TYPE,
        };
        let Registered { .. } = self.ssm("RegisterManagedInstance", &request).await?;
        Ok(())
    }

    /// Reports that the node is there, and nothing else: whether its credentials are good for that
    /// shows whether they are good for anything.
    ///
    /// # Errors
    /// [`CallError`].
    pub async fn report_presence(&self, node_id: &str) -> Result<(), CallError> {
        let request = Presence::of(node_id);
        let Nothing {} = self.ssm("UpdateInstanceInformation", &request).await?;
        Ok(())
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_report_is_the_one_of_the_reference() {
        let json = serde_json::to_string(&Presence::of("mi-1")).unwrap();

        assert_eq!(
            json,
            format!(
                r#"{{"AgentName":"amazon-ssm-agent","AgentVersion":"{AGENT_WIRE_VERSION}","InstanceId":"mi-1","PlatformType":"Linux"}}"#
            )
        );
    }
}

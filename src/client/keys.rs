//! Data keys of encrypted sessions, made by KMS with the person's credentials.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::timeout;

use crate::aws::{ChainCredentials, Client, Endpoints, endpoint_variant, service_endpoint};
use crate::protocol::channel::{DATA_KEY, DataKey, KeyRequest};
use crate::runtime::cause::in_one_line;
use crate::transport::{KeyFuture, KeySource};

/// How long KMS may take. The agent waits for 15 s, and its words for a client that is silent for
/// longer would not name KMS.
const PATIENCE: Duration = Duration::from_secs(12);
/// KMS's name in environment and profiles.
const SERVICE: &str = "KMS";

/// KMS, as a person may use it who uses the AWS tools.
#[derive(Debug, Clone)]
pub struct Kms {
    profile: Option<String>,
    region: String,
    tls: Arc<rustls::ClientConfig>,
}

impl Kms {
    /// KMS of `region`, with the credentials of `profile` or of the default chain. Environment and
    /// profile may name another endpoint.
    pub fn new(profile: Option<&str>, region: &str, tls: Arc<rustls::ClientConfig>) -> Self {
        Self {
            profile: profile.map(str::to_owned),
            region: region.to_owned(),
            tls,
        }
    }

    async fn client(&self) -> Result<Client, String> {
        let profile = self.profile.as_deref();
        let variant = endpoint_variant(profile, &self.region).await;
        let mut endpoints = Endpoints::of(&self.region, None, variant);
        if let Some(endpoint) = service_endpoint(SERVICE, profile, &self.region).await {
            endpoints = endpoints.and_then(|endpoints| endpoints.with_kms(&endpoint));
        }
        let credentials = ChainCredentials::new(profile, Some(&self.region));
        Ok(Client::new(
            endpoints.map_err(|error| in_one_line(&error))?,
            Arc::clone(&self.tls),
            Arc::new(credentials),
        ))
    }

    async fn generate(&self, request: KeyRequest) -> Result<DataKey, String> {
        let KeyRequest::Generate {
            kms_key_id,
            context,
        } = request
        else {
            return Err("a client decrypts no data keys".to_owned());
        };
        let client = self.client().await?;
        let key = client
            .generate_data_key(&kms_key_id, DATA_KEY, &context)
            .await
            .map_err(|error| in_one_line(&error))?;
        DataKey::new(&key.plaintext, key.ciphertext.into()).map_err(|error| in_one_line(&error))
    }
}

impl KeySource for Kms {
    fn key(&self, request: KeyRequest) -> KeyFuture {
        let kms = self.clone();
        Box::pin(async move {
            timeout(PATIENCE, kms.generate(request))
                .await
                .unwrap_or_else(|_elapsed| {
                    let seconds = PATIENCE.as_secs();
                    Err(format!("KMS has not answered within {seconds} s"))
                })
        })
    }
}

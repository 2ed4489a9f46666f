//! Data keys of encrypted sessions, decrypted by KMS with the node's credentials.

use tracing::{debug, warn};

use crate::aws::Client;
use crate::protocol::channel::{DataKey, KeyRequest};
use crate::runtime::cause::in_one_line;
use crate::transport::{KeyFuture, KeySource};

/// KMS, as the node may use it.
pub struct Kms {
    client: Client,
}

impl Kms {
    /// KMS at the client's endpoint, with the client's credentials.
    pub fn new(client: Client) -> Self {
        Self { client }
    }
}

impl KeySource for Kms {
    fn key(&self, request: KeyRequest) -> KeyFuture {
        let client = self.client.clone();
        Box::pin(async move {
            let key = decrypt(&client, request).await;
            match &key {
                Ok(_) => debug!("KMS decrypted the session's data key"),
                Err(reason) => warn!(reason, "KMS did not decrypt the session's data key"),
            }
            key
        })
    }
}

async fn decrypt(client: &Client, request: KeyRequest) -> Result<DataKey, String> {
    let KeyRequest::Decrypt {
        kms_key_id,
        ciphertext,
        context,
    } = request
    else {
        return Err("an agent makes no data keys".to_owned());
    };
    let plaintext = client
        .decrypt_data_key(&kms_key_id, &ciphertext, &context)
        .await
        .map_err(|error| in_one_line(&error))?;
    DataKey::new(&plaintext, ciphertext).map_err(|error| in_one_line(&error))
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::aws::tests::server::{Reply, TestServer};
    use crate::protocol::wire::handshake::EncryptionContext;

    #[tokio::test]
    async fn key_is_what_kms_decrypts() {
        // 64 bytes of zeros.
        let body = format!(r#"{{"Plaintext":"{}A=="}}"#, "A".repeat(85));
        let server = TestServer::start(move |_, _| Reply::json(&body)).await;

        let key = Kms::new(server.client()).key(request()).await;

        let expected = DataKey::new(&[0; 64], Bytes::from_static(b"blob"));
        assert_eq!(key.unwrap(), expected.unwrap());
    }

    #[tokio::test]
    async fn refusals_and_useless_answers_are_told_in_one_line() {
        let table = [
            (
                Reply::refusal("AccessDeniedException"),
                "Decrypt was refused: AccessDeniedException: refused (HTTP status 400)",
            ),
            (
                Reply::json(r#"{"Plaintext":"AQID"}"#),
                "a data key has 64 bytes, and this one 3",
            ),
            (
                Reply::json("{}"),
                "Decrypt has an unexpected answer: missing field `Plaintext`",
            ),
        ];
        for (Reply(status, headers, body), expected) in table {
            let reply = move |_: usize, _: &_| Reply(status, headers.clone(), body.clone());
            let server = TestServer::start(reply).await;

            let reason = Kms::new(server.client()).key(request()).await.unwrap_err();

            assert!(reason.starts_with(expected), "{reason}");
        }
    }

    fn request() -> KeyRequest {
        KeyRequest::Decrypt {
            kms_key_id: "alias/k".into(),
            ciphertext: Bytes::from_static(b"blob"),
            context: EncryptionContext::new(),
        }
    }
}

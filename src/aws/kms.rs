//! The two operations of KMS that encrypted sessions need: make a data key, decrypt one.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize};
use zeroize::Zeroizing;

use super::client::Client;
use super::error::CallError;
use crate::protocol::wire::handshake::EncryptionContext;

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct GenerateDataKey<'a> {
    key_id: &'a str,
    number_of_bytes: usize,
    encryption_context: &'a EncryptionContext,
}

/// A new data key.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct GeneratedKey {
    /// The key itself.
    #[serde(deserialize_with = "secret_from_base64")]
    pub plaintext: Zeroizing<Vec<u8>>,
    /// The key as KMS encrypted it.
    #[serde(rename = "CiphertextBlob", deserialize_with = "from_base64")]
    pub ciphertext: Vec<u8>,
}

impl fmt::Debug for GeneratedKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("GeneratedKey(…)")
    }
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Decrypt<'a> {
    ciphertext_blob: String,
    key_id: &'a str,
    encryption_context: &'a EncryptionContext,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Decrypted {
    #[serde(deserialize_with = "secret_from_base64")]
    plaintext: Zeroizing<Vec<u8>>,
}

impl Client {
    /// Has KMS make a data key of `bytes` bytes with the key `key_id`.
    ///
    /// # Errors
    /// [`CallError`].
    pub async fn generate_data_key(
        &self,
        key_id: &str,
        bytes: usize,
        context: &EncryptionContext,
    ) -> Result<GeneratedKey, CallError> {
        let request = GenerateDataKey {
            key_id,
            number_of_bytes: bytes,
            encryption_context: context,
        };
        self.kms("GenerateDataKey", &request).await
    }

    /// Has KMS decrypt a data key that it made with the key `key_id`.
    ///
    /// # Errors
    /// [`CallError`].
    pub async fn decrypt_data_key(
        &self,
        key_id: &str,
        ciphertext: &[u8],
        context: &EncryptionContext,
    ) -> Result<Zeroizing<Vec<u8>>, CallError> {
        let request = Decrypt {
            ciphertext_blob: BASE64.encode(ciphertext),
            key_id,
            encryption_context: context,
        };
        let answer: Decrypted = self.kms("Decrypt", &request).await?;
        Ok(answer.plaintext)
    }
}

fn secret_from_base64<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Zeroizing<Vec<u8>>, D::Error> {
    from_base64(deserializer).map(Zeroizing::new)
}

fn from_base64<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<u8>, D::Error> {
    let text = Zeroizing::new(String::deserialize(deserializer)?);
    // The decoder's own words may quote a byte of a key.
    let bytes = BASE64.decode(text.as_bytes());
    bytes.map_err(|_| D::Error::custom("a blob is not base64"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::aws::tests::server::{Reply, TestServer};

    #[tokio::test]
    async fn data_key_is_asked_for_with_its_context() {
        let server = TestServer::start(|_, _| {
            Reply::json(r#"{"Plaintext":"AQID","CiphertextBlob":"BAUG","KeyId":"arn"}"#)
        })
        .await;

        let key = server
            .client()
            .generate_data_key("alias/k", 64, &context())
            .await
            .unwrap();

        assert_eq!(
            (&key.plaintext[..], &key.ciphertext[..]),
            (&[1, 2, 3][..], &[4, 5, 6][..])
        );
        let seen = &server.seen()[0];
        assert_eq!(seen.header("x-amz-target"), "TrentService.GenerateDataKey");
        assert!(seen.header("authorization").contains("/kms/aws4_request"));
        assert_eq!(
            seen.json(),
            json!({"KeyId": "alias/k", "NumberOfBytes": 64,
                "EncryptionContext": {"aws:ssm:SessionId": "ada-1"}})
        );
        assert_eq!(format!("{key:?}"), "GeneratedKey(…)");
    }

    #[tokio::test]
    async fn data_key_is_decrypted_in_its_context() {
        let server = TestServer::start(|_, _| Reply::json(r#"{"Plaintext":"AQID"}"#)).await;

        let key = server
            .client()
            .decrypt_data_key("alias/k", &[4, 5, 6], &context())
            .await
            .unwrap();

        assert_eq!(key[..], [1, 2, 3]);
        let seen = &server.seen()[0];
        assert_eq!(seen.header("x-amz-target"), "TrentService.Decrypt");
        assert_eq!(
            seen.json(),
            json!({"CiphertextBlob": "BAUG", "KeyId": "alias/k",
                "EncryptionContext": {"aws:ssm:SessionId": "ada-1"}})
        );
    }

    #[tokio::test]
    async fn answer_that_is_no_key_is_an_error_without_its_text() {
        let server = TestServer::start(|_, _| Reply::json(r#"{"Plaintext":"se*ret"}"#)).await;

        let error = server
            .client()
            .decrypt_data_key("alias/k", &[], &context())
            .await
            .unwrap_err();

        assert!(matches!(error, CallError::Decode { .. }));
        assert!(!format!("{error:?}").contains("se*ret"));
    }

    fn context() -> EncryptionContext {
        EncryptionContext::from([("aws:ssm:SessionId", "ada-1".to_owned())])
    }
}

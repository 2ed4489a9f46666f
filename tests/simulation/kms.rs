//! A KMS of our own, and the official plugin's way to encrypt.

use std::time::{Duration, Instant};

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use ssm_agent::protocol::channel::{Channel, DataKey, KeyRequest, Randomness};
use ssm_agent::protocol::wire::handshake::EncryptionContext;

use crate::random::Random;

/// Bytes of a data key.
const DATA_KEY: usize = 64;
/// What turns clear bytes into encrypted ones here, and back.
const MASK: u8 = 0x5a;

/// Makes and decrypts data keys. Like the real one it decrypts a key only in the context that it was
/// made in.
pub fn answer(request: &KeyRequest, random: &mut Random) -> Result<DataKey, String> {
    match request {
        KeyRequest::Generate {
            kms_key_id,
            context,
        } => {
            let plaintext = random.bytes(DATA_KEY);
            let ciphertext = encrypt(kms_key_id, context, &plaintext);
            Ok(DataKey::new(&plaintext, ciphertext.into()).expect("64 bytes"))
        }
        KeyRequest::Decrypt {
            kms_key_id,
            ciphertext,
            context,
        } => {
            let mask = encrypt(kms_key_id, context, &[]);
            let sealed = ciphertext
                .strip_prefix(&mask[..])
                .ok_or("InvalidCiphertextException")?;
            let plaintext: Vec<_> = sealed.iter().map(|byte| byte ^ MASK).collect();
            DataKey::new(&plaintext, ciphertext.clone()).map_err(|error| error.to_string())
        }
    }
}

/// The context in front of the masked key.
pub fn encrypt(kms_key_id: &str, context: &EncryptionContext, plaintext: &[u8]) -> Vec<u8> {
    let mut sealed = format!("{kms_key_id} {context:?} ").into_bytes();
    sealed.extend(plaintext.iter().map(|byte| byte ^ MASK));
    sealed
}

/// Random bytes for a channel.
pub fn randomness(random: &mut Random) -> Randomness {
    let bytes = random.bytes(Randomness::SIZE);
    Randomness::new(bytes.as_slice().try_into().expect("as many as asked for"))
}

/// Gets keys for a channel after a while.
pub struct Desk {
    random: Random,
    slowest: Duration,
    due: Option<(Instant, KeyRequest)>,
}

impl Desk {
    pub fn new(random: &mut Random) -> Self {
        let slowest = random.millis(0..3000);
        Self {
            random: random.fork(),
            slowest,
            due: None,
        }
    }

    pub fn work(&mut self, channel: &mut Channel, now: Instant) {
        if let Some(request) = channel.poll_key_request() {
            assert!(self.due.is_none(), "a second key was asked for");
            let share = self.random.range(0..1000) as f64 / 1000.0;
            self.due = Some((now + self.slowest.mul_f64(share), request));
        }
        if let Some((_, request)) = self.due.take_if(|(at, _)| *at <= now) {
            channel.provide_key(answer(&request, &mut self.random), now);
        }
    }

    pub fn next_work(&self) -> Option<Instant> {
        self.due.as_ref().map(|(at, _)| *at)
    }
}

/// How the official plugin encrypts.
pub struct PluginCipher {
    decryption: LessSafeKey,
    encryption: LessSafeKey,
}

impl PluginCipher {
    pub fn new(data_key: &[u8]) -> Self {
        let half = |bytes| LessSafeKey::new(UnboundKey::new(&AES_256_GCM, bytes).expect("a key"));
        let (first, second) = data_key.split_at(DATA_KEY / 2);
        Self {
            decryption: half(first),
            encryption: half(second),
        }
    }

    /// What is too short for a nonce makes the plugin panic, as it does here.
    pub fn decrypt(&self, sealed: &[u8]) -> Option<Vec<u8>> {
        let nonce = Nonce::try_assume_unique_for_key(&sealed[..NONCE_LEN]).expect("12 bytes");
        let mut buffer = sealed[NONCE_LEN..].to_vec();
        let opened = self
            .decryption
            .open_in_place(nonce, Aad::empty(), &mut buffer);
        Some(opened.ok()?.to_vec())
    }

    /// With a nonce thrown with dice each time.
    pub fn encrypt(&self, plaintext: &[u8], random: &mut Random) -> Vec<u8> {
        let nonce: [u8; NONCE_LEN] = random.bytes(NONCE_LEN).try_into().expect("12 bytes");
        let mut buffer = plaintext.to_vec();
        self.encryption
            .seal_in_place_append_tag(
                Nonce::assume_unique_for_key(nonce),
                Aad::empty(),
                &mut buffer,
            )
            .expect("it is short");
        [&nonce[..], &buffer].concat()
    }
}

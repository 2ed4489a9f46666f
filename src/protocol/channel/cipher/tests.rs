use proptest::prelude::*;

use super::*;

/// Nonce words 1, 2, 3.
const COUNTED: [u8; NONCE_LEN] = [1, 0, 0, 0, 2, 0, 0, 0, 3, 0, 0, 0];
/// Nonce 01…0c.
const DICED: [u8; NONCE_LEN] = [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12];

#[test]
fn agent_encrypts_as_the_golden_vectors_have_it() {
    let mut agent = Cipher::new(Role::Agent, &key(), COUNTED);

    assert_eq!(
        hex(&agent.seal(b"hello")),
        "0100000002000000030000006c16060245cab2e080753e54e285bc79a222fe0096"
    );
    assert_eq!(
        hex(&agent.seal(b"world")),
        "02000000020000000300000070dbf8b2bdfc73fe6b9257c2d07842ab375edaff03"
    );
}

#[test]
fn client_encrypts_as_the_golden_vector_has_it() {
    let mut client = Cipher::new(Role::Client, &key(), DICED);

    assert_eq!(
        hex(&client.seal(b"ls\r")),
        "0102030405060708090a0b0c11468cda53ebee174d8ac596792ba7f8ec0eb7"
    );
}

#[test]
fn nonces_carry_into_the_next_word() {
    let full = [0xff; 4];
    let mut start = [0; NONCE_LEN];
    start[..4].copy_from_slice(&full);
    start[4..8].copy_from_slice(&full);
    let mut nonces = Nonces::from(start);
    let mut last = Nonces::from([0xff; NONCE_LEN]);

    assert_eq!(nonces.next(), start);
    assert_eq!(nonces.next(), [0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0]);
    assert_eq!(nonces.next(), [1, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0]);
    last.next();
    assert_eq!(last.next(), [0; NONCE_LEN]);
}

#[test]
fn no_end_decrypts_what_it_encrypted_itself() {
    let (mut agent, mut client) = pair();

    let (down, up) = (agent.seal(b"x"), client.seal(b"x"));

    assert_eq!(agent.open(&down), Err(CipherError::Forged));
    assert_eq!(client.open(&up), Err(CipherError::Forged));
}

#[test]
fn any_changed_bit_is_noticed() {
    let (mut agent, client) = pair();
    let sealed = agent.seal(b"transfer 10");

    for at in 0..sealed.len() {
        let mut changed = sealed.to_vec();
        changed[at] ^= 1;
        assert_eq!(client.open(&changed), Err(CipherError::Forged), "byte {at}");
    }
}

#[test]
fn too_few_bytes_are_refused_before_they_are_read() {
    let (_, client) = pair();

    for length in 0..OVERHEAD {
        let opened = client.open(&vec![0; length]);
        assert_eq!(opened, Err(CipherError::Truncated(length)));
    }
}

#[test]
fn data_keys_of_another_length_are_refused() {
    for length in [0, 32, 63, 65] {
        let key = DataKey::new(&vec![0; length], Bytes::new());
        assert_eq!(key, Err(DataKeyError(length)));
    }
}

#[test]
fn secrets_do_not_show_in_debug_output() {
    let randomness = Randomness::new(&[0xab; Randomness::SIZE]);
    let cipher = Cipher::new(Role::Agent, &key(), COUNTED);

    let shown = format!("{:?} {randomness:?} {cipher:?}", key());

    assert!(!shown.contains("171") && !shown.contains("63"), "{shown}");
}

#[test]
fn randomness_is_divided_without_overlap() {
    let bytes: [u8; Randomness::SIZE] = std::array::from_fn(|i| u8::try_from(i).unwrap());

    let randomness = Randomness::new(&bytes);

    let joined = [
        &randomness.nonce[..],
        &randomness.key_challenge,
        &randomness.challenge,
    ]
    .concat();
    assert_eq!(joined, bytes);
}

proptest! {
    #[test]
    fn every_payload_survives_and_grows_by_28_bytes(
        payloads in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..3000), 1..8),
        nonce in any::<[u8; NONCE_LEN]>(),
    ) {
        let mut agent = Cipher::new(Role::Agent, &key(), nonce);
        let client = Cipher::new(Role::Client, &key(), nonce);

        for payload in payloads {
            let sealed = agent.seal(&payload);

            prop_assert_eq!(sealed.len(), payload.len() + 28);
            prop_assert_eq!(client.open(&sealed).unwrap(), payload);
        }
    }
}

fn pair() -> (Cipher, Cipher) {
    (
        Cipher::new(Role::Agent, &key(), COUNTED),
        Cipher::new(Role::Client, &key(), DICED),
    )
}

/// The data key of the golden vectors: bytes 00 to 3f.
fn key() -> DataKey {
    let plaintext: Vec<u8> = (0..64).collect();
    DataKey::new(&plaintext, Bytes::from_static(b"encrypted")).unwrap()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

use std::sync::atomic::{AtomicU32, Ordering};

use super::super::hardware::Quick;
use super::*;

/// Hardware made of `name=value` pairs that counts how often commands would have run.
struct Fake {
    properties: BTreeMap<String, String>,
    commands: AtomicU32,
}

impl Fake {
    fn new(properties: &[(&str, &str)]) -> Self {
        Self {
            properties: map(properties),
            commands: AtomicU32::new(0),
        }
    }

    fn commands(&self) -> u32 {
        self.commands.load(Ordering::Relaxed)
    }
}

impl Hardware for Fake {
    fn quick(&self) -> Quick {
        let value = |name| self.properties.get(name).cloned().unwrap_or_default();
        Quick {
            machine_id: value(MACHINE_ID),
            ip_address: value(IP_ADDRESS),
        }
    }

    async fn properties(&self) -> BTreeMap<String, String> {
        self.commands.fetch_add(1, Ordering::Relaxed);
        self.properties.clone()
    }
}

const SAVED: [(&str, &str); 5] = [
    (MACHINE_ID, "m"),
    (IP_ADDRESS, "10.0.0.1"),
    ("bios-hash", "b"),
    ("disk-info", "d"),
    ("hostname-info", "h"),
];

#[tokio::test]
async fn similarity_follows_the_table_of_the_reference() {
    let moved = |more: &[(&'static str, &'static str)]| {
        let mut properties = vec![(MACHINE_ID, "m"), (IP_ADDRESS, "10.9.9.9")];
        properties.extend_from_slice(more);
        properties
    };
    let one_of_five = moved(&[
        ("bios-hash", "x"),
        ("disk-info", "x"),
        ("hostname-info", "x"),
    ]);
    let two_of_five = moved(&[
        ("bios-hash", "b"),
        ("disk-info", "x"),
        ("hostname-info", "x"),
    ]);
    let four_of_five = moved(&[
        ("bios-hash", "b"),
        ("disk-info", "d"),
        ("hostname-info", "h"),
    ]);
    let other_machine = vec![(MACHINE_ID, "n"), (IP_ADDRESS, "10.0.0.1")];
    let same_address = vec![
        (MACHINE_ID, "m"),
        (IP_ADDRESS, "10.0.0.1"),
        ("bios-hash", "x"),
    ];
    let table = [
        ("never compared", -1, &other_machine, true),
        ("other machine id", 1, &other_machine, false),
        ("same address", 100, &same_address, true),
        ("20 % below 40", 40, &one_of_five, false),
        ("40 % at 40", 40, &two_of_five, true),
        ("80 % below 81", 81, &four_of_five, false),
        ("80 % at 80", 80, &four_of_five, true),
    ];

    for (case, threshold, current, expected) in table {
        let stored = stored(threshold);
        assert_eq!(
            is_similar(&stored, &Fake::new(current)).await,
            expected,
            "{case}"
        );
    }
}

#[tokio::test]
async fn same_address_needs_no_commands() {
    let hardware = Fake::new(&SAVED);

    assert!(is_similar(&stored(40), &hardware).await);

    assert_eq!(hardware.commands(), 0);
}

#[tokio::test]
async fn hardware_that_was_never_recorded_is_not_similar() {
    let stored = StoredFingerprint {
        hardware_hash: BTreeMap::new(),
        ..stored(40)
    };

    assert!(!is_similar(&stored, &Fake::new(&[])).await);
}

#[tokio::test]
async fn first_fingerprint_is_stored_and_kept() {
    let state = tempfile::tempdir().unwrap();
    let vault = Vault::new(state.path());
    let hardware = Fake::new(&SAVED);

    let first = load_or_make(&vault, &hardware, Duration::ZERO)
        .await
        .unwrap();
    let second = load_or_make(&vault, &hardware, Duration::ZERO)
        .await
        .unwrap();

    assert_eq!(first, second);
    assert_eq!(Uuid::parse_str(&first).unwrap().get_version_num(), 4);
    let stored = vault.fingerprint().unwrap().unwrap();
    assert_eq!(stored.similarity_threshold, 40);
    assert_eq!(stored.hardware_hash, map(&SAVED));
}

#[tokio::test]
async fn other_hardware_gets_another_fingerprint_after_three_looks() {
    let state = tempfile::tempdir().unwrap();
    let vault = Vault::new(state.path());
    vault.store_fingerprint(&stored(70)).unwrap();
    let hardware = Fake::new(&[(MACHINE_ID, "m"), (IP_ADDRESS, "10.9.9.9")]);

    let made = load_or_make(&vault, &hardware, Duration::ZERO)
        .await
        .unwrap();

    assert_ne!(made, stored(70).fingerprint);
    assert_eq!(hardware.commands(), LOOKS + 1);
    assert_eq!(
        vault.fingerprint().unwrap().unwrap().similarity_threshold,
        70
    );
}

#[tokio::test]
async fn damaged_fingerprint_is_replaced() {
    let state = tempfile::tempdir().unwrap();
    let vault = Vault::new(state.path());
    vault.store_fingerprint(&stored(40)).unwrap();
    std::fs::write(vault.folder().join("Store/InstanceFingerprint"), "{").unwrap();

    let made = load_or_make(&vault, &Fake::new(&SAVED), Duration::ZERO).await;

    assert_ne!(made.unwrap(), stored(40).fingerprint);
}

#[tokio::test]
async fn comparison_can_be_turned_off() {
    let state = tempfile::tempdir().unwrap();
    let vault = Vault::new(state.path());
    vault.store_fingerprint(&stored(40)).unwrap();

    disable_comparison(&vault).unwrap();

    let other = Fake::new(&[(MACHINE_ID, "n")]);
    let kept = load_or_make(&vault, &other, Duration::ZERO).await.unwrap();
    assert_eq!(kept, stored(40).fingerprint);
}

#[test]
fn cleared_fingerprint_is_empty() {
    let state = tempfile::tempdir().unwrap();
    let vault = Vault::new(state.path());
    vault.store_fingerprint(&stored(40)).unwrap();

    clear(&vault).unwrap();

    assert_eq!(
        vault.fingerprint().unwrap(),
        Some(StoredFingerprint::default())
    );
}

fn stored(threshold: i32) -> StoredFingerprint {
    StoredFingerprint {
        fingerprint: "8a0f16b0-fded-4044-ba46-709a519a01b7".into(),
        hardware_hash: map(&SAVED),
        similarity_threshold: threshold,
    }
}

fn map(properties: &[(&str, &str)]) -> BTreeMap<String, String> {
    properties
        .iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
        .collect()
}

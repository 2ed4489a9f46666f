//! The fingerprint: a random id that stays while the hardware stays similar, so that a copied
//! registration is noticed.

use std::collections::BTreeMap;
use std::time::Duration;

use tracing::{debug, info, warn};
use uuid::Uuid;

use super::hardware::{Hardware, IP_ADDRESS, MACHINE_ID, ThisHost};
use super::vault::{StoredFingerprint, Vault, VaultError};

/// Percentage of equal properties from which hardware counts as the same.
const DEFAULT_THRESHOLD: i32 = 40;
/// Threshold that turns the comparison off.
const NEVER_COMPARE: i32 = -1;
/// Hardware is looked at this many times before it counts as different: at boot, disks and network
/// may not all be there yet.
const LOOKS: u32 = 3;
/// Wait between two looks.
const BETWEEN_LOOKS: Duration = Duration::from_secs(5);

/// The fingerprint of this host, made now if there is none or if the hardware has changed.
///
/// # Errors
/// [`VaultError`].
pub async fn current(vault: &Vault) -> Result<String, VaultError> {
    load_or_make(vault, &ThisHost, BETWEEN_LOOKS).await
}

/// Turns the comparison of hardware off for the stored fingerprint.
///
/// # Errors
/// [`VaultError`].
pub fn disable_comparison(vault: &Vault) -> Result<(), VaultError> {
    let mut stored = vault.fingerprint()?.unwrap_or_default();
    stored.similarity_threshold = NEVER_COMPARE;
    vault.store_fingerprint(&stored)
}

/// Forgets the fingerprint.
///
/// # Errors
/// [`VaultError`].
pub fn clear(vault: &Vault) -> Result<(), VaultError> {
    vault.store_fingerprint(&StoredFingerprint::default())
}

async fn load_or_make(
    vault: &Vault,
    hardware: &impl Hardware,
    between_looks: Duration,
) -> Result<String, VaultError> {
    let stored = match vault.fingerprint() {
        Ok(stored) => stored.unwrap_or_default(),
        Err(error @ VaultError::Damaged { .. }) => {
            warn!(%error, "the fingerprint is made anew");
            StoredFingerprint::default()
        }
        Err(error) => return Err(error),
    };
    let threshold = if stored.fingerprint.is_empty() {
        info!("this host gets its first fingerprint");
        DEFAULT_THRESHOLD
    } else {
        for look in 1..=LOOKS {
            if is_similar(&stored, hardware).await {
                return Ok(stored.fingerprint);
            }
            if look < LOOKS {
                tokio::time::sleep(between_looks).await;
            }
        }
        warn!("the hardware is not the one that was registered; making a new fingerprint");
        stored.similarity_threshold
    };
    let made = StoredFingerprint {
        fingerprint: Uuid::new_v4().to_string(),
        hardware_hash: hardware.properties().await,
        similarity_threshold: threshold,
    };
    vault.store_fingerprint(&made)?;
    Ok(made.fingerprint)
}

/// Compares what costs nothing first: mostly it settles the matter, and no command has to run.
async fn is_similar(stored: &StoredFingerprint, hardware: &impl Hardware) -> bool {
    if stored.similarity_threshold == NEVER_COMPARE {
        return true;
    }
    let known = |name: &str| stored.hardware_hash.get(name).map(String::as_str);
    let quick = hardware.quick();
    if stored.hardware_hash.is_empty() || known(MACHINE_ID) != Some(&quick.machine_id) {
        debug!("the machine id is another one");
        return false;
    }
    if known(IP_ADDRESS) == Some(&quick.ip_address) {
        return true;
    }
    let current = hardware.properties().await;
    share_of_equal(&stored.hardware_hash, &current) >= f64::from(stored.similarity_threshold)
}

/// The percentage of `current` properties that `stored` has with the same value.
fn share_of_equal(stored: &BTreeMap<String, String>, current: &BTreeMap<String, String>) -> f64 {
    let count = |number: usize| u32::try_from(number).map_or(f64::INFINITY, f64::from);
    let (equal, different): (Vec<_>, Vec<_>) = current
        .iter()
        .partition(|(name, value)| stored.get(*name) == Some(value));
    for (name, _) in &different {
        debug!(property = %name, "hardware property has changed");
    }
    count(equal.len()) / count(current.len()) * 100.0
}

#[cfg(test)]
mod tests;

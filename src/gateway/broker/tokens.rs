//! Tokens: what a WebSocket's first message shows to prove that it was asked for.
//!
//! A token is 256 random bits, good for one connection in one role for a short time. Only its
//! SHA-256 is kept.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use aws_lc_rs::digest::{self, SHA256, SHA256_OUTPUT_LEN};
use aws_lc_rs::{constant_time, rand};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use tokio::time::Instant;

use crate::protocol::wire::SessionId;

/// Unused tokens kept for one scope; a further one pushes the oldest out. An end that cannot connect
/// asks for a few in a row, nobody needs more.
const TOKENS_PER_SCOPE: usize = 8;

/// What a token opens.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum Scope {
    /// The control channel of a node.
    Control(String),
    /// The agent's end of a session.
    Agent(SessionId),
    /// The client's end of a session.
    Client(SessionId),
}

struct Issued {
    digest: [u8; SHA256_OUTPUT_LEN],
    expires: Instant,
}

/// The tokens that were issued and not used yet.
pub(super) struct Tokens {
    lifetime: Duration,
    issued: Mutex<HashMap<Scope, Vec<Issued>>>,
}

impl Tokens {
    pub(super) fn new(lifetime: Duration) -> Self {
        Self {
            lifetime,
            issued: Mutex::default(),
        }
    }

    /// Makes a token for `scope`.
    pub(super) fn issue(&self, scope: Scope, now: Instant) -> String {
        let mut secret = [0; 32];
        rand::fill(&mut secret).expect("the system's random source works");
        let token = URL_SAFE_NO_PAD.encode(secret);
        let issued = Issued {
            digest: hash(&token),
            expires: now + self.lifetime,
        };
        let mut all = self.issued.lock().unwrap_or_else(PoisonError::into_inner);
        let of_scope = all.entry(scope).or_default();
        of_scope.retain(|issued| issued.expires > now);
        if of_scope.len() >= TOKENS_PER_SCOPE {
            of_scope.remove(0);
        }
        of_scope.push(issued);
        token
    }

    /// Uses `token` up. Returns whether it was good for `scope`.
    pub(super) fn redeem(&self, scope: &Scope, token: &str, now: Instant) -> bool {
        let digest = hash(token);
        let mut all = self.issued.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(of_scope) = all.get_mut(scope) else {
            return false;
        };
        let found = of_scope.iter().position(|issued| {
            constant_time::verify_slices_are_equal(&issued.digest, &digest).is_ok()
        });
        let good = found.is_some_and(|place| of_scope.swap_remove(place).expires > now);
        if of_scope.is_empty() {
            all.remove(scope);
        }
        good
    }

    /// Forgets the tokens of a session that is over.
    pub(super) fn revoke(&self, session: &SessionId) {
        let mut all = self.issued.lock().unwrap_or_else(PoisonError::into_inner);
        all.remove(&Scope::Agent(session.clone()));
        all.remove(&Scope::Client(session.clone()));
    }

    /// Forgets tokens that nobody used in time.
    pub(super) fn sweep(&self, now: Instant) {
        let mut all = self.issued.lock().unwrap_or_else(PoisonError::into_inner);
        all.retain(|_, of_scope| {
            of_scope.retain(|issued| issued.expires > now);
            !of_scope.is_empty()
        });
    }
}

fn hash(token: &str) -> [u8; SHA256_OUTPUT_LEN] {
    let mut out = [0; SHA256_OUTPUT_LEN];
    out.copy_from_slice(digest::digest(&SHA256, token.as_bytes()).as_ref());
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIFETIME: Duration = Duration::from_secs(60);

    #[test]
    fn token_is_good_once() {
        let (tokens, now) = (Tokens::new(LIFETIME), Instant::now());
        let token = tokens.issue(client(), now);

        assert!(tokens.redeem(&client(), &token, now));
        assert!(!tokens.redeem(&client(), &token, now));
    }

    #[test]
    fn token_is_good_for_its_own_role_and_session_only() {
        let (tokens, now) = (Tokens::new(LIFETIME), Instant::now());
        let token = tokens.issue(client(), now);

        assert!(!tokens.redeem(&Scope::Agent(session("a-1")), &token, now));
        assert!(!tokens.redeem(&Scope::Client(session("a-2")), &token, now));
        assert!(!tokens.redeem(&Scope::Control("a-1".into()), &token, now));
        assert!(
            tokens.redeem(&client(), &token, now),
            "a miss uses nothing up"
        );
    }

    #[test]
    fn token_is_refused_after_its_time() {
        let (tokens, now) = (Tokens::new(LIFETIME), Instant::now());
        let token = tokens.issue(client(), now);

        assert!(!tokens.redeem(&client(), &token, now + LIFETIME));
    }

    #[test]
    fn unused_tokens_of_a_scope_stay_few() {
        let (tokens, now) = (Tokens::new(LIFETIME), Instant::now());
        let first = tokens.issue(client(), now);
        for _ in 0..TOKENS_PER_SCOPE {
            tokens.issue(client(), now);
        }

        assert!(!tokens.redeem(&client(), &first, now));
    }

    #[test]
    fn sweep_and_revoke_leave_nothing_behind() {
        let (tokens, now) = (Tokens::new(LIFETIME), Instant::now());
        tokens.issue(Scope::Control("mi-1".into()), now);
        tokens.issue(client(), now + LIFETIME);
        tokens.sweep(now + LIFETIME);
        tokens.revoke(&session("a-1"));

        assert!(tokens.issued.lock().unwrap().is_empty());
    }

    fn client() -> Scope {
        Scope::Client(session("a-1"))
    }

    fn session(id: &str) -> SessionId {
        SessionId::new(id).unwrap()
    }
}

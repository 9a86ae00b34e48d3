//! Passwords: argon2id, away from the async threads, a few at a time.
//!
//! One hash takes 19 MiB and tens of milliseconds by intention; without a bound a burst of sign-ins would take all
//! cores and memory.

use std::sync::Arc;

use argon2::{
    Algorithm, Argon2, Params, Version,
    password_hash::{PasswordHasher, PasswordVerifier},
};
use tokio::sync::Semaphore;

use crate::AccountsUnavailable;

/// Hashes that are computed at the same time; more wait.
const AT_ONCE: usize = 2;

/// How dear one hash is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PasswordCost {
    /// OWASP's recommendation: 19 MiB, two passes.
    Standard,
    /// For tests only: no protection at all.
    Minimal,
}

#[derive(Clone)]
pub(crate) struct Passwords {
    cost: PasswordCost,
    turns: Arc<Semaphore>,
}

impl Passwords {
    pub(crate) fn new(cost: PasswordCost) -> Self {
        Self {
            cost,
            turns: Arc::new(Semaphore::new(AT_ONCE)),
        }
    }

    /// The PHC string to store.
    pub(crate) async fn hash(&self, password: &str) -> Result<String, AccountsUnavailable> {
        let password = password.to_owned();
        let cost = self.cost;
        self.work(move || {
            let mut salt = [0_u8; 16];
            rand::fill(&mut salt);
            hash_with(cost, password.as_bytes(), &salt)
        })
        .await?
        .ok_or(AccountsUnavailable::Hash)
    }

    /// Whether the password belongs to the stored hash. Without a hash the work is done all the same, so that the
    /// time does not tell which accounts exist.
    pub(crate) async fn verify(&self, password: &str, stored: Option<String>) -> Result<bool, AccountsUnavailable> {
        let password = password.to_owned();
        let cost = self.cost;
        self.work(move || match stored {
            Some(stored) => Argon2::default()
                .verify_password(password.as_bytes(), stored.as_str())
                .is_ok(),
            None => {
                let _ = hash_with(cost, password.as_bytes(), &[0; 16]);
                false
            }
        })
        .await
    }

    async fn work<T: Send + 'static>(
        &self,
        job: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, AccountsUnavailable> {
        let _turn = self.turns.acquire().await.map_err(|_| AccountsUnavailable::Hash)?;
        tokio::task::spawn_blocking(job)
            .await
            .map_err(|_| AccountsUnavailable::Hash)
    }
}

fn hash_with(cost: PasswordCost, password: &[u8], salt: &[u8]) -> Option<String> {
    let params = match cost {
        PasswordCost::Standard => Params::default(),
        PasswordCost::Minimal => Params::new(Params::MIN_M_COST, 1, 1, None).ok()?,
    };
    let hasher = Argon2::new(Algorithm::Argon2id, Version::V0x13, params);
    Some(hasher.hash_password_with_salt(password, salt).ok()?.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_password_fits_its_own_hash_only() {
        for cost in [PasswordCost::Standard, PasswordCost::Minimal] {
            let passwords = Passwords::new(cost);
            let hash = passwords.hash("correct horse").await.unwrap();
            assert!(hash.starts_with("$argon2id$v=19$"), "{hash}");
            assert!(passwords.verify("correct horse", Some(hash.clone())).await.unwrap());
            assert!(!passwords.verify("correct horsf", Some(hash.clone())).await.unwrap());
            assert_ne!(
                hash,
                passwords.hash("correct horse").await.unwrap(),
                "the salt is new each time"
            );
        }
        let passwords = Passwords::new(PasswordCost::Minimal);
        assert!(!passwords.verify("x", None).await.unwrap());
        assert!(!passwords.verify("x", Some("no hash".to_owned())).await.unwrap());
    }
}

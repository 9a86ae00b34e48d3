//! Password hashes: argon2id on threads of its own, a few at a time. Must not run on the async threads.
//!
//! One hash intentionally takes 19 MiB and tens of milliseconds; without a limit a burst of logins would use all cores
//! and memory. The permits belong to the computation and not to the request: a client that disconnects frees nothing
//! before its hash is done.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, mpsc::Sender},
    time::Duration,
};

use argon2::{
    Algorithm, Argon2, Block, Params, PasswordHash, Version,
    password_hash::phc::{Output, ParamsString, Salt},
};
use parking_lot::Mutex;
use tokio::sync::{Semaphore, oneshot};
use weft_budget::{Budget, KeyedBudget};
use weft_wire::limits::{MAX_KNOWN_PASSWORD_HASHES, MAX_PASSWORD_HASHES, MAX_PASSWORD_HASHES_PER_NETWORK};

use crate::{AccountsUnavailable, Network};

/// Hashes that are computed at the same time. Others wait.
const AT_ONCE: usize = 2;
/// Longest wait for a permit. On a working machine the queue is processed in seconds.
const WAIT: Duration = Duration::from_secs(30);

/// Cost of one hash.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PasswordCost {
    /// OWASP's recommendation: 19 MiB, two passes.
    Standard,
    /// For tests only: gives no protection.
    Minimal,
}

/// The client class that a hash is computed for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ClientClass {
    /// An unauthenticated client, from this network.
    Stranger(Option<Network>),
    /// The operator, a signed-in device, or a user who logged in from this network before. Unauthenticated clients can't
    /// fill this queue.
    Known(Option<Network>),
}

pub(crate) struct Passwords {
    cost: PasswordCost,
    permits: Arc<Semaphore>,
    threads: Sender<Job>,
    /// Hashes for unauthenticated clients that wait or are being computed.
    strangers: Arc<KeyedBudget<Option<Network>>>,
    /// The same for known clients.
    known: Arc<KeyedBudget<Option<Network>>>,
}

impl Passwords {
    pub(crate) fn new(cost: PasswordCost) -> Self {
        Self {
            cost,
            permits: Arc::new(Semaphore::new(AT_ONCE)),
            threads: threads(),
            strangers: KeyedBudget::new(
                "stranger_password_hashes",
                MAX_PASSWORD_HASHES_PER_NETWORK,
                MAX_PASSWORD_HASHES,
            ),
            known: KeyedBudget::new(
                "known_password_hashes",
                MAX_PASSWORD_HASHES_PER_NETWORK,
                MAX_KNOWN_PASSWORD_HASHES,
            ),
        }
    }

    /// Budgets of the hashes that wait or are being computed: unauthenticated clients, known clients.
    pub(crate) fn budgets(&self) -> [&Arc<Budget>; 2] {
        [self.strangers.total(), self.known.total()]
    }

    /// Hashes a password; returns the PHC string to store.
    pub(crate) async fn hash(&self, password: &str, class: ClientClass) -> Result<String, AccountsUnavailable> {
        let password = password.to_owned();
        let cost = self.cost;
        self.work(class, move |memory| {
            let mut salt = [0_u8; 16];
            rand::fill(&mut salt);
            let hash = hash_with(cost, password.as_bytes(), &salt, memory);
            hash.map(|hash| hash.to_string())
        })
        .await?
        .ok_or(AccountsUnavailable::Hash)
    }

    /// Whether the password matches the stored hash. Without a hash the same work is done, so that the response time does
    /// not reveal which accounts exist.
    pub(crate) async fn verify(
        &self,
        password: &str,
        stored: Option<String>,
        class: ClientClass,
    ) -> Result<bool, AccountsUnavailable> {
        let password = password.to_owned();
        let cost = self.cost;
        self.work(class, move |memory| match stored {
            Some(stored) => matches(password.as_bytes(), &stored, memory).unwrap_or(false),
            None => {
                let _ = hash_with(cost, password.as_bytes(), &[0; 16], memory);
                false
            }
        })
        .await
    }

    async fn work<T: Send + 'static>(
        &self,
        class: ClientClass,
        job: impl FnOnce(&mut Memory) -> T + Send + 'static,
    ) -> Result<T, AccountsUnavailable> {
        let (queue, network) = match class {
            ClientClass::Stranger(network) => (&self.strangers, network),
            ClientClass::Known(network) => (&self.known, network),
        };
        let slot = queue.try_take(&network, 1).map_err(|_| AccountsUnavailable::Busy)?;
        let permit = tokio::time::timeout(WAIT, Arc::clone(&self.permits).acquire_owned())
            .await
            .map_err(|_| AccountsUnavailable::Busy)?
            .map_err(|_| AccountsUnavailable::Hash)?;
        let (reply, outcome) = oneshot::channel();
        let job = move |memory: &mut Memory| {
            let outcome = job(memory);
            drop((permit, slot));
            // The receiver is gone if the client has disconnected.
            let _ = reply.send(outcome);
        };
        self.threads
            .send(Box::new(job))
            .map_err(|_| AccountsUnavailable::Hash)?;
        outcome.await.map_err(|_| AccountsUnavailable::Hash)
    }
}

/// Working memory of one hash. It is reused: when 19 MiB were allocated and freed for each hash, the allocator was seen
/// to retain them, and more with each hash.
type Memory = Vec<Block>;

type Job = Box<dyn FnOnce(&mut Memory) + Send>;

/// Starts the threads that compute hashes, each with its working memory. They end when the sender is dropped.
fn threads() -> Sender<Job> {
    let (sender, jobs) = std::sync::mpsc::channel::<Job>();
    let jobs = Arc::new(Mutex::new(jobs));
    for number in 0..AT_ONCE {
        let jobs = Arc::clone(&jobs);
        let thread = std::thread::Builder::new().name(format!("password-{number}"));
        let started = thread.spawn(move || {
            let mut memory = Memory::new();
            loop {
                let next = jobs.lock().recv();
                let Ok(job) = next else { return };
                // The thread survives a job that panics; the caller of that job gets an error.
                let _ = catch_unwind(AssertUnwindSafe(|| job(&mut memory)));
            }
        });
        if let Err(error) = started {
            tracing::error!(event = "accounts.no_hash_thread", %error, "cannot start a thread for password hashes");
        }
    }
    sender
}

fn hash_with(cost: PasswordCost, password: &[u8], salt: &[u8], memory: &mut Memory) -> Option<PasswordHash> {
    let params = match cost {
        PasswordCost::Standard => Params::default(),
        PasswordCost::Minimal => Params::new(Params::MIN_M_COST, 1, 1, None).ok()?,
    };
    let salt = Salt::new(salt).ok()?;
    let (algorithm, version) = (Algorithm::Argon2id, Version::V0x13);
    let hasher = Argon2::new(algorithm, version, params.clone());
    let hash = output(&hasher, password, &salt, Params::DEFAULT_OUTPUT_LEN, memory)?;
    Some(PasswordHash {
        algorithm: algorithm.ident(),
        version: Some(version.into()),
        params: ParamsString::try_from(&params).ok()?,
        salt: Some(salt),
        hash: Some(hash),
    })
}

/// Whether a password matches a stored hash. `None`: the stored text is not an argon2 hash.
fn matches(password: &[u8], stored: &str, memory: &mut Memory) -> Option<bool> {
    let stored = PasswordHash::new(stored).ok()?;
    let (salt, expected) = (stored.salt.as_ref()?, stored.hash.as_ref()?);
    let algorithm = Algorithm::try_from(stored.algorithm.as_str()).ok()?;
    let version = Version::try_from(stored.version?).ok()?;
    let hasher = Argon2::new(algorithm, version, Params::try_from(&stored).ok()?);
    // Compared in constant time.
    Some(output(&hasher, password, salt, expected.len(), memory)? == *expected)
}

fn output(hasher: &Argon2<'_>, password: &[u8], salt: &Salt, length: usize, memory: &mut Memory) -> Option<Output> {
    let blocks = hasher.params().block_count();
    if memory.len() < blocks {
        memory.resize(blocks, Block::default());
    }
    let mut bytes = [0_u8; Output::MAX_LENGTH];
    let bytes = bytes.get_mut(..length)?;
    hasher
        .hash_password_into_with_memory(password, salt.as_ref(), bytes, memory.get_mut(..blocks)?)
        .ok()?;
    Output::new(bytes).ok()
}

#[cfg(test)]
mod tests {
    use std::{
        net::{IpAddr, Ipv4Addr},
        sync::mpsc,
    };

    use super::*;

    #[tokio::test]
    async fn a_password_matches_only_its_own_hash() {
        for cost in [PasswordCost::Standard, PasswordCost::Minimal] {
            let passwords = Passwords::new(cost);
            let hash = passwords.hash("correct horse", UNAUTHENTICATED).await.unwrap();
            assert!(hash.starts_with("$argon2id$v=19$"), "{hash}");
            let verify = async |password| {
                passwords
                    .verify(password, Some(hash.clone()), UNAUTHENTICATED)
                    .await
                    .unwrap()
            };
            assert!(verify("correct horse").await);
            assert!(!verify("correct horsf").await);
            assert_ne!(
                hash,
                passwords.hash("correct horse", UNAUTHENTICATED).await.unwrap(),
                "each hash has a new salt"
            );
        }
        let passwords = Passwords::new(PasswordCost::Minimal);
        assert!(!passwords.verify("x", None, UNAUTHENTICATED).await.unwrap());
        assert!(
            !passwords
                .verify("x", Some("no hash".to_owned()), UNAUTHENTICATED)
                .await
                .unwrap()
        );
    }

    const UNAUTHENTICATED: ClientClass = ClientClass::Stranger(None);

    fn network(n: u32) -> ClientClass {
        ClientClass::Stranger(Some(Network::of(IpAddr::from(Ipv4Addr::from_bits(n)))))
    }

    /// A request whose hash lasts until the returned sender is dropped.
    fn request(
        passwords: &Arc<Passwords>,
        class: ClientClass,
    ) -> (
        tokio::task::JoinHandle<Result<(), AccountsUnavailable>>,
        mpsc::Sender<()>,
    ) {
        let (end, ended) = mpsc::channel::<()>();
        let passwords = Arc::clone(passwords);
        let request = tokio::spawn(async move {
            passwords
                .work(class, move |_| {
                    let _ = ended.recv();
                })
                .await
        });
        (request, end)
    }

    #[tokio::test]
    async fn clients_that_disconnect_free_no_permit() {
        let passwords = Arc::new(Passwords::new(PasswordCost::Minimal));
        let mut ends = Vec::new();
        for n in 0..20 {
            let (request, end) = request(&passwords, network(n));
            // Waits until its work has begun, or until it is queued behind two others.
            while passwords.strangers.total().usage().used <= u64::from(n.min(2)) {
                tokio::task::yield_now().await;
            }
            request.abort();
            assert!(request.await.unwrap_err().is_cancelled());
            ends.push(end);
            if ends.len() >= AT_ONCE {
                assert_eq!(passwords.permits.available_permits(), 0);
            }
        }
        assert_eq!(
            passwords.strangers.total().usage().used,
            2,
            "a client that disconnects while waiting leaves the queue"
        );
        drop(ends);
        let (last, end) = request(&passwords, network(1));
        drop(end);
        last.await.unwrap().unwrap();
    }

    #[tokio::test]
    async fn the_queue_is_bounded_in_total_and_per_network() {
        let passwords = Arc::new(Passwords::new(PasswordCost::Minimal));
        let mut requests = Vec::new();
        for n in 0..MAX_PASSWORD_HASHES / MAX_PASSWORD_HASHES_PER_NETWORK {
            let from = network(u32::try_from(n).unwrap());
            for _ in 0..MAX_PASSWORD_HASHES_PER_NETWORK {
                requests.push(request(&passwords, from));
            }
            while passwords.strangers.total().usage().used < (n + 1) * MAX_PASSWORD_HASHES_PER_NETWORK {
                tokio::task::yield_now().await;
            }
            let refused = passwords.verify("x", None, from).await;
            assert!(matches!(refused, Err(AccountsUnavailable::Busy)));
        }
        let refused = passwords.verify("x", None, network(u32::MAX)).await;
        assert!(matches!(refused, Err(AccountsUnavailable::Busy)));
        let known = request(&passwords, ClientClass::Known(None));
        while passwords.known.total().usage().used == 0 {
            tokio::task::yield_now().await;
        }
        requests.push(known);
        for (request, end) in requests {
            drop(end);
            request.await.unwrap().unwrap();
        }
        assert!(!passwords.verify("x", None, network(1)).await.unwrap());
    }
}

//! This server's own signing keys: generated, stored in one file, rotated, published.
//!
//! The file has one key a line. The current key is in the form that Synapse writes, so that a key can be moved here:
//! `ed25519 <version> <seed>`. Expired keys have the form `old ed25519:<version> <public key> <expired_ts>`.
//! Must not return a seed or write one to a log or an error.

use std::{
    collections::BTreeMap,
    fs,
    io::Write,
    path::{Path, PathBuf},
    sync::Arc,
};

use parking_lot::RwLock;
use rand::{TryRng, rngs::SysRng};
use ruma::{
    CanonicalJsonObject, CanonicalJsonValue, MilliSecondsSinceUnixEpoch, OwnedServerName, ServerName,
    serde::{Base64, base64::Standard},
};
use weft_dag::{KeyValidity, Signer, SignerError, VerifyKey, VerifyKeys};

use crate::weak_keys::is_weak;
use weft_clock::{from_millis, millis};

/// How long other servers may use our published keys without fetching them again. One day limits how long a stolen
/// key is accepted after its rotation, and other servers fetch the keys once a day.
const PUBLISHED_FOR_MS: u64 = 24 * 60 * 60 * 1000;

/// The keys of this server.
#[derive(Debug)]
pub struct KeyRing {
    server_name: OwnedServerName,
    path: Option<PathBuf>,
    keys: RwLock<Keys>,
}

#[derive(Debug)]
struct Keys {
    current: Arc<Signer>,
    seed_line: String,
    old: BTreeMap<String, OldKey>,
}

#[derive(Debug, Clone)]
struct OldKey {
    public: [u8; 32],
    expired: MilliSecondsSinceUnixEpoch,
}

/// Why the keys can't be used.
#[derive(Debug, thiserror::Error)]
pub enum KeyRingError {
    /// The file can't be read or written.
    #[error("signing keys in {path}: {cause}")]
    File {
        /// The file.
        path: PathBuf,
        /// The error of the operating system.
        cause: std::io::Error,
    },
    /// A line has neither of the two forms.
    #[error("signing keys, line {line}: {problem}")]
    Line {
        /// The line number, counted from 1.
        line: usize,
        /// What is wrong; never the line itself.
        problem: &'static str,
    },
    /// There is no current key, or more than one.
    #[error("signing keys: there must be exactly one current key, there are {0}")]
    Current(usize),
    /// The private half of this key is public knowledge.
    #[error("signing key {0} is published in a specification or was made without randomness; generate a new one")]
    Weak(String),
    /// The operating system has no randomness.
    #[error("the operating system has no randomness: {0}")]
    Randomness(String),
    /// The key can't be used.
    #[error(transparent)]
    Signer(#[from] SignerError),
}

impl KeyRing {
    /// A key ring with one new key that is not stored: for tests and demonstrations.
    ///
    /// # Errors
    /// When the operating system has no randomness.
    pub fn generate(server_name: OwnedServerName) -> Result<Self, KeyRingError> {
        let (current, seed_line) = new_key(&server_name)?;
        let keys = Keys {
            current,
            seed_line,
            old: BTreeMap::new(),
        };
        Ok(Self {
            server_name,
            path: None,
            keys: RwLock::new(keys),
        })
    }

    /// Loads the key ring from a file; creates the file with a new key if there is none. Blocks: call it at startup.
    ///
    /// # Errors
    /// When the file can't be read, parsed or written.
    pub fn load_or_generate(server_name: OwnedServerName, path: &Path) -> Result<Self, KeyRingError> {
        match fs::read_to_string(path) {
            Ok(text) => {
                let keys = parse(&server_name, &text)?;
                Ok(Self {
                    server_name,
                    path: Some(path.to_owned()),
                    keys: RwLock::new(keys),
                })
            }
            Err(cause) if cause.kind() == std::io::ErrorKind::NotFound => {
                let mut ring = Self::generate(server_name)?;
                ring.path = Some(path.to_owned());
                ring.save()?;
                Ok(ring)
            }
            Err(cause) => Err(KeyRingError::File {
                path: path.to_owned(),
                cause,
            }),
        }
    }

    /// Parses a key ring from a text in the format of the file.
    ///
    /// # Errors
    /// When the text can't be parsed.
    pub fn from_text(server_name: OwnedServerName, text: &str) -> Result<Self, KeyRingError> {
        let keys = parse(&server_name, text)?;
        Ok(Self {
            server_name,
            path: None,
            keys: RwLock::new(keys),
        })
    }

    /// The server that these keys belong to.
    #[must_use]
    pub fn server_name(&self) -> &ServerName {
        &self.server_name
    }

    /// The current key. Get it for each signature: keys rotate.
    #[must_use]
    pub fn signer(&self) -> Arc<Signer> {
        Arc::clone(&self.keys.read().current)
    }

    /// Generates a new current key and marks the previous one as expired at `now`. The file is written before the new
    /// key signs anything. Blocks.
    ///
    /// # Errors
    /// When the file can't be written: the old key then stays current.
    pub fn rotate(&self, now: MilliSecondsSinceUnixEpoch) -> Result<(), KeyRingError> {
        let (current, seed_line) = new_key(&self.server_name)?;
        let mut keys = self.keys.write();
        let mut old = keys.old.clone();
        old.insert(
            keys.current.key_id(),
            OldKey {
                public: keys.current.public_key(),
                expired: now,
            },
        );
        let next = Keys {
            current,
            seed_line,
            old,
        };
        if let Some(path) = &self.path {
            write_private(path, &to_text(&next))?;
        }
        *keys = next;
        Ok(())
    }

    /// All our keys in the form that other servers use: to check our own events when other servers return them.
    #[must_use]
    pub fn verify_keys(&self) -> VerifyKeys {
        let keys = self.keys.read();
        let mut all = VerifyKeys::new();
        let for_ever = KeyValidity::ValidUntil(MilliSecondsSinceUnixEpoch(ruma::UInt::MAX));
        if let Ok(key) = VerifyKey::new(&keys.current.public_key(), for_ever) {
            all.insert(self.server_name.clone(), keys.current.key_id(), key);
        }
        for (id, old) in &keys.old {
            if let Ok(key) = VerifyKey::new(&old.public, KeyValidity::ExpiredAt(old.expired)) {
                all.insert(self.server_name.clone(), id.clone(), key);
            }
        }
        all
    }

    /// The response of `GET /_matrix/key/v2/server`: current and old keys, signed with the current one.
    ///
    /// # Errors
    /// Never for a valid key ring; signing is fallible by its type.
    pub fn published(&self, now: MilliSecondsSinceUnixEpoch) -> Result<CanonicalJsonObject, SignerError> {
        let keys = self.keys.read();
        let current = [(
            keys.current.key_id(),
            object([("key", base64(&keys.current.public_key()).into())]).into(),
        )];
        let old = keys.old.iter().map(|(id, key)| {
            let fields = [
                ("key", base64(&key.public).into()),
                ("expired_ts", integer(key.expired)),
            ];
            (id.clone(), object(fields).into())
        });
        let valid_until = from_millis(millis(now).saturating_add(PUBLISHED_FOR_MS));
        let mut answer = object([
            ("server_name", self.server_name.as_str().into()),
            ("valid_until_ts", integer(valid_until)),
            ("verify_keys", CanonicalJsonValue::Object(current.into_iter().collect())),
            ("old_verify_keys", CanonicalJsonValue::Object(old.collect())),
        ]);
        keys.current.sign_json(&mut answer)?;
        Ok(answer)
    }

    fn save(&self) -> Result<(), KeyRingError> {
        let keys = self.keys.read();
        self.path
            .as_deref()
            .map_or(Ok(()), |path| write_private(path, &to_text(&keys)))
    }
}

fn object<const N: usize>(fields: [(&str, CanonicalJsonValue); N]) -> CanonicalJsonObject {
    fields
        .into_iter()
        .map(|(name, value)| (name.to_owned(), value))
        .collect()
}

fn integer(time: MilliSecondsSinceUnixEpoch) -> CanonicalJsonValue {
    CanonicalJsonValue::Integer(time.get().into())
}

fn base64(bytes: &[u8]) -> String {
    Base64::<Standard, _>::new(bytes).encode()
}

/// Generates a key from the operating system's randomness only, with a version that no earlier key of this server
/// had.
fn new_key(server_name: &ServerName) -> Result<(Arc<Signer>, String), KeyRingError> {
    let seed: [u8; 32] = random()?;
    let version = format!("a_{:08x}", u32::from_be_bytes(random()?));
    let signer = Signer::from_seed(server_name.to_owned(), &seed, &version)?;
    if is_weak(&signer.public_key()) {
        return Err(KeyRingError::Weak(signer.key_id()));
    }
    Ok((Arc::new(signer), format!("ed25519 {version} {}", base64(&seed))))
}

/// Random bytes from the operating system, requested each time: there is no generator state here that could leak or
/// repeat.
fn random<const N: usize>() -> Result<[u8; N], KeyRingError> {
    let mut bytes = [0_u8; N];
    SysRng
        .try_fill_bytes(&mut bytes)
        .map_err(|error| KeyRingError::Randomness(error.to_string()))?;
    Ok(bytes)
}

fn parse(server_name: &ServerName, text: &str) -> Result<Keys, KeyRingError> {
    let mut current = Vec::new();
    let mut old = BTreeMap::new();
    for (at, line) in text.lines().enumerate() {
        let wrong = |problem| KeyRingError::Line { line: at + 1, problem };
        let words: Vec<&str> = line.split_whitespace().collect();
        match words.as_slice() {
            [] => {}
            [first, ..] if first.starts_with('#') => {}
            ["ed25519", version, seed] => {
                let seed = key_bytes(seed).ok_or_else(|| wrong("the seed is not 32 bytes in base64"))?;
                if !is_version(version) {
                    return Err(wrong("the version may have only letters, digits and _"));
                }
                let signer = Signer::from_seed(server_name.to_owned(), &seed, version)?;
                if is_weak(&signer.public_key()) {
                    return Err(KeyRingError::Weak(signer.key_id()));
                }
                current.push((Arc::new(signer), words.join(" ")));
            }
            ["old", id, public, expired] => {
                let public = key_bytes(public).ok_or_else(|| wrong("the public key is not 32 bytes in base64"))?;
                let expired = expired
                    .parse()
                    .map_err(|_| wrong("the time is not a number of milliseconds"))?;
                old.insert(
                    (*id).to_owned(),
                    OldKey {
                        public,
                        expired: from_millis(expired),
                    },
                );
            }
            _ => return Err(wrong("neither `ed25519 VERSION SEED` nor `old ID PUBLIC EXPIRED`")),
        }
    }
    let count = current.len();
    match (current.pop(), count) {
        (Some((current, seed_line)), 1) => Ok(Keys {
            current,
            seed_line,
            old,
        }),
        _ => Err(KeyRingError::Current(count)),
    }
}

fn is_version(text: &str) -> bool {
    !text.is_empty() && text.len() <= 64 && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

fn key_bytes(text: &str) -> Option<[u8; 32]> {
    Base64::<Standard>::parse(text).ok()?.as_bytes().try_into().ok()
}

fn to_text(keys: &Keys) -> String {
    let old = keys
        .old
        .iter()
        .map(|(id, key)| format!("old {id} {} {}\n", base64(&key.public), millis(key.expired)));
    std::iter::once(format!("{}\n", keys.seed_line)).chain(old).collect()
}

/// Writes a temporary file, syncs it and renames it: after a power failure either the old or the new file is there.
/// Only the owner can read it.
fn write_private(path: &Path, text: &str) -> Result<(), KeyRingError> {
    let failed = |cause| KeyRingError::File {
        path: path.to_owned(),
        cause,
    };
    let temporary = path.with_extension("new");
    let mut options = fs::OpenOptions::new();
    options.write(true).create(true).truncate(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut file = options.open(&temporary).map_err(failed)?;
    file.write_all(text.as_bytes())
        .and_then(|()| file.sync_all())
        .map_err(failed)?;
    fs::rename(&temporary, path).map_err(failed)?;
    let folder = path
        .parent()
        .filter(|folder| !folder.as_os_str().is_empty())
        .unwrap_or_else(|| Path::new("."));
    fs::File::open(folder)
        .and_then(|folder| folder.sync_all())
        .map_err(failed)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn name() -> OwnedServerName {
        OwnedServerName::try_from("alpha.test").unwrap()
    }

    #[test]
    fn a_key_survives_its_file_and_is_readable_by_its_owner_only() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("signing.key");
        let made = KeyRing::load_or_generate(name(), &path).unwrap();
        let read = KeyRing::load_or_generate(name(), &path).unwrap();
        assert_eq!(made.signer().key_id(), read.signer().key_id());
        assert_eq!(made.signer().public_key(), read.signer().public_key());
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        }
    }

    #[test]
    fn rotation_publishes_the_old_key_as_expired_and_is_on_disk() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("signing.key");
        let ring = KeyRing::load_or_generate(name(), &path).unwrap();
        let before = ring.signer();
        ring.rotate(from_millis(1_000)).unwrap();
        let after = ring.signer();
        assert_ne!(before.public_key(), after.public_key());
        for ring in [ring, KeyRing::load_or_generate(name(), &path).unwrap()] {
            let answer = serde_json::to_value(ring.published(from_millis(2_000)).unwrap()).unwrap();
            assert_eq!(answer["old_verify_keys"][before.key_id()]["expired_ts"], 1_000);
            assert_eq!(
                answer["old_verify_keys"][before.key_id()]["key"],
                base64(&before.public_key())
            );
            assert_eq!(
                answer["verify_keys"][after.key_id()]["key"],
                base64(&after.public_key())
            );
            assert_eq!(answer["verify_keys"].as_object().unwrap().len(), 1);
            assert_eq!(answer["valid_until_ts"], 2_000 + PUBLISHED_FOR_MS);
            assert!(answer["signatures"]["alpha.test"][after.key_id()].is_string());
        }
    }

    #[test]
    fn a_damaged_or_weak_file_is_refused_without_quoting_it() {
        let weak = "ed25519 a_1 YJDBA9Xnr2sVqXD9Vj7XVUnmFZcZrlw8Md7kMW+3XA1";
        let zero = format!("ed25519 a_1 {}", base64(&[0; 32]));
        for text in [
            "",
            "ed25519 a_1 SECRET",
            "ed25519 SECRET",
            "rsa a SECRET x",
            weak,
            &zero,
            "old ed25519:a SECRET 1",
        ] {
            let error = KeyRing::from_text(name(), text).unwrap_err().to_string();
            assert!(!error.contains("SECRET") && !error.contains("YJDBA"), "{error}");
        }
        let two = "ed25519 a_1 AQIDBAUGBwgJCgsMDQ4PEBESExQVFhcYGRobHB0eHyA\n".repeat(2);
        assert!(matches!(
            KeyRing::from_text(name(), &two),
            Err(KeyRingError::Current(2))
        ));
    }

    /// T46. A million seeds are compared: a key follows from its seed, and a million keys would take minutes to
    /// compute.
    #[test]
    fn t46_a_million_seeds_are_all_different() {
        let mut seeds: Vec<[u8; 32]> = (0..1_000_000).map(|_| super::random().unwrap()).collect();
        seeds.sort_unstable();
        seeds.dedup();
        assert_eq!(seeds.len(), 1_000_000);
    }

    #[test]
    fn a_thousand_keys_are_all_different() {
        let keys: BTreeSet<_> = (0..1_000)
            .map(|_| KeyRing::generate(name()).unwrap().signer().public_key())
            .collect();
        assert_eq!(keys.len(), 1_000);
    }
}

//! This server's own signing keys: made, kept in one file, rotated, published.
//!
//! The file has one key a line, the current one in the form that Synapse writes, so that a key can be moved here:
//! `ed25519 <version> <seed>` and, for those of the past, `old ed25519:<version> <public key> <expired_ts>`.
//! Must not hand out a seed, nor put one into a log or an error.

use std::{
    collections::BTreeMap,
    fs,
    io::Write,
    path::{Path, PathBuf},
    sync::{Arc, PoisonError, RwLock},
};

use rand::{TryRng, rngs::SysRng};
use ruma::{
    CanonicalJsonObject, CanonicalJsonValue, MilliSecondsSinceUnixEpoch, OwnedServerName, ServerName,
    serde::{Base64, base64::Standard},
};
use weft_dag::{KeyValidity, Signer, SignerError, VerifyKey, VerifyKeys};

use crate::{
    clock::{from_millis, millis},
    weak_keys::is_weak,
};

/// For how long others may go on using our published keys without asking again. A day bounds how long a stolen key
/// is believed after it was rotated out, and makes a partner ask once a day.
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

/// Why the keys can't be had.
#[derive(Debug, thiserror::Error)]
pub enum KeyRingError {
    /// The file can't be read or written.
    #[error("signing keys in {path}: {cause}")]
    File {
        /// The file.
        path: PathBuf,
        /// What the system said.
        cause: std::io::Error,
    },
    /// A line isn't one of the two forms.
    #[error("signing keys, line {line}: {problem}")]
    Line {
        /// Counted from 1.
        line: usize,
        /// What is wrong; never the line itself.
        problem: &'static str,
    },
    /// There is no current key, or more than one.
    #[error("signing keys: there must be exactly one current key, there are {0}")]
    Current(usize),
    /// Everybody knows this key.
    #[error("signing key {0} is published in a specification or made without randomness: make a new one")]
    Weak(String),
    /// The system has no randomness to give.
    #[error("no randomness from the system: {0}")]
    Randomness(String),
    /// The key can't be used.
    #[error(transparent)]
    Signer(#[from] SignerError),
}

impl KeyRing {
    /// A ring with one new key that is kept nowhere: for tests and demonstrations.
    ///
    /// # Errors
    /// When the system has no randomness.
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

    /// The ring of a file; makes file and key where there is none. Blocks: call it at start.
    ///
    /// # Errors
    /// When the file can't be read, understood or written.
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

    /// The ring of a text in the file's form.
    ///
    /// # Errors
    /// When the text can't be understood.
    pub fn from_text(server_name: OwnedServerName, text: &str) -> Result<Self, KeyRingError> {
        let keys = parse(&server_name, text)?;
        Ok(Self {
            server_name,
            path: None,
            keys: RwLock::new(keys),
        })
    }

    /// Whose keys these are.
    #[must_use]
    pub fn server_name(&self) -> &ServerName {
        &self.server_name
    }

    /// The current key. Ask for it at each signature: keys rotate.
    #[must_use]
    pub fn signer(&self) -> Arc<Signer> {
        Arc::clone(&self.keys.read().unwrap_or_else(PoisonError::into_inner).current)
    }

    /// Makes a new current key; the one until now is published as expired at `now`. Writes the file before the new
    /// key signs anything. Blocks.
    ///
    /// # Errors
    /// When the file can't be written: the old key then stays current.
    pub fn rotate(&self, now: MilliSecondsSinceUnixEpoch) -> Result<(), KeyRingError> {
        let (current, seed_line) = new_key(&self.server_name)?;
        let mut keys = self.keys.write().unwrap_or_else(PoisonError::into_inner);
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

    /// All our keys as others see them: for checking our own events when they come back.
    #[must_use]
    pub fn verify_keys(&self) -> VerifyKeys {
        let keys = self.keys.read().unwrap_or_else(PoisonError::into_inner);
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

    /// The answer of `GET /_matrix/key/v2/server`: current and old keys, signed with the current one.
    ///
    /// # Errors
    /// Never for a ring that could be made; signing is fallible by its type.
    pub fn published(&self, now: MilliSecondsSinceUnixEpoch) -> Result<CanonicalJsonObject, SignerError> {
        let keys = self.keys.read().unwrap_or_else(PoisonError::into_inner);
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
        let keys = self.keys.read().unwrap_or_else(PoisonError::into_inner);
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

/// A key from the system's randomness and nothing else, with a name that no earlier key of this server had.
fn new_key(server_name: &ServerName) -> Result<(Arc<Signer>, String), KeyRingError> {
    let seed: [u8; 32] = random()?;
    let version = format!("a_{:08x}", u32::from_be_bytes(random()?));
    let signer = Signer::from_seed(server_name.to_owned(), &seed, &version)?;
    if is_weak(&signer.public_key()) {
        return Err(KeyRingError::Weak(signer.key_id()));
    }
    Ok((Arc::new(signer), format!("ed25519 {version} {}", base64(&seed))))
}

/// Bytes of the operating system's generator, asked each time: nothing here has a state that could be known or repeat.
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
                let seed = key_bytes(seed).ok_or_else(|| wrong("the seed isn't 32 bytes in base64"))?;
                if !is_version(version) {
                    return Err(wrong("the version has other characters than letters, digits and _"));
                }
                let signer = Signer::from_seed(server_name.to_owned(), &seed, version)?;
                if is_weak(&signer.public_key()) {
                    return Err(KeyRingError::Weak(signer.key_id()));
                }
                current.push((Arc::new(signer), words.join(" ")));
            }
            ["old", id, public, expired] => {
                let public = key_bytes(public).ok_or_else(|| wrong("the public key isn't 32 bytes in base64"))?;
                let expired = expired
                    .parse()
                    .map_err(|_| wrong("the time isn't a number of milliseconds"))?;
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

/// Writes beside, syncs, renames: after a power cut there is the old file or the new one. Nobody else may read it.
fn write_private(path: &Path, text: &str) -> Result<(), KeyRingError> {
    let failed = |cause| KeyRingError::File {
        path: path.to_owned(),
        cause,
    };
    let beside = path.with_extension("new");
    let mut options = fs::OpenOptions::new();
    options.write(true).create(true).truncate(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut file = options.open(&beside).map_err(failed)?;
    file.write_all(text.as_bytes())
        .and_then(|()| file.sync_all())
        .map_err(failed)?;
    fs::rename(&beside, path).map_err(failed)?;
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

    /// T46. The seeds of a million keys: a key follows from its seed, and computing so many would take minutes.
    #[test]
    fn t46_a_million_seeds_are_a_million_different_ones() {
        let mut seeds: Vec<[u8; 32]> = (0..1_000_000).map(|_| super::random().unwrap()).collect();
        seeds.sort_unstable();
        seeds.dedup();
        assert_eq!(seeds.len(), 1_000_000);
    }

    #[test]
    fn a_thousand_keys_are_a_thousand_different_ones() {
        let keys: BTreeSet<_> = (0..1_000)
            .map(|_| KeyRing::generate(name()).unwrap().signer().public_key())
            .collect();
        assert_eq!(keys.len(), 1_000);
    }
}

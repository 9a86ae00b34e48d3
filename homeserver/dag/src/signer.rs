//! The signing key of this server, together with the name it signs for.
//!
//! Must not load, store or rotate keys: that is the task of the federation crate.

use ruma::{
    CanonicalJsonObject, OwnedServerName, ServerName,
    signatures::{Ed25519KeyPair, sign_event, sign_json},
};

use crate::{BuildError, RoomVersion, Unchecked, Verified};

/// A server's name and its current signing key.
#[derive(Debug)]
pub struct Signer {
    server_name: OwnedServerName,
    key_pair: Ed25519KeyPair,
}

/// A signing key could not be made or used.
#[derive(Debug, thiserror::Error)]
pub enum SignerError {
    /// The bytes are not an ed25519 key.
    #[error("not an ed25519 key: {0}")]
    Key(String),
    /// The object can't be signed: its `signatures` field has the wrong form.
    #[error("can't sign: {0}")]
    Object(String),
}

impl Signer {
    /// A signer of `server_name` with `key_pair`, whose version is the part of the key id after `ed25519:`.
    #[must_use]
    pub fn new(server_name: OwnedServerName, key_pair: Ed25519KeyPair) -> Self {
        Self { server_name, key_pair }
    }

    /// A signer from the 32 bytes of an ed25519 seed.
    ///
    /// # Errors
    /// No key pair can be made from it.
    pub fn from_seed(server_name: OwnedServerName, seed: &[u8; 32], version: &str) -> Result<Self, SignerError> {
        // RFC 8410: the fixed prefix of a PKCS#8 document that holds only an ed25519 seed.
        const PKCS8_START: [u8; 16] = [
            0x30, 0x2e, 0x02, 0x01, 0x00, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x04, 0x22, 0x04, 0x20,
        ];
        let document = [PKCS8_START.as_slice(), seed.as_slice()].concat();
        let key_pair = Ed25519KeyPair::from_der(&document, version.to_owned())
            .map_err(|error| SignerError::Key(error.to_string()))?;
        Ok(Self::new(server_name, key_pair))
    }

    /// The server that this key signs for.
    #[must_use]
    pub fn server_name(&self) -> &ServerName {
        &self.server_name
    }

    /// The id of the key: `ed25519:` and its version.
    #[must_use]
    pub fn key_id(&self) -> String {
        format!("ed25519:{}", self.key_pair.version())
    }

    /// The public key, 32 bytes.
    #[must_use]
    pub fn public_key(&self) -> [u8; 32] {
        self.key_pair.public_key()
    }

    /// The key pair, for requests, which ruma signs itself.
    #[must_use]
    pub fn key_pair(&self) -> &Ed25519KeyPair {
        &self.key_pair
    }

    /// Signs an object that is not an event.
    ///
    /// # Errors
    /// `signatures` is present and not an object.
    pub fn sign_json(&self, object: &mut CanonicalJsonObject) -> Result<(), SignerError> {
        sign_json(self.server_name.as_str(), &self.key_pair, object)
            .map_err(|error| SignerError::Object(error.to_string()))
    }

    /// Adds our signature to a verified event of another server: an invite to one of our users, or a restricted join
    /// that one of our users authorises. The caller decides whether to sign.
    ///
    /// # Errors
    /// The event would exceed the size limit with one more signature.
    pub fn cosign(&self, event: &Verified, version: &RoomVersion) -> Result<Verified, BuildError> {
        let mut object =
            crate::parse_canonical(event.pdu().json()).map_err(|error| BuildError::Json(error.to_string()))?;
        self.sign_event(&mut object, version)?;
        Unchecked::from_object(object, version)
            .map(Unchecked::into_verified)
            .map_err(BuildError::Refused)
    }

    pub(crate) fn sign_event(&self, object: &mut CanonicalJsonObject, version: &RoomVersion) -> Result<(), BuildError> {
        sign_event(
            self.server_name.as_str(),
            &self.key_pair,
            object,
            &version.rules().redaction,
        )
        .map_err(|error| BuildError::Json(error.to_string()))
    }
}

//! Reads certificates and keys from PEM files. Error messages name the file. Must not log keys.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::ServerConfig;
use rustls_pki_types::pem::{self, PemObject as _};
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

use crate::config::{Invalid, Problem, Tls};

/// The reason why TLS can't be set up.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TlsError {
    /// The file does not exist or can't be read.
    #[error("cannot read the certificate {path}: {source}", path = path.display())]
    NoCertificateFile { path: PathBuf, source: std::io::Error },
    /// As above.
    #[error("cannot read the private key {path}: {source}", path = path.display())]
    NoKeyFile { path: PathBuf, source: std::io::Error },
    /// The file contains no certificate.
    #[error("{path} contains no certificate in PEM format (-----BEGIN CERTIFICATE-----)", path = path.display())]
    NoCertificate { path: PathBuf },
    /// As above.
    #[error("{path} contains no private key in PEM format (-----BEGIN PRIVATE KEY-----)", path = path.display())]
    NoKey { path: PathBuf },
    /// The key does not belong to the certificate.
    #[error("the certificate {certificate} and the private key {key} cannot be used together: {source}",
        certificate = certificate.display(), key = key.display())]
    Mismatch {
        certificate: PathBuf,
        key: PathBuf,
        source: rustls::Error,
    },
}

impl TlsError {
    /// The error as a problem of the configuration, with the origin of the file's name.
    fn into_problem(self, files: &Tls) -> Invalid {
        let (origin, setting) = match &self {
            Self::NoKeyFile { .. } | Self::NoKey { .. } => (&files.private_key_origin, "private_key"),
            _ => (&files.certificate_origin, "certificate"),
        };
        Invalid {
            problems: vec![Problem {
                origin: origin.clone(),
                setting: format!("{}.{setting}", files.setting),
                message: self.to_string(),
            }],
        }
    }
}

/// The TLS configuration of a listener, for HTTP/2 and HTTP/1.1.
pub(crate) fn load(files: &Tls) -> Result<Arc<ServerConfig>, Invalid> {
    read(files).map_err(|error| error.into_problem(files))
}

fn read(files: &Tls) -> Result<Arc<ServerConfig>, TlsError> {
    let chain = certificates(&files.certificate)?;
    let key = private_key(&files.private_key)?;
    let mismatch = |source| TlsError::Mismatch {
        certificate: files.certificate.clone(),
        key: files.private_key.clone(),
        source,
    };
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(mismatch)?
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .map_err(mismatch)?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

/// Reads all certificates of a file, at least one.
pub(crate) fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let bytes = std::fs::read(path).map_err(|source| TlsError::NoCertificateFile {
        path: path.to_owned(),
        source,
    })?;
    let found: Result<Vec<_>, pem::Error> = CertificateDer::pem_slice_iter(&bytes).collect();
    match found {
        Ok(chain) if !chain.is_empty() => Ok(chain),
        _ => Err(TlsError::NoCertificate { path: path.to_owned() }),
    }
}

fn private_key(path: &Path) -> Result<PrivateKeyDer<'static>, TlsError> {
    let bytes = std::fs::read(path).map_err(|source| TlsError::NoKeyFile {
        path: path.to_owned(),
        source,
    })?;
    PrivateKeyDer::from_pem_slice(&bytes).map_err(|_| TlsError::NoKey { path: path.to_owned() })
}

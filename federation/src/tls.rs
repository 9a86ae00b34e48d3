//! TLS of outgoing connections: version 1.2 or later, the system's root certificates and those of the configuration.
//!
//! Must not offer a way to disable certificate verification.

use std::sync::Arc;

use rustls::{
    ClientConfig,
    pki_types::{CertificateDer, pem::PemObject},
};
use rustls_platform_verifier::Verifier;

use crate::ClientError;

/// The certificates of a PEM text.
fn certificates(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, ClientError> {
    let read: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    match read {
        Ok(certificates) if !certificates.is_empty() => Ok(certificates),
        Ok(_) => Err(ClientError::Certificates("it contains no certificate".to_owned())),
        Err(error) => Err(ClientError::Certificates(error.to_string())),
    }
}

/// The configuration of outgoing connections that trust these PEM texts of certificates as well.
///
/// # Errors
/// When a certificate can't be read.
pub fn config_with_roots(pems: &[Vec<u8>]) -> Result<ClientConfig, ClientError> {
    let mut roots = Vec::new();
    for pem in pems {
        roots.extend(certificates(pem)?);
    }
    config(roots)
}

/// The configuration that all connections share. Made once: it reads the system's root certificates from disk.
fn config(extra_roots: Vec<CertificateDer<'static>>) -> Result<ClientConfig, ClientError> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    // A machine without root certificates can still connect to servers with certificates of the configuration.
    let verifier = Verifier::new_with_extra_roots(extra_roots, Arc::clone(&provider))
        .map_err(|error| ClientError::Certificates(error.to_string()))?;
    let config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])
        .map_err(|error| ClientError::Certificates(error.to_string()))?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier))
        .with_no_client_auth();
    Ok(config)
}

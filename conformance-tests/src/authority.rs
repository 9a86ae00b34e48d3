//! A certificate authority for one test: certificates for 127.0.0.1, and clients that trust them. Must not be used
//! outside of tests.

use std::{fs, path::Path, path::PathBuf};

use anyhow::{Context as _, Result};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, KeyUsagePurpose};

use crate::external;

/// See the module.
pub struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    folder: PathBuf,
}

impl Authority {
    /// Creates an authority and writes its certificate into `folder`.
    ///
    /// # Errors
    /// When the folder can't be written.
    pub fn new(folder: &Path) -> Result<Self> {
        let mut params = CertificateParams::new(Vec::new())?;
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params
            .distinguished_name
            .push(DnType::CommonName, "Weft conformance tests");
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate()?)?;
        let authority = Self {
            issuer,
            folder: folder.to_owned(),
        };
        let mut trusted = authority.issuer.pem();
        if let Some(path) = external::authority() {
            trusted.push_str(&fs::read_to_string(&path).with_context(|| format!("WEFT_CA: {}", path.display()))?);
        }
        fs::write(authority.certificate(), trusted)?;
        Ok(authority)
    }

    /// The file with the authority's certificate.
    #[must_use]
    pub fn certificate(&self) -> PathBuf {
        self.folder.join("authority.pem")
    }

    /// Writes a certificate for 127.0.0.1 and its key; returns both paths.
    ///
    /// # Errors
    /// When the folder can't be written.
    pub fn issue(&self, name: &str) -> Result<(PathBuf, PathBuf)> {
        self.issue_also_for(name, None)
    }

    /// Like [`Authority::issue`], with one more address.
    ///
    /// # Errors
    /// When the folder can't be written.
    pub fn issue_also_for(&self, name: &str, address: Option<&str>) -> Result<(PathBuf, PathBuf)> {
        let key = KeyPair::generate()?;
        let addresses = ["127.0.0.1", "localhost"].into_iter().chain(address);
        let params = CertificateParams::new(addresses.map(str::to_owned).collect::<Vec<_>>())?;
        let certificate = params.signed_by(&key, &self.issuer)?;
        let paths = (
            self.folder.join(format!("{name}.pem")),
            self.folder.join(format!("{name}.key")),
        );
        fs::write(&paths.0, certificate.pem())?;
        fs::write(&paths.1, key.serialize_pem())?;
        Ok(paths)
    }

    /// An HTTP client that trusts only this authority; with external servers it also trusts the system's certificates.
    ///
    /// # Errors
    /// When the TLS library rejects the certificate.
    pub fn http(&self) -> Result<reqwest::Client> {
        // An error means that a provider is already installed.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let certificates = reqwest::Certificate::from_pem_bundle(&fs::read(self.certificate())?)?;
        let builder = reqwest::Client::builder();
        let builder = if external::urls().is_some() {
            builder.tls_certs_merge(certificates)
        } else {
            builder.tls_certs_only(certificates)
        };
        builder
            .timeout(std::time::Duration::from_secs(60))
            .build()
            .context("HTTP client")
    }
}

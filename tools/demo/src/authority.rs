//! A certificate authority for one demo. Only the configurations of the two servers name its certificate. It must not be
//! installed in a browser: the links are plain HTTP on loopback, so no browser has to trust it.

use std::path::{Path, PathBuf};

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    KeyPair, KeyUsagePurpose,
};

use crate::DemoError;

/// See the module.
pub(crate) struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    /// Path of its certificate.
    pub(crate) certificate: PathBuf,
}

impl Authority {
    /// Generates an authority and writes its certificate into the directory. The key stays in memory.
    pub(crate) fn new(folder: &Path) -> Result<Self, DemoError> {
        let mut params = CertificateParams::new(Vec::<String>::new())?;
        params.distinguished_name = named("Weft demo authority");
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate()?)?;
        let certificate = folder.join("authority.pem");
        write(&certificate, &issuer.pem())?;
        Ok(Self { issuer, certificate })
    }

    /// Issues a certificate for the loopback addresses; returns the files of certificate and key.
    pub(crate) fn issue(&self, folder: &Path) -> Result<(PathBuf, PathBuf), DemoError> {
        let names = ["127.0.0.1", "::1", "localhost"].map(str::to_owned);
        let mut params = CertificateParams::new(names.to_vec())?;
        params.distinguished_name = named("Weft demo homeserver");
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.use_authority_key_identifier_extension = true;
        let key = KeyPair::generate()?;
        let certificate = params.signed_by(&key, &self.issuer)?;
        let (certificate_file, key_file) = (folder.join("certificate.pem"), folder.join("key.pem"));
        write(&certificate_file, &certificate.pem())?;
        write(&key_file, &key.serialize_pem())?;
        Ok((certificate_file, key_file))
    }
}

fn named(name: &str) -> DistinguishedName {
    let mut distinguished = DistinguishedName::new();
    distinguished.push(DnType::CommonName, name);
    distinguished
}

fn write(path: &Path, text: &str) -> Result<(), DemoError> {
    std::fs::write(path, text).map_err(|source| DemoError::File {
        path: path.to_owned(),
        source,
    })
}

//! `[federation]`: how other servers are reached, and which of them are notaries. Must not send requests.

use std::path::PathBuf;

use ipnet::IpNet;
use ruma::OwnedServerName;

use super::source::{Fields, Found};

/// See the module.
#[derive(Clone, Debug, Default)]
pub(crate) struct Federation {
    /// PEM files of certificate authorities that are trusted in addition to the system's.
    pub(crate) extra_ca_certificates: Vec<PathBuf>,
    /// Private networks to which requests are allowed as an exception.
    pub(crate) allow_addresses: Vec<IpNet>,
    /// Notary servers: they provide the keys of servers that can't be reached.
    pub(crate) notaries: Vec<OwnedServerName>,
}

/// See the module.
pub(super) fn read(mut fields: Fields<'_>) -> Federation {
    let extra_ca_certificates = fields.paths("extra_ca_certificates");
    for path in &extra_ca_certificates {
        if let Err(error) = std::fs::metadata(path) {
            let origin = fields.origin_of("extra_ca_certificates");
            fields.wrong("extra_ca_certificates", &origin, format!("{}: {error}", path.display()));
        }
    }
    let allow_addresses = networks(&mut fields, "allow_addresses");
    let notaries = parsed(&mut fields, "notaries", |text| {
        OwnedServerName::try_from(text).map_err(|_| "is not a server name")
    });
    fields.finish();
    Federation {
        extra_ca_certificates,
        allow_addresses,
        notaries,
    }
}

/// Reads a list of networks or single addresses.
pub(super) fn networks(fields: &mut Fields<'_>, name: &str) -> Vec<IpNet> {
    parsed(fields, name, |text| {
        text.parse()
            .or_else(|_| text.parse::<std::net::IpAddr>().map(IpNet::from))
            .map_err(|_| "is not a network like \"10.0.0.0/8\"")
    })
}

fn parsed<T>(fields: &mut Fields<'_>, name: &str, parse: impl Fn(&str) -> Result<T, &'static str>) -> Vec<T> {
    let Some(Found { value, origin }) = fields.texts(name) else {
        return Vec::new();
    };
    let one = |text: String| match parse(&text) {
        Ok(value) => Some(value),
        Err(message) => {
            fields.wrong(name, &origin, format!("{text:?} {message}"));
            None
        }
    };
    value.into_iter().filter_map(one).collect()
}

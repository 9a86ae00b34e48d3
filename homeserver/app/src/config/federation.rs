//! `[federation]`: how other servers are reached, and which are trusted to speak for others.

use std::path::PathBuf;

use ipnet::IpNet;
use ruma::OwnedServerName;

use super::source::{Fields, Found};

/// See the module.
#[derive(Clone, Debug, Default)]
pub(crate) struct Federation {
    /// PEM files of authorities that are trusted beside the system's.
    pub(crate) extra_ca_certificates: Vec<PathBuf>,
    /// Private networks to which requests may go nevertheless.
    pub(crate) allow_addresses: Vec<IpNet>,
    /// Servers that are asked for the keys of servers which don't answer.
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
        OwnedServerName::try_from(text).map_err(|_| "is no server name")
    });
    fields.finish();
    Federation {
        extra_ca_certificates,
        allow_addresses,
        notaries,
    }
}

/// Networks, or single addresses.
pub(super) fn networks(fields: &mut Fields<'_>, name: &str) -> Vec<IpNet> {
    parsed(fields, name, |text| {
        text.parse()
            .or_else(|_| text.parse::<std::net::IpAddr>().map(IpNet::from))
            .map_err(|_| "is no network like \"10.0.0.0/8\"")
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

//! `[[listen]]`: the addresses on which the server listens, and the APIs that each serves. Must not open a port.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::PathBuf;

use super::problem::Origin;
use super::source::{Fields, Found, suggestion};

/// A set of endpoints. Each listener serves some of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Area {
    /// The Matrix client-server API.
    Client,
    /// Documents: REST and live editing.
    Documents,
    /// The Matrix server-server API, and documents between servers.
    Federation,
    /// The web page.
    Web,
}

impl Area {
    const ALL: [(&'static str, Self); 4] = [
        ("client", Self::Client),
        ("documents", Self::Documents),
        ("federation", Self::Federation),
        ("web", Self::Web),
    ];

    /// The name in the configuration.
    pub(crate) fn name(self) -> &'static str {
        Self::ALL
            .iter()
            .find(|(_, area)| *area == self)
            .map_or("", |(name, _)| name)
    }
}

/// One address to listen on.
#[derive(Clone, Debug)]
pub(crate) struct Listener {
    pub(crate) address: SocketAddr,
    pub(crate) serve: BTreeSet<Area>,
    pub(crate) tls: Option<Tls>,
}

/// Files in PEM format.
#[derive(Clone, Debug)]
pub(crate) struct Tls {
    pub(crate) certificate: PathBuf,
    pub(crate) private_key: PathBuf,
    /// Where the configuration names the certificate.
    pub(crate) certificate_origin: Origin,
    /// Where the configuration names the key.
    pub(crate) private_key_origin: Origin,
    /// Full name of the setting: `listen[0].tls`.
    pub(crate) setting: String,
}

/// See the module.
pub(super) fn read(root: &mut Fields<'_>) -> Vec<Listener> {
    let tables = root.tables("listen");
    if tables.is_empty() {
        root.missing("listen", "at least one [[listen]] with an address is needed");
    }
    let mut listeners: Vec<Listener> = Vec::new();
    for (mut fields, origin) in tables {
        let listener = read_one(&mut fields, &origin);
        if let Some(listener) = listener {
            let taken = listeners
                .iter()
                .any(|other| other.address == listener.address && other.address.port() != 0);
            if taken {
                fields.wrong(
                    "address",
                    &origin,
                    format!("{} is already in another [[listen]]", listener.address),
                );
            }
            listeners.push(listener);
        }
        fields.finish();
    }
    listeners
}

fn read_one(fields: &mut Fields<'_>, origin: &Origin) -> Option<Listener> {
    let address = address(fields, origin);
    let serve = serve(fields, origin);
    let tls = tls(fields);
    let (address, serve) = (address?, serve?);
    if tls.is_none() && serve.contains(&Area::Federation) && !address.ip().is_loopback() {
        let message = "federation requires TLS: configure a certificate, or use a reverse proxy".to_owned();
        fields.warn("tls", origin, message);
    }
    Some(Listener { address, serve, tls })
}

fn address(fields: &mut Fields<'_>, origin: &Origin) -> Option<SocketAddr> {
    let Some(Found { value, origin }) = fields.text("address") else {
        fields.missing_at(
            "address",
            origin,
            "an address with a port, for example \"127.0.0.1:8008\"",
        );
        return None;
    };
    let parsed = value.parse();
    if parsed.is_err() {
        let message = format!("{value:?} is not an address with a port, like \"127.0.0.1:8008\" or \"[::]:8448\"");
        fields.wrong("address", &origin, message);
    }
    parsed.ok()
}

fn serve(fields: &mut Fields<'_>, origin: &Origin) -> Option<BTreeSet<Area>> {
    let Some(Found { value, origin }) = fields.texts("serve") else {
        fields.missing_at(
            "serve",
            origin,
            "which of \"client\", \"documents\", \"federation\" and \"web\" to serve",
        );
        return None;
    };
    let mut areas = BTreeSet::new();
    for name in &value {
        match Area::ALL.iter().find(|(known, _)| known == name) {
            Some((_, area)) => {
                areas.insert(*area);
            }
            None => {
                let hint = suggestion(name, Area::ALL.iter().map(|(known, _)| *known));
                fields.wrong(
                    "serve",
                    &origin,
                    format!("{name:?} is not one of client, documents, federation, web{hint}"),
                );
            }
        }
    }
    if value.is_empty() {
        fields.wrong("serve", &origin, "is empty, so nothing would be served".to_owned());
    }
    Some(areas)
}

fn tls(fields: &mut Fields<'_>) -> Option<Tls> {
    let origin = fields.origin_of("tls");
    let setting = fields.full_name("tls");
    let mut inner = fields.section("tls");
    let (certificate_origin, private_key_origin) = (inner.origin_of("certificate"), inner.origin_of("private_key"));
    let (certificate, private_key) = (inner.path("certificate"), inner.path("private_key"));
    let both = match (certificate, private_key) {
        (Some(certificate), Some(private_key)) => Some(Tls {
            certificate,
            private_key,
            certificate_origin,
            private_key_origin,
            setting,
        }),
        (Some(_), None) => {
            inner.missing_at(
                "private_key",
                &origin,
                "the file with the certificate's private key, in PEM format",
            );
            None
        }
        (None, Some(_)) => {
            inner.missing_at(
                "certificate",
                &origin,
                "the file with the certificate and its chain, in PEM format",
            );
            None
        }
        (None, None) => None,
    };
    inner.finish();
    both
}

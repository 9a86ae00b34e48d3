//! The address of the client that sent a request, also behind reverse proxies.
//!
//! `X-Forwarded-For` and `Forwarded` (RFC 7239) are read only if the connection comes from a proxy that the operator
//! trusts, and from the right: everything left of the last untrusted address was written by the client.
//! Limits depend on this address: a header must never let a client choose it.

use std::{
    net::{IpAddr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use axum::{
    extract::{ConnectInfo, FromRequestParts},
    http::{HeaderMap, HeaderName, header::FORWARDED, request::Parts},
};
use ipnet::IpNet;
use weft_accounts::Network;

const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

/// The trusted reverse proxies (`trusted_proxies`). [`ClientAddress`] reads it from the extensions of the request
/// (`axum::Extension`); without it all headers are ignored. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct TrustedProxies(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    networks: Vec<IpNet>,
    /// A header of an untrusted peer was seen: logged once.
    ignored: AtomicBool,
}

impl TrustedProxies {
    /// Trusts the proxies in these networks.
    #[must_use]
    pub fn new(networks: Vec<IpNet>) -> Self {
        Self(Arc::new(Inner {
            networks,
            ignored: AtomicBool::new(false),
        }))
    }

    /// The address of the client whose request came over a connection from `peer`.
    #[must_use]
    pub fn client(&self, peer: IpAddr, headers: &HeaderMap) -> IpAddr {
        let peer = peer.to_canonical();
        let present = headers.contains_key(X_FORWARDED_FOR) || headers.contains_key(FORWARDED);
        if !present {
            return peer;
        }
        if !self.trusts(peer) {
            if !self.0.ignored.swap(true, Ordering::Relaxed) {
                tracing::info!(
                    %peer,
                    "ignored X-Forwarded-For or Forwarded: if the peer is your reverse proxy, add it to trusted_proxies"
                );
            }
            return peer;
        }
        let by_x_forwarded = hops(headers, &X_FORWARDED_FOR, node);
        let by_forwarded = hops(headers, &FORWARDED, forwarded_for);
        let (a, b) = (self.walk(peer, &by_x_forwarded), self.walk(peer, &by_forwarded));
        match (by_x_forwarded.is_empty(), by_forwarded.is_empty()) {
            (false, true) => a,
            (true, false) => b,
            // A proxy that writes one of the two headers forwards the other one as the client sent it. Which one it wrote can't be
            // known here, so a difference counts as the proxy's own address.
            _ if a == b => a,
            _ => peer,
        }
    }

    /// Whether this is the address of a trusted proxy.
    pub fn trusts(&self, address: IpAddr) -> bool {
        self.0.networks.iter().any(|network| network.contains(&address))
    }

    /// Walks back from the connection over trusted proxies, to the first address that isn't one.
    fn walk(&self, peer: IpAddr, hops: &[Option<IpAddr>]) -> IpAddr {
        let mut client = peer;
        for hop in hops.iter().rev() {
            if !self.trusts(client) {
                break;
            }
            // A proxy that doesn't report where a request came from counts as the client.
            let Some(address) = hop else { break };
            client = *address;
        }
        client
    }
}

/// The client's address, if the listener provides the address of the connection.
#[derive(Debug, Clone, Copy)]
pub struct ClientAddress(pub Option<IpAddr>);

impl ClientAddress {
    /// The address of the client of a request.
    #[must_use]
    pub fn of(parts: &Parts) -> Self {
        let peer = parts.extensions.get::<ConnectInfo<SocketAddr>>();
        let proxies = parts.extensions.get::<TrustedProxies>();
        Self(peer.map(|ConnectInfo(peer)| match proxies {
            Some(proxies) => proxies.client(peer.ip(), &parts.headers),
            None => peer.ip().to_canonical(),
        }))
    }

    /// The network that limits count by.
    #[must_use]
    pub fn network(self) -> Option<Network> {
        self.0.map(Network::of)
    }
}

impl<S: Send + Sync> FromRequestParts<S> for ClientAddress {
    type Rejection = std::convert::Infallible;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, Self::Rejection> {
        Ok(Self::of(parts))
    }
}

/// The hops in all lines of a header, the client's first; `None` for a hop that can't be parsed.
fn hops(headers: &HeaderMap, name: &HeaderName, read: impl Fn(&str) -> Option<IpAddr>) -> Vec<Option<IpAddr>> {
    let mut hops = Vec::new();
    for line in headers.get_all(name) {
        match line.to_str() {
            Ok(line) => hops.extend(unquoted_parts(line, ',').map(&read)),
            Err(_) => hops.push(None),
        }
    }
    hops
}

/// The parts between separators outside of quotes.
fn unquoted_parts(text: &str, separator: char) -> impl Iterator<Item = &str> {
    let (mut quoted, mut escaped) = (false, false);
    text.split(move |c| {
        let ends = c == separator && !quoted;
        quoted ^= c == '"' && !escaped;
        escaped = quoted && c == '\\' && !escaped;
        ends
    })
}

/// `for` of one element of `Forwarded`.
fn forwarded_for(element: &str) -> Option<IpAddr> {
    let mut pairs = unquoted_parts(element, ';').filter_map(|pair| pair.split_once('='));
    let (_, value) = pairs.find(|(name, _)| name.trim().eq_ignore_ascii_case("for"))?;
    let value = value.trim();
    node(
        value
            .strip_prefix('"')
            .and_then(|value| value.strip_suffix('"'))
            .unwrap_or(value),
    )
}

/// An address with or without a port, as proxies write it.
fn node(text: &str) -> Option<IpAddr> {
    let text = text.trim();
    let address = text
        .parse::<IpAddr>()
        .or_else(|_| text.parse::<SocketAddr>().map(|address| address.ip()))
        .or_else(|_| text.trim_start_matches('[').trim_end_matches(']').parse());
    address.ok().map(|address| address.to_canonical())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(trusted: &[&str], peer: &str, headers: &[(&str, &str)]) -> String {
        let networks = trusted.iter().map(|network| network.parse().unwrap()).collect();
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(HeaderName::try_from(*name).unwrap(), value.parse().unwrap());
        }
        TrustedProxies::new(networks)
            .client(peer.parse().unwrap(), &map)
            .to_string()
    }

    const XFF: &str = "x-forwarded-for";

    #[test]
    fn headers_of_untrusted_peers_are_ignored() {
        for trusted in [&[][..], &["10.0.0.0/8"]] {
            for headers in [
                &[(XFF, "198.51.100.1")][..],
                &[("forwarded", "for=198.51.100.1")],
                &[(XFF, "10.0.0.1"), ("forwarded", "for=10.0.0.1")],
            ] {
                assert_eq!(client(trusted, "192.0.2.7", headers), "192.0.2.7", "{headers:?}");
            }
        }
    }

    #[test]
    fn a_trusted_proxy_provides_the_client_address() {
        let trusted = &["10.0.0.0/8", "2001:db8::/32"];
        for (headers, expected) in [
            (&[][..], "10.0.0.1"),
            (&[(XFF, "192.0.2.7")], "192.0.2.7"),
            (&[(XFF, " 192.0.2.7:4711 ")], "192.0.2.7"),
            (&[(XFF, "2a02::1")], "2a02::1"),
            (&[(XFF, "[2a02::1]:80")], "2a02::1"),
            (&[(XFF, "::ffff:192.0.2.7")], "192.0.2.7"),
            (&[(XFF, "192.0.2.7, 10.9.9.9, 2001:db8::5")], "192.0.2.7"),
            (&[(XFF, "192.0.2.7"), (XFF, "10.9.9.9")], "192.0.2.7"),
            (&[("forwarded", "for=192.0.2.7;proto=https;by=10.0.0.1")], "192.0.2.7"),
            (&[("forwarded", "proto=https; For=\"[2a02::1]:4711\"")], "2a02::1"),
            (&[("forwarded", "for=\"192.0.2.7\", for=10.2.2.2")], "192.0.2.7"),
            (
                &[("forwarded", "for=192.0.2.7"), (XFF, "192.0.2.7, 10.2.2.2")],
                "192.0.2.7",
            ),
        ] {
            assert_eq!(client(trusted, "10.0.0.1", headers), expected, "{headers:?}");
            assert_eq!(client(trusted, "::ffff:10.0.0.1", headers), expected, "{headers:?}");
        }
    }

    #[test]
    fn header_parts_written_by_the_client_are_ignored() {
        let trusted = &["10.0.0.0/8"];
        for (headers, expected) in [
            // The proxy appends to the received header.
            (&[(XFF, "198.51.100.1, 192.0.2.7")][..], "192.0.2.7"),
            (&[(XFF, "10.0.0.5, 192.0.2.7")], "192.0.2.7"),
            (&[(XFF, "198.51.100.1"), (XFF, "192.0.2.7")], "192.0.2.7"),
            (&[("forwarded", "for=198.51.100.1, for=192.0.2.7")], "192.0.2.7"),
            (&[("forwarded", "for=\"198.51.100.1, for=192.0.2.7")], "10.0.0.1"),
            // The proxy writes one header and forwards the other.
            (&[(XFF, "192.0.2.7"), ("forwarded", "for=198.51.100.1")], "10.0.0.1"),
            (&[(XFF, "198.51.100.1"), ("forwarded", "for=192.0.2.7")], "10.0.0.1"),
            // The proxy provides no address, or one that can't be parsed.
            (&[("forwarded", "for=198.51.100.1, for=unknown")], "10.0.0.1"),
            (&[("forwarded", "for=198.51.100.1, for=_hidden")], "10.0.0.1"),
            (&[("forwarded", "for=198.51.100.1, proto=https")], "10.0.0.1"),
            (&[(XFF, "198.51.100.1, no address")], "10.0.0.1"),
            (&[(XFF, "")], "10.0.0.1"),
        ] {
            assert_eq!(client(trusted, "10.0.0.1", headers), expected, "{headers:?}");
        }
    }
}

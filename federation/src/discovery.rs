//! Resolves a server name to the addresses, the TLS name and the Host header to connect with.
//!
//! The steps and their order are those of the Matrix specification ("Resolving server names"). The addresses are
//! checked here against the deny-list and used as they are; they must not be resolved again.

use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::{Duration, Instant},
};

use async_trait::async_trait;
use moka::{
    Expiry,
    sync::{Cache, CacheBuilder},
};
use ruma::{OwnedServerName, ServerName};
use weft_wire::limits;

use crate::{
    DenyList,
    well_known::{Fetcher, WellKnown},
};

mod names;

pub use names::SystemNames;

/// The default port of federation.
const DEFAULT_PORT: u16 = 8448;
/// How long addresses are used before the name is looked up again: the operating system reports no time to live.
const ADDRESS_AGE: Duration = Duration::from_secs(300);

/// An SRV record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Srv {
    /// The lowest priority is tried first.
    pub priority: u16,
    /// The share of connections among records of equal priority.
    pub weight: u16,
    /// The port.
    pub port: u16,
    /// The host name that has the addresses.
    pub target: String,
}

/// DNS lookups.
#[async_trait]
pub trait Names: Send + Sync + 'static {
    /// The addresses of a host, as the operating system resolves it (hosts file included).
    async fn addresses(&self, host: &str) -> std::io::Result<Vec<IpAddr>>;
    /// SRV records; empty if there are none or the DNS server doesn't answer.
    async fn srv(&self, name: &str) -> Vec<Srv>;
}

/// Where to connect to for a server, with its TLS name and Host header.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Destination {
    /// The name that the certificate must be valid for: a host or an IP literal, without port, IPv6 in brackets.
    pub tls_name: String,
    /// The port of all addresses.
    pub port: u16,
    /// The Host header.
    pub host_header: String,
    /// The addresses that the deny-list allows; at least one.
    pub addresses: Vec<SocketAddr>,
}

/// Why a server name can't be resolved.
#[derive(Debug, Clone, thiserror::Error)]
pub enum DiscoveryError {
    /// The name has no address.
    #[error("{host} has no address: {reason}")]
    NoAddress {
        /// The host.
        host: String,
        /// The error of the operating system.
        reason: String,
    },
    /// All addresses of the host are private.
    #[error("the addresses of {host} are private and not among the allowed exceptions")]
    Denied {
        /// The host.
        host: String,
    },
}

/// Resolves server names and caches the results.
pub struct Resolver {
    names: Arc<dyn Names>,
    deny: DenyList,
    well_known: Fetcher,
    delegations: Cache<OwnedServerName, WellKnown>,
    destinations: Cache<OwnedServerName, Arc<Destination>>,
}

impl Resolver {
    /// A resolver; `well_known_port` is 443 outside tests.
    #[must_use]
    pub fn new(names: Arc<dyn Names>, deny: DenyList, tls: rustls::ClientConfig, well_known_port: u16) -> Self {
        let well_known = Fetcher {
            names: Arc::clone(&names),
            deny: deny.clone(),
            tls,
            port: well_known_port,
        };
        Self {
            names,
            deny,
            well_known,
            delegations: cache().expire_after(AsAllowed).build(),
            destinations: cache().time_to_live(ADDRESS_AGE).build(),
        }
    }

    /// Resolves `server`. The result is cached for five minutes, or until [`Resolver::invalidate`].
    ///
    /// # Errors
    /// When the server has no address, or only private ones.
    pub async fn resolve(&self, server: &ServerName) -> Result<Arc<Destination>, DiscoveryError> {
        if let Some(known) = self.destinations.get(server) {
            return Ok(known);
        }
        let found = Arc::new(self.find(server).await?);
        self.destinations.insert(server.to_owned(), Arc::clone(&found));
        Ok(found)
    }

    /// Requests a URL that another server named, from addresses that the deny-list allows.
    pub(crate) async fn get_public(&self, url: &reqwest::Url) -> Result<reqwest::Response, String> {
        self.well_known
            .get(url, Duration::from_secs(limits::MEDIA_FETCH_SECONDS))
            .await
    }

    /// Removes the cached addresses: a connection to them failed.
    pub fn invalidate(&self, server: &ServerName) {
        self.destinations.invalidate(server);
    }

    async fn find(&self, server: &ServerName) -> Result<Destination, DiscoveryError> {
        if let Some(found) = self.explicit(server).await {
            return found;
        }
        if let Some(delegated) = self.delegation(server).await {
            return match self.explicit(&delegated).await {
                Some(found) => found,
                None => self.by_records(&delegated).await,
            };
        }
        self.by_records(server).await
    }

    /// Steps 1 and 2 (3.1 and 3.2): an IP literal or an explicit port needs no further lookup.
    async fn explicit(&self, server: &ServerName) -> Option<Result<Destination, DiscoveryError>> {
        let port = server.port();
        if let Some(address) = literal(server) {
            let port = port.unwrap_or(DEFAULT_PORT);
            return Some(self.destination(
                server.host(),
                server.as_str(),
                vec![SocketAddr::new(address, port)],
                port,
            ));
        }
        let port = port?;
        Some(match self.lookup(server.host(), port).await {
            Ok(addresses) => self.destination(server.host(), server.as_str(), addresses, port),
            Err(error) => Err(error),
        })
    }

    /// Steps 4 to 6 (3.3 to 3.5): SRV, the deprecated SRV name, or port 8448.
    async fn by_records(&self, server: &ServerName) -> Result<Destination, DiscoveryError> {
        let host = server.host();
        for service in ["_matrix-fed", "_matrix"] {
            let mut records = self.names.srv(&format!("{service}._tcp.{host}.")).await;
            records.retain(|record| !matches!(record.target.as_str(), "" | "."));
            order(&mut records, rand::random());
            for record in records {
                let target = record.target.trim_end_matches('.');
                if let Ok(addresses) = self.lookup(target, record.port).await {
                    return self.destination(host, server.as_str(), addresses, record.port);
                }
            }
        }
        let addresses = self.lookup(host, DEFAULT_PORT).await?;
        self.destination(host, server.as_str(), addresses, DEFAULT_PORT)
    }

    async fn delegation(&self, server: &ServerName) -> Option<OwnedServerName> {
        if let Some(known) = self.delegations.get(server) {
            return known.server;
        }
        let found = self.well_known.fetch(server).await;
        self.delegations.insert(server.to_owned(), found.clone());
        found.server
    }

    async fn lookup(&self, host: &str, port: u16) -> Result<Vec<SocketAddr>, DiscoveryError> {
        let none = |reason: String| DiscoveryError::NoAddress {
            host: host.to_owned(),
            reason,
        };
        let found = self
            .names
            .addresses(host)
            .await
            .map_err(|error| none(error.to_string()))?;
        if found.is_empty() {
            return Err(none("no records".to_owned()));
        }
        Ok(found
            .into_iter()
            .map(|address| SocketAddr::new(address, port))
            .collect())
    }

    fn destination(
        &self,
        tls_name: &str,
        host_header: &str,
        mut addresses: Vec<SocketAddr>,
        port: u16,
    ) -> Result<Destination, DiscoveryError> {
        addresses.retain(|address| self.deny.allows(address.ip()));
        if addresses.is_empty() {
            return Err(DiscoveryError::Denied {
                host: tls_name.to_owned(),
            });
        }
        Ok(Destination {
            tls_name: tls_name.to_owned(),
            port,
            host_header: host_header.to_owned(),
            addresses,
        })
    }
}

pub(crate) fn literal(server: &ServerName) -> Option<IpAddr> {
    server.host().trim_start_matches('[').trim_end_matches(']').parse().ok()
}

/// A cache of a bounded number of servers: made-up names displace entries, which costs only lookups.
fn cache<V: Clone + Send + Sync + 'static>() -> CacheBuilder<OwnedServerName, V, Cache<OwnedServerName, V>> {
    Cache::builder().max_capacity(limits::MAX_REMEMBERED_SERVERS as u64)
}

/// How long a delegation is kept: as the other server allows it.
struct AsAllowed;

impl Expiry<OwnedServerName, WellKnown> for AsAllowed {
    fn expire_after_create(&self, _: &OwnedServerName, found: &WellKnown, _: Instant) -> Option<Duration> {
        Some(found.keep)
    }
}

/// Sorts by priority, lowest first; among equal priorities a random choice by weight (RFC 2782), repeated for the
/// rest.
fn order(records: &mut [Srv], random: u64) {
    records.sort_by_key(|record| record.priority);
    let mut random = random;
    for group in records.chunk_by_mut(|a, b| a.priority == b.priority) {
        let mut rest = group;
        while let Some(chosen) = choose(rest, random) {
            rest.swap(0, chosen);
            rest = rest.get_mut(1..).unwrap_or_default();
            random = random
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
        }
    }
}

fn choose(records: &[Srv], random: u64) -> Option<usize> {
    let total: u64 = records.iter().map(|record| u64::from(record.weight) + 1).sum();
    let mut left = (random >> 16).checked_rem(total)?;
    records.iter().position(|record| {
        let share = u64::from(record.weight) + 1;
        let hit = left < share;
        left = left.saturating_sub(share);
        hit
    })
}

#[cfg(test)]
mod tests {
    use super::{Srv, order};

    fn srv(priority: u16, weight: u16, target: &str) -> Srv {
        Srv {
            priority,
            weight,
            port: 1,
            target: target.to_owned(),
        }
    }

    #[test]
    fn srv_records_are_ordered_by_priority_and_then_by_weight() {
        let mut first = [0_u32; 3];
        for seed in 0..10_000_u64 {
            let mut records = vec![srv(20, 9, "late"), srv(10, 90, "heavy"), srv(10, 8, "light")];
            order(&mut records, seed.wrapping_mul(0x9E37_79B9_7F4A_7C15));
            assert_eq!(records[2].target, "late");
            let at = ["heavy", "light", "late"]
                .iter()
                .position(|name| records[0].target == *name)
                .unwrap();
            first[at] += 1;
        }
        assert!(first[0] > 8_500 && first[1] > 500 && first[2] == 0, "{first:?}");
    }
}

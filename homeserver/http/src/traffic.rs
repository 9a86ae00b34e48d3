//! Resources that callers hold while their requests are served: connections, and the bytes of requests and answers.
//!
//! A caller is anonymous until a token or a signature was checked, and is then an account or another server. Each of
//! the three kinds has its own budgets, so that anonymous callers can't use those of authenticated ones. Anonymous callers are
//! counted by network ([`Network`]). Must not identify callers: [`crate::authentication`] and the signatures of other servers do, and
//! report it here. Must not limit request rates: [`crate::ratelimit`] does.

mod answer;
mod connection;
mod layer;
mod request_body;
mod requester;
mod stream;

use std::{net::IpAddr, sync::Arc};

use ruma::{OwnedServerName, OwnedUserId};
use weft_accounts::Network;
use weft_budget::{Budget, Budgets, Exhausted, KeyedBudget};
use weft_wire::limits;

use crate::client_address::TrustedProxies;

pub use answer::Uncharged;
pub use connection::Connection;
pub use layer::layer;
pub use request_body::BodyError;
pub use requester::{Held, Requester};
pub use stream::Guarded;

/// How much callers may hold at one time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TrafficLimits {
    /// Connections in total.
    pub connections: u64,
    /// Connections of one network without authentication.
    pub connections_per_network: u64,
    /// Bytes in flight of one network's anonymous callers.
    pub stranger_bytes_per_network: u64,
    /// Bytes in flight of all anonymous callers.
    pub stranger_bytes: u64,
    /// Bytes in flight of one account.
    pub account_bytes_per_user: u64,
    /// Bytes in flight of all accounts.
    pub account_bytes: u64,
    /// Bytes in flight of one server.
    pub server_bytes_per_server: u64,
    /// Bytes in flight of all servers.
    pub server_bytes: u64,
}

impl Default for TrafficLimits {
    fn default() -> Self {
        Self {
            connections: limits::MAX_CONNECTIONS,
            connections_per_network: limits::MAX_STRANGER_CONNECTIONS_PER_NETWORK,
            stranger_bytes_per_network: limits::MAX_STRANGER_BYTES_PER_NETWORK,
            stranger_bytes: limits::MAX_STRANGER_BYTES,
            account_bytes_per_user: limits::MAX_ACCOUNT_BYTES_PER_USER,
            account_bytes: limits::MAX_ACCOUNT_BYTES,
            server_bytes_per_server: limits::MAX_SERVER_BYTES_PER_SERVER,
            server_bytes: limits::MAX_SERVER_BYTES,
        }
    }
}

/// The budgets of a server's traffic. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Traffic(Arc<Parts>);

#[derive(Debug)]
struct Parts {
    connections: Arc<Budget>,
    stranger_connections: Arc<KeyedBudget<Network>>,
    stranger_bytes: Arc<KeyedBudget<Network>>,
    account_bytes: Arc<KeyedBudget<OwnedUserId>>,
    server_bytes: Arc<KeyedBudget<OwnedServerName>>,
    proxies: TrustedProxies,
}

impl Traffic {
    /// Unused budgets. The connections of a trusted proxy carry many networks and are counted for none.
    #[must_use]
    pub fn new(limits: &TrafficLimits, proxies: TrustedProxies) -> Self {
        // A quarter of the connections is reserved for authenticated callers, whose sockets stay open for long.
        let stranger_connections = limits.connections - limits.connections / 4;
        Self(Arc::new(Parts {
            connections: Budget::new("connections", limits.connections),
            stranger_connections: KeyedBudget::new(
                "stranger_connections",
                limits.connections_per_network,
                stranger_connections,
            ),
            stranger_bytes: KeyedBudget::new(
                "stranger_in_flight_bytes",
                limits.stranger_bytes_per_network,
                limits.stranger_bytes,
            ),
            account_bytes: KeyedBudget::new(
                "account_in_flight_bytes",
                limits.account_bytes_per_user,
                limits.account_bytes,
            ),
            server_bytes: KeyedBudget::new(
                "server_in_flight_bytes",
                limits.server_bytes_per_server,
                limits.server_bytes,
            ),
            proxies,
        }))
    }

    /// Unlimited budgets: for routers that are served without [`layer`].
    #[must_use]
    pub fn unlimited() -> Self {
        let limits = TrafficLimits {
            connections: u64::MAX,
            connections_per_network: u64::MAX,
            stranger_bytes_per_network: u64::MAX,
            stranger_bytes: u64::MAX,
            account_bytes_per_user: u64::MAX,
            account_bytes: u64::MAX,
            server_bytes_per_server: u64::MAX,
            server_bytes: u64::MAX,
        };
        Self::new(&limits, TrustedProxies::default())
    }

    /// Registers the budgets for metrics.
    pub fn register(&self, budgets: &Budgets) {
        budgets.add(&self.0.connections);
        budgets.add(self.0.stranger_connections.total());
        budgets.add(self.0.stranger_bytes.total());
        budgets.add(self.0.account_bytes.total());
        budgets.add(self.0.server_bytes.total());
    }

    /// Counts an accepted connection.
    ///
    /// # Errors
    /// If there are too many, of this network or in total: it must be closed immediately.
    pub fn connect(&self, peer: IpAddr) -> Result<Arc<Connection>, Exhausted> {
        let network = Network::of(peer);
        let proxy = self.0.proxies.trusts(peer.to_canonical());
        let stranger = (!proxy)
            .then(|| self.0.stranger_connections.try_take(&network, 1))
            .transpose()?;
        let share = self.0.connections.try_take(1)?;
        Ok(Connection::new(network, share, stranger))
    }
}

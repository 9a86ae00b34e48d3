//! What callers hold of the server while they are served: connections, and the bytes of their requests and answers.
//!
//! A caller is a stranger until a token or a signature has been checked, then an account or another server, and each of
//! the three has a budget of its own: what strangers hold takes nothing from those who are known. Strangers are counted by
//! network ([`Network`]). Must not decide who a caller is: [`crate::authentication`] and [`crate::server`] do, and say so
//! here. How often somebody may call is [`crate::ratelimit`]'s.

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
    /// Connections of everybody.
    pub connections: u64,
    /// Connections of one network on which nobody has authenticated.
    pub connections_per_network: u64,
    /// Bytes in flight of one network's strangers.
    pub stranger_bytes_per_network: u64,
    /// Bytes in flight of all strangers.
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
    /// Budgets of which nothing is in use. A trusted proxy's connections are those of many networks, and count as none's.
    #[must_use]
    pub fn new(limits: &TrafficLimits, proxies: TrustedProxies) -> Self {
        // Strangers leave a quarter of the connections to those who are known, whose sockets stay open for long.
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

    /// Budgets that are never exhausted: for routers that are served without [`layer`].
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

    /// Shows the budgets among those of the process.
    pub fn register(&self, budgets: &Budgets) {
        budgets.add(&self.0.connections);
        budgets.add(self.0.stranger_connections.total());
        budgets.add(self.0.stranger_bytes.total());
        budgets.add(self.0.account_bytes.total());
        budgets.add(self.0.server_bytes.total());
    }

    /// Counts a connection that was accepted.
    ///
    /// # Errors
    /// When there are too many, of this network or in all: it must be closed at once.
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

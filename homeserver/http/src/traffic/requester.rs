//! The party to which a request is charged: at first the network that it comes from, then the authenticated account or
//! server. Everything is released when the request and its answer have ended.

use std::{
    net::Ipv6Addr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use http::Extensions;
use parking_lot::{Mutex, MutexGuard};
use ruma::{OwnedServerName, OwnedUserId, ServerName, UserId};
use weft_accounts::Network;
use weft_budget::{Exhausted, KeyedShare};

use super::{Connection, Traffic, connection::Activity};

/// Charged bytes, released on drop.
#[derive(Debug)]
#[must_use = "dropping it releases the bytes"]
pub enum Held {
    /// Charged to an anonymous caller.
    Stranger(KeyedShare<Network>),
    /// Charged to an account.
    Account(KeyedShare<OwnedUserId>),
    /// Charged to another server.
    Server(KeyedShare<OwnedServerName>),
    /// Not counted.
    Uncounted,
}

impl Held {
    fn amount(&self) -> u64 {
        match self {
            Self::Stranger(share) => share.amount(),
            Self::Account(share) => share.amount(),
            Self::Server(share) => share.amount(),
            Self::Uncounted => 0,
        }
    }

    /// Charges more bytes.
    ///
    /// # Errors
    /// If the budget is exhausted.
    pub fn grow(&mut self, bytes: u64) -> Result<(), Exhausted> {
        match self {
            Self::Stranger(share) => share.grow(bytes),
            Self::Account(share) => share.grow(bytes),
            Self::Server(share) => share.grow(bytes),
            Self::Uncounted => Ok(()),
        }
    }
}

#[derive(Debug, Clone)]
enum Caller {
    Stranger,
    Account(OwnedUserId),
    Server(OwnedServerName),
}

#[derive(Debug)]
struct State {
    caller: Caller,
    held: Held,
}

/// See the module. In the extensions of a request as `Arc<Requester>`.
#[derive(Debug)]
pub struct Requester {
    traffic: Traffic,
    connection: Arc<Connection>,
    network: Network,
    state: Mutex<State>,
    /// The body is passed on while it is received.
    streams: AtomicBool,
    _request: Activity,
}

impl Requester {
    /// An anonymous request of `bytes` bytes, from the network of its connection.
    ///
    /// # Errors
    /// If the network, or all anonymous callers together, hold too much.
    pub fn new(traffic: &Traffic, connection: &Arc<Connection>, bytes: u64) -> Result<Arc<Self>, Exhausted> {
        Self::from_network(traffic, connection, connection.network(), bytes)
    }

    /// The same from another network: that of a proxy's client.
    ///
    /// # Errors
    /// If the network, or all anonymous callers together, hold too much.
    pub fn from_network(
        traffic: &Traffic,
        connection: &Arc<Connection>,
        network: Network,
        bytes: u64,
    ) -> Result<Arc<Self>, Exhausted> {
        let held = traffic.0.stranger_bytes.try_take(&network, bytes)?;
        let state = State {
            caller: Caller::Stranger,
            held: Held::Stranger(held),
        };
        Ok(Arc::new(Self {
            traffic: traffic.clone(),
            connection: Arc::clone(connection),
            network,
            state: Mutex::new(state),
            streams: AtomicBool::new(false),
            _request: connection.begin_request(),
        }))
    }

    /// For a request without a requester, as in a router that is served without [`super::layer`].
    #[must_use]
    pub fn uncounted() -> Arc<Self> {
        let network = Network::of(Ipv6Addr::UNSPECIFIED.into());
        let connection = Connection::uncounted(network);
        Arc::new(Self {
            traffic: Traffic::unlimited(),
            state: Mutex::new(State {
                caller: Caller::Stranger,
                held: Held::Uncounted,
            }),
            streams: AtomicBool::new(false),
            _request: connection.begin_request(),
            network,
            connection,
        })
    }

    /// The requester in a request's extensions.
    #[must_use]
    pub fn of(extensions: &Extensions) -> Arc<Self> {
        extensions.get::<Arc<Self>>().cloned().unwrap_or_else(Self::uncounted)
    }

    /// Charges the request to this user from now on.
    ///
    /// # Errors
    /// If the account, or all accounts together, hold too much.
    pub fn is_account(&self, user: &UserId) -> Result<(), Exhausted> {
        self.is(Caller::Account(user.to_owned()))
    }

    /// Charges the request to this server from now on.
    ///
    /// # Errors
    /// If the server, or all servers together, hold too much.
    pub fn is_server(&self, server: &ServerName) -> Result<(), Exhausted> {
        self.is(Caller::Server(server.to_owned()))
    }

    fn is(&self, caller: Caller) -> Result<(), Exhausted> {
        self.connection.authenticated();
        let mut state = self.state();
        let held = self.take(&caller, state.held.amount())?;
        *state = State { caller, held };
        Ok(())
    }

    /// The handler passes the body on while it receives it, so its bytes are not in memory and not charged. To be called
    /// before the body is read.
    pub fn streams_body(&self) {
        self.streams.store(true, Ordering::Relaxed);
    }

    /// Charges bytes of the body, unless they are passed on.
    pub(super) fn grow_by_body(&self, bytes: u64) -> Result<(), Exhausted> {
        if self.streams.load(Ordering::Relaxed) {
            return Ok(());
        }
        self.grow(bytes)
    }

    /// Charges more bytes until the request has ended.
    ///
    /// # Errors
    /// If the budget is exhausted.
    pub fn grow(&self, bytes: u64) -> Result<(), Exhausted> {
        self.state().held.grow(bytes)
    }

    /// Charges more bytes until the result is dropped.
    ///
    /// # Errors
    /// If the budget is exhausted.
    pub fn hold(&self, bytes: u64) -> Result<Held, Exhausted> {
        let caller = self.state().caller.clone();
        self.take(&caller, bytes)
    }

    fn take(&self, caller: &Caller, bytes: u64) -> Result<Held, Exhausted> {
        let budgets = &self.traffic.0;
        Ok(match caller {
            Caller::Stranger => Held::Stranger(budgets.stranger_bytes.try_take(&self.network, bytes)?),
            Caller::Account(user) => Held::Account(budgets.account_bytes.try_take(user, bytes)?),
            Caller::Server(server) => Held::Server(budgets.server_bytes.try_take(server, bytes)?),
        })
    }

    pub(super) fn connection(&self) -> &Arc<Connection> {
        &self.connection
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock()
    }
}

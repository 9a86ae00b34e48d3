//! Who a request is charged to: at first the network that it comes from, then the account or server that it turned out to
//! be from. Everything is given back when the request and its answer have ended.

use std::{
    net::Ipv6Addr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use http::Extensions;
use ruma::{OwnedServerName, OwnedUserId, ServerName, UserId};
use weft_accounts::Network;
use weft_budget::{Exhausted, KeyedShare};

use super::{Connection, Traffic, connection::Activity};

/// Bytes that somebody holds, until this is dropped.
#[derive(Debug)]
#[must_use = "dropping it gives the bytes back"]
pub enum Held {
    /// A stranger does.
    Stranger(KeyedShare<Network>),
    /// An account does.
    Account(KeyedShare<OwnedUserId>),
    /// Another server does.
    Server(KeyedShare<OwnedServerName>),
    /// Nobody counts them.
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

    /// Holds more.
    ///
    /// # Errors
    /// When the budget is exhausted.
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
    _request: Activity,
}

impl Requester {
    /// A stranger with a request of so many bytes, from the network of its connection.
    ///
    /// # Errors
    /// When the network holds too much, or all strangers do.
    pub fn new(traffic: &Traffic, connection: &Arc<Connection>, bytes: u64) -> Result<Arc<Self>, Exhausted> {
        Self::from_network(traffic, connection, connection.network(), bytes)
    }

    /// The same from another network: that of a proxy's client.
    ///
    /// # Errors
    /// When the network holds too much, or all strangers do.
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
            _request: connection.begin_request(),
        }))
    }

    /// For a request that came without one, as in a router that is served without [`super::layer`].
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
            _request: connection.begin_request(),
            network,
            connection,
        })
    }

    /// The one that a request carries.
    #[must_use]
    pub fn of(extensions: &Extensions) -> Arc<Self> {
        extensions.get::<Arc<Self>>().cloned().unwrap_or_else(Self::uncounted)
    }

    /// The request is this user's.
    ///
    /// # Errors
    /// When the account holds too much, or all accounts do.
    pub fn is_account(&self, user: &UserId) -> Result<(), Exhausted> {
        self.is(Caller::Account(user.to_owned()))
    }

    /// The request is this server's.
    ///
    /// # Errors
    /// When the server holds too much, or all servers do.
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

    /// Holds more until the request has ended.
    ///
    /// # Errors
    /// When the budget is exhausted.
    pub fn grow(&self, bytes: u64) -> Result<(), Exhausted> {
        self.state().held.grow(bytes)
    }

    /// Holds more for as long as the caller keeps it.
    ///
    /// # Errors
    /// When the budget is exhausted.
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
        // It is replaced whole, so a panic elsewhere doesn't spoil it.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

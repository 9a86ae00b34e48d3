//! Ids of units: a client id and a clock. Must not have logic beyond their bounds.

use crate::limits::CLIENT_ID_END;
use std::fmt;

/// A Yjs client id (`clientID`), below 2^53: one editing session.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ClientId(u64);

impl ClientId {
    /// `None` if the number is 2^53 or more.
    pub const fn new(id: u64) -> Option<Self> {
        if id < CLIENT_ID_END { Some(ClientId(id)) } else { None }
    }

    /// The number.
    pub const fn get(self) -> u64 {
        self.0
    }
}

impl fmt::Display for ClientId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for ClientId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl From<u32> for ClientId {
    fn from(id: u32) -> Self {
        ClientId(u64::from(id))
    }
}

/// One unit of content: the `clock`-th of `client` (UTF-16 units for text).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Id {
    /// The client.
    pub client: ClientId,
    /// The clock, from 0.
    pub clock: u32,
}

impl fmt::Debug for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.client, self.clock)
    }
}

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.client, self.clock)
    }
}

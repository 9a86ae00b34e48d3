//! State vectors: for each client, the number of known units. Must not hold content.

use crate::lib0::{Reader, Writer};
use crate::parse::{Malformed, ParseError, client, clock};
use crate::{ClientId, limits};
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

/// For each client, the clock after its last known block. A client that is not in it is known up to 0.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StateVector {
    ends: BTreeMap<ClientId, u32>,
}

impl StateVector {
    /// An empty state vector.
    pub fn new() -> Self {
        StateVector::default()
    }

    /// Parses the encoding of Yjs: a count, then `client, clock` each. Fails on trailing bytes, on a duplicate client,
    /// and on numbers out of range.
    pub fn parse(bytes: &[u8]) -> Result<Self, ParseError> {
        let mut r = Reader::new(bytes);
        let mut ends = BTreeMap::new();
        let count = r.var_uint().map_err(|e| ParseError::lib0(&r, e))?;
        for _ in 0..count {
            let who = client(&mut r)?;
            let end = clock(&mut r)?;
            match ends.entry(who) {
                Entry::Vacant(v) => v.insert(end),
                Entry::Occupied(_) => return Err(ParseError::at(&r, Malformed::ClientTwice(who))),
            };
        }
        if !r.is_empty() {
            return Err(ParseError::at(&r, Malformed::Trailing));
        }
        ends.retain(|_, end| *end > 0);
        Ok(StateVector { ends })
    }

    /// The encoding of Yjs, with clients in descending order as in Yjs.
    pub fn encode(&self) -> Vec<u8> {
        let mut w = Writer::with_capacity(2 + self.ends.len() * 8);
        w.var_uint(self.ends.len() as u64);
        for (client, end) in self.ends.iter().rev() {
            w.var_uint(client.get());
            w.var_uint(u64::from(*end));
        }
        w.into_vec()
    }

    /// The clock after the last known block of a client; 0 if none is known.
    pub fn get(&self, client: ClientId) -> u32 {
        self.ends.get(&client).copied().unwrap_or(0)
    }

    /// Sets it. 0 removes the client; more than 2^31 is set as 2^31.
    pub fn set(&mut self, client: ClientId, end: u32) {
        if end == 0 {
            self.ends.remove(&client);
        } else {
            self.ends.insert(client, end.min(limits::CLOCK_END));
        }
    }

    /// Raises it to `end` if it is lower.
    pub fn raise(&mut self, client: ClientId, end: u32) {
        if end > self.get(client) {
            self.set(client, end);
        }
    }

    /// The maximum of both for each client.
    pub fn merge_max(&mut self, other: &StateVector) {
        for (client, end) in other.iter() {
            self.raise(client, end);
        }
    }

    /// Whether everything that `other` covers is covered here.
    pub fn covers(&self, other: &StateVector) -> bool {
        other.iter().all(|(client, end)| self.get(client) >= end)
    }

    /// The clients, ascending, with the clocks after their last known blocks.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = (ClientId, u32)> + '_ {
        self.ends.iter().map(|(c, e)| (*c, *e))
    }

    /// The number of clients.
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Whether no client is known.
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }
}

impl FromIterator<(ClientId, u32)> for StateVector {
    fn from_iter<T: IntoIterator<Item = (ClientId, u32)>>(items: T) -> Self {
        let mut sv = StateVector::new();
        for (client, end) in items {
            sv.raise(client, end);
        }
        sv
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_encoding_of_yjs_is_read_and_written() {
        let bytes = [0x01, 0xd2, 0x09, 0x02];
        let sv = StateVector::parse(&bytes).expect("a vector made by Yjs");
        assert_eq!(sv.get(ClientId::from(1234)), 2);
        assert_eq!(sv.encode(), bytes);
        assert_eq!(StateVector::new().encode(), [0]);
    }

    #[test]
    fn hostile_vectors_are_errors() {
        for bytes in [
            &[][..],
            &[1],
            &[0, 0],
            &[0xff, 0xff, 0xff, 0xff, 0x0f],
            &[2, 1, 1, 1, 2],
            &[1, 1, 0xff, 0xff, 0xff, 0xff, 0x0f],
        ] {
            assert!(StateVector::parse(bytes).is_err(), "{bytes:?}");
        }
    }

    #[test]
    fn one_vector_covers_another_if_it_does_for_every_client() {
        let mut a = StateVector::new();
        a.set(ClientId::from(1), 5);
        let mut b = StateVector::new();
        b.set(ClientId::from(2), 1);
        assert!(!a.covers(&b));
        a.merge_max(&b);
        assert!(a.covers(&b) && a.len() == 2);
    }
}

//! The state hash of a text: equal on all servers that have merged the same updates (`spec/docs/updates.md`). Needs no
//! engine. Must not depend on how a text is encoded: equal texts may have different bytes.

use crate::lib0::Writer;
use crate::{DeleteSet, StateVector};
use sha2::{Digest as _, Sha256};

/// See the module.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct StateHash([u8; 32]);

impl StateHash {
    /// Of a text with this state vector and these deletions.
    pub fn of(state_vector: &StateVector, deletes: &DeleteSet) -> Self {
        let mut w = Writer::with_capacity(16 + state_vector.len() * 8 + deletes.clients() * 8 + deletes.len() * 6);
        w.var_uint(state_vector.len() as u64);
        for (client, end) in state_vector.iter() {
            w.var_uint(client.get());
            w.var_uint(u64::from(end));
        }
        w.var_uint(deletes.clients() as u64);
        for client in deletes.client_ids() {
            let ranges = deletes.ranges(client);
            w.var_uint(client.get());
            w.var_uint(ranges.len() as u64);
            for (from, to) in ranges {
                w.var_uint(u64::from(*from));
                w.var_uint(u64::from(to - from));
            }
        }
        StateHash(Sha256::digest(w.into_vec()).into())
    }

    /// The SHA-256.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

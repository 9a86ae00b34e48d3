//! Admission of updates: the state vector of an event's causal past, and the owners of client ids.
//!
//! Pure. The rules are in `weft_crdt::admit`; this module supplies the past that they are applied to. At the forward
//! extremities the past is everything that was merged; on a branch it is the vector after the event's `prev_events`.

use std::collections::BTreeMap;

use bytes::Bytes;
use ruma::{OwnedUserId, UserId};
use weft_crdt::{Admission, ClientId, Known, StateVector, Update, admit};
use weft_wire::update::UpdateContent;

/// The owners of client ids. Users are few and client ids many, so each user is stored once.
#[derive(Debug, Clone, Default)]
pub struct Owners {
    users: Vec<OwnedUserId>,
    numbers: BTreeMap<OwnedUserId, u32>,
    clients: BTreeMap<ClientId, u32>,
}

impl Owners {
    /// Assigns a client id to a user, unless it has an owner. True if it was free.
    pub fn claim(&mut self, client: ClientId, user: &UserId) -> bool {
        if self.clients.contains_key(&client) {
            return false;
        }
        let number = self.number(user);
        self.clients.insert(client, number);
        true
    }

    /// The user's number: its index in `users`.
    fn number(&mut self, user: &UserId) -> u32 {
        if let Some(number) = self.numbers.get(user) {
            return *number;
        }
        let number = u32::try_from(self.users.len()).unwrap_or(u32::MAX);
        self.users.push(user.to_owned());
        self.numbers.insert(user.to_owned(), number);
        number
    }

    /// The owner of a client id.
    #[must_use]
    pub fn get(&self, client: ClientId) -> Option<&UserId> {
        let number = usize::try_from(*self.clients.get(&client)?).ok()?;
        self.users.get(number).map(|user| &**user)
    }

    /// The number of client ids that have an owner.
    #[must_use]
    pub fn count(&self) -> usize {
        self.clients.len()
    }
}

/// The causal past at one point of the graph.
#[derive(Debug, Clone, Copy)]
pub struct Past<'a> {
    /// The clocks that it contains.
    pub vector: &'a StateVector,
    /// The owners of its client ids.
    pub owners: &'a Owners,
}

impl Known for Past<'_> {
    fn end(&self, client: ClientId) -> u32 {
        self.vector.get(client)
    }

    fn owner(&self, client: ClientId) -> Option<&str> {
        // A client id that is unused in this past is free in it, even if it is used on another branch.
        if self.end(client) == 0 {
            None
        } else {
            self.owners.get(client).map(UserId::as_str)
        }
    }
}

/// The decision about the update of an event.
#[derive(Debug, Clone)]
pub enum Judgement {
    /// It becomes part of the text.
    Admitted {
        /// The update without what was known before.
        update: Update,
        /// For each client the new clocks.
        ranges: BTreeMap<ClientId, (u32, u32)>,
    },
    /// It contains nothing new.
    NothingNew,
    /// It stays in the graph and is not part of the text, on every server.
    Inadmissible {
        /// The rule that it violates.
        reason: String,
    },
}

/// Decides about the update of an event against its causal past.
pub fn judge(content: &UpdateContent, sender: &UserId, past: &Past<'_>) -> Judgement {
    match read(content) {
        Ok((_, update)) => admit_at(&update, sender, past),
        Err(reason) => Judgement::Inadmissible { reason },
    }
}

/// The update of an event, as bytes and parsed, if it is valid and the event declares its ranges correctly.
pub fn read(content: &UpdateContent) -> Result<(Bytes, Update), String> {
    let bytes = Bytes::from(content.bytes().map_err(|error| error.to_string())?);
    let update = Update::parse(bytes.clone()).map_err(|error| error.to_string())?;
    let declared = content.ranges().map_err(|error| error.to_string())?;
    let carried: BTreeMap<u64, (u32, u32)> = update
        .ranges()
        .into_iter()
        .map(|(client, range)| (client.get(), range))
        .collect();
    if declared != carried {
        return Err("the declared ranges differ from those of the update".to_owned());
    }
    Ok((bytes, update))
}

/// Decides about an update against its causal past.
pub fn admit_at(update: &Update, sender: &UserId, past: &Past<'_>) -> Judgement {
    match admit(update, sender.as_str(), past) {
        Ok(Admission::Admitted { ranges, update }) => Judgement::Admitted { update, ranges },
        Ok(Admission::Known) => Judgement::NothingNew,
        Ok(Admission::Gap {
            client,
            known_end,
            from,
        }) => Judgement::Inadmissible {
            reason: format!("blocks of client {client} are missing from {known_end} to {from}"),
        },
        Err(refusal) => Judgement::Inadmissible {
            reason: refusal.to_string(),
        },
    }
}

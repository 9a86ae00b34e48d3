//! A malicious server: it signs events that violate the rules or contradict one another, and sends each to some
//! servers.

use std::sync::Arc;

use ruma::OwnedEventId;
use serde_json::{Value, json};
use weft_dag::{Draft, Pdu, Placement, redact, testing};
use weft_room_read::{Direction, Types};
use weft_testkit::{update_content, update_content_from};

use super::{network::name, oracle::user, plan::Lie, world::World};

/// See the module.
pub struct MaliciousServer {
    pub server: usize,
    /// The Yjs client for which it sent two contents, and where both end.
    equivocated: Option<(u64, u32)>,
    /// Forward extremities from an earlier time.
    old: Vec<OwnedEventId>,
    /// The forward extremities at the start of the room.
    first: Vec<OwnedEventId>,
    /// The server that helps.
    accomplice: Option<usize>,
    /// A word of its own that it may rewrite: the client and the length.
    own: Option<(u64, u32)>,
    /// The last false claim.
    claim: Option<OwnedEventId>,
}

/// The blocks `[from, to)` of a client that wrote only this letter.
fn blocks(client: u64, letter: char, from: u32, to: u32) -> Value {
    let text: String = std::iter::repeat_n(letter, to as usize).collect();
    update_content_from(client, &text, from)
}

impl MaliciousServer {
    pub fn new(server: usize, accomplice: Option<usize>) -> Self {
        Self {
            server,
            equivocated: None,
            old: Vec::new(),
            first: Vec::new(),
            accomplice,
            own: None,
            claim: None,
        }
    }

    pub fn is_one(&self, server: usize) -> bool {
        self.server == server || self.accomplice == Some(server)
    }

    /// Stores the forward extremities at the start of the room.
    pub async fn look(&mut self, world: &World) -> Result<(), String> {
        self.first = self.extremities(world).await?;
        Ok(())
    }

    pub async fn lie(&mut self, world: &mut World, kind: Lie) -> Result<(), String> {
        let extremities = self.extremities(world).await?;
        if self.old.is_empty() || world.next().is_multiple_of(3) {
            self.old.clone_from(&extremities);
        }
        let half = |server: &usize| server.is_multiple_of(2);
        let everybody: Vec<usize> = (0..world.servers.len()).filter(|other| *other != self.server).collect();
        let (some, others): (Vec<usize>, Vec<usize>) = everybody.iter().partition(|server| half(server));
        match kind {
            Lie::Equivocate => {
                let client = world.next();
                self.equivocated = Some((client, 4));
                let one = self.update(world, &extremities, blocks(client, 'x', 0, 4)).await?;
                let other = self.update(world, &extremities, blocks(client, 'y', 0, 4)).await?;
                self.deliver(world, &one, &some).await;
                self.deliver(world, &other, &others).await;
            }
            Lie::ContinueOther => {
                let (client, end) = self.equivocated.ok_or("no equivocation yet")?;
                let letter = if world.next().is_multiple_of(2) { 'x' } else { 'y' };
                let event = self
                    .update(world, &extremities, blocks(client, letter, end, end + 3))
                    .await?;
                self.equivocated = Some((client, end + 3));
                self.deliver(world, &event, if letter == 'x' { &some } else { &others })
                    .await;
            }
            Lie::Spoof => {
                // The newest client id of an honest editor, from its first clock.
                let client = world.next() - 3;
                let event = self.update(world, &extremities, blocks(client, 'z', 0, 2)).await?;
                self.deliver(world, &event, &everybody).await;
            }
            Lie::OldBranch => {
                let client = world.next();
                let old = self.old.clone();
                let event = self.update(world, &old, blocks(client, 'o', 0, 2)).await?;
                self.deliver(world, &event, &some).await;
            }
            Lie::Withhold => {
                let client = world.next();
                let hidden = self.update(world, &extremities, blocks(client, 'h', 0, 2)).await?;
                let on_it = [hidden.event_id().to_owned()];
                let shown = self.update(world, &on_it, blocks(client, 'h', 2, 4)).await?;
                self.deliver(world, &shown, &everybody[..1]).await;
            }
            Lie::Pruned => {
                let client = world.next();
                let whole = self.update(world, &extremities, blocks(client, 'w', 0, 3)).await?;
                let copy = redact::redact(&whole, &world.version).unwrap();
                self.deliver(world, &copy, &some).await;
                self.deliver(world, &whole, &others).await;
            }
            Lie::Usurp => {
                let levels = json!({ "users": { user(self.server).as_str(): 100 } });
                let event = self
                    .event(world, &extremities, "m.room.power_levels", Some(""), levels)
                    .await?;
                self.deliver(world, &event, &everybody).await;
            }
            Lie::Backdate | Lie::Rewrite | Lie::Support => {
                self.claim_clocks(world, kind, &extremities, &everybody).await?
            }
            Lie::Malformed => self.malformed(world, &extremities, &everybody).await?,
            Lie::Replay => self.replay(world, &everybody).await?,
        }
        Ok(())
    }

    /// Claims to clocks that are claimed already, by another server or itself.
    async fn claim_clocks(
        &mut self,
        world: &mut World,
        kind: Lie,
        extremities: &[OwnedEventId],
        everybody: &[usize],
    ) -> Result<(), String> {
        let first = self.first.clone();
        let event = match kind {
            Lie::Backdate => {
                let victims = world.clients().iter().filter(|(who, _)| !self.is_one(*who));
                let victims: Vec<u64> = victims.map(|(_, client)| *client).collect();
                let chosen = usize::try_from(world.next()).unwrap() % victims.len().max(1);
                let client = *victims.get(chosen).ok_or("no client has written yet")?;
                let event = self.update(world, &first, blocks(client, 'b', 0, 3)).await?;
                self.claim = Some(event.event_id().to_owned());
                event
            }
            Lie::Rewrite => match self.own.take() {
                None => {
                    let client = world.next();
                    let word = format!("<{client}>");
                    let event = self.update(world, extremities, update_content(client, &word)).await?;
                    self.own = Some((client, u32::try_from(word.len()).unwrap()));
                    event
                }
                Some((client, length)) => {
                    let event = self.update(world, &first, blocks(client, 'r', 0, length)).await?;
                    self.claim = Some(event.event_id().to_owned());
                    event
                }
            },
            _ => {
                let claim = [self.claim.clone().ok_or("no claim")?];
                let content = json!({ "msgtype": "m.text", "body": format!("{}", world.next()) });
                let who = self.accomplice.unwrap_or(self.server);
                self.event_of(who, world, &claim, "m.room.message", None, content)
                    .await?
            }
        };
        self.deliver(world, &event, everybody).await;
        Ok(())
    }

    async fn malformed(&self, world: &World, extremities: &[OwnedEventId], targets: &[usize]) -> Result<(), String> {
        let event = self
            .event(world, extremities, "m.room.message", None, json!({ "body": "true" }))
            .await?;
        let forged = [event.json().replace("true", "false"), "{\"room_id\":\"!x\"}".into()];
        for server in targets {
            let _ = world.network.deliver(self.server, *server, &forged).await;
        }
        Ok(())
    }

    async fn replay(&self, world: &World, targets: &[usize]) -> Result<(), String> {
        let reader = world.servers[self.server].rooms.reader();
        let page = reader
            .timeline(&world.room, None, Direction::Forward, Types::All, 12)
            .await;
        let events = page.map_err(|error| error.to_string())?.events;
        for event in &events {
            self.deliver(world, &event.pdu, targets).await;
        }
        Ok(())
    }

    async fn extremities(&self, world: &World) -> Result<Vec<OwnedEventId>, String> {
        let reader = world.servers[self.server].rooms.reader();
        let mut extremities = reader
            .extremities(&world.room)
            .await
            .map_err(|error| error.to_string())?;
        extremities.truncate(5);
        if extremities.is_empty() {
            Err("has no forward extremities".into())
        } else {
            Ok(extremities)
        }
    }

    async fn update(&self, world: &World, after: &[OwnedEventId], content: Value) -> Result<Arc<Pdu>, String> {
        self.event(world, after, "dev.weft.update", None, content).await
    }

    async fn event(
        &self,
        world: &World,
        after: &[OwnedEventId],
        kind: &str,
        key: Option<&str>,
        content: Value,
    ) -> Result<Arc<Pdu>, String> {
        self.event_of(self.server, world, after, kind, key, content).await
    }

    async fn event_of(
        &self,
        who: usize,
        world: &World,
        after: &[OwnedEventId],
        kind: &str,
        key: Option<&str>,
        content: Value,
    ) -> Result<Arc<Pdu>, String> {
        let reader = world.servers[self.server].rooms.reader();
        let state = reader
            .state(&world.room)
            .await
            .map_err(|error| error.to_string())?
            .ok_or("no state")?;
        let content = testing::object(content);
        let sender = user(who);
        let draft = Draft {
            sender: sender.clone(),
            kind: kind.into(),
            state_key: key.map(ToOwned::to_owned),
            content: content.clone(),
            redacts: None,
            room_id: Some(world.room.clone()),
        };
        let placement = Placement {
            prev_events: after.to_vec(),
            auth_events: state
                .auth_events(kind, &sender, key, &content)
                .map_err(|error| error.to_string())?,
            depth: 50,
            origin_server_ts: ruma::MilliSecondsSinceUnixEpoch(
                ruma::UInt::try_from(1_800_000_000_000 + world.network.elapsed()).unwrap(),
            ),
        };
        let pdu = draft
            .sign(&world.version, placement, &testing::signer(&name(who)))
            .unwrap()
            .pdu;
        world.network.keep_forged(&pdu);
        Ok(pdu)
    }

    async fn deliver(&self, world: &World, event: &Pdu, targets: &[usize]) {
        for server in targets {
            // One attempt: a lost event is one malicious event less.
            let _ = world
                .network
                .deliver(self.server, *server, &[event.json().to_owned()])
                .await;
        }
    }
}

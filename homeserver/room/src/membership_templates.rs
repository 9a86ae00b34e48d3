//! make_join, make_leave, make_knock and their send_ counterparts, on the answering side.

use std::sync::Arc;

use ruma::{
    CanonicalJsonObject, OwnedRoomId, OwnedUserId, RoomId, RoomVersionId, ServerName, UserId,
    events::room::member::MembershipState, room::JoinRuleKind,
};
use serde::Deserialize;
use weft_dag::{Draft, Pdu, Placement, StateMap, Verdict, Verified, extremities};
use weft_ingest::{
    decide::{Undecided, decide, is_settled},
    graph::{Graph as _, Incoming},
    unconfirmed::unconfirmed_extremities,
};
use weft_room_api::{
    Accepted, JoinAnswer, MembershipRefusal, NewEvent, RoomCommand, RoomError, SignedMembership, Template,
    TemplateKind, Unavailable, UnsignedEvent,
};
use weft_room_read::Reader;

use crate::{
    Rooms, active_room::ActiveRoom, fetch, mailbox::Reply, merge::merge_session::MergeSession,
    pending_commit::PendingCommit, worker::Worker,
};

impl Rooms {
    /// An unsigned membership event for another server to complete and sign.
    ///
    /// # Errors
    /// When the room's rules forbid the membership.
    pub async fn template(
        &self,
        room: &RoomId,
        request: Template,
    ) -> Result<(RoomVersionId, CanonicalJsonObject), RoomError> {
        let UnsignedEvent { version, event } = self.call(room, RoomCommand::Template(request)).await?;
        Ok((version, event))
    }

    /// Accepts a signed membership event: a join, leave or knock by a user of another server, or an invitation that was
    /// returned with the other server's signature. It is sent to the other servers of the room.
    ///
    /// # Errors
    /// When it is not acceptable or not allowed.
    pub async fn accept_membership(&self, origin: &ServerName, event: Verified) -> Result<JoinAnswer, RoomError> {
        let room = event.pdu().room_id().to_owned();
        let version = self.reader().version(&room).await?;
        let version = version.ok_or_else(|| RoomError::NotResident(room.clone()))?;
        let mut signed = SignedMembership {
            version: version.id().clone(),
            origin: origin.to_owned(),
            event,
            remote_state: None,
        };
        for _ in 0..fetch::MAX_ROUNDS {
            let accept = RoomCommand::Accept(Box::new(signed.clone()));
            let (lacks, reason) = match self.call(&room, accept).await? {
                Accepted::Yes(answer) => return Ok(*answer),
                Accepted::Lacks(lacks, reason) => (lacks, reason),
            };
            // Here and not in the worker: no other command has to wait for other servers.
            let fetched = fetch::fetch_for(&self.outward(), &signed.event, origin.to_owned(), lacks).await?;
            let Some(fetched) = fetched else {
                return Err(MembershipRefusal::BadEvent { reason }.into());
            };
            signed.remote_state = fetched.remote_state;
        }
        Err(MembershipRefusal::BadEvent {
            reason: "the events that it depends on are not available".to_owned(),
        }
        .into())
    }
}

/// The fields of a membership event that this module uses.
#[derive(Deserialize)]
struct Content {
    membership: MembershipState,
    join_authorised_via_users_server: Option<OwnedUserId>,
}

/// Whether the join rule lets a user join without an invitation, as far as this server can decide.
enum Restricted {
    /// The join needs no authorising user: another rule, or an invitation.
    No,
    /// Allowed; this user of our server authorises the join.
    By(OwnedUserId),
    /// The user is in none of the allowed rooms.
    Refused,
    /// This server isn't in those rooms, or has no user who may invite.
    Unknown,
}

impl Worker {
    pub(crate) async fn template(&mut self, request: Template, reply: Reply<UnsignedEvent>) {
        let made = self.make_template(request).await;
        reply.send(made.map(|(version, event)| UnsignedEvent { version, event }));
    }

    async fn make_template(&mut self, request: Template) -> Result<(RoomVersionId, CanonicalJsonObject), RoomError> {
        let room = self.room.clone();
        let (reader, now) = (self.shared.reader.clone(), self.shared.clock.now());
        let ours = self.ours().to_owned();
        let active = self
            .open()
            .await?
            .filter(|active| active.is_joined())
            .ok_or(RoomError::NotResident(room))?;
        let mut content = CanonicalJsonObject::new();
        let membership = match request.kind {
            TemplateKind::Join => "join",
            TemplateKind::Leave => "leave",
            TemplateKind::Knock => "knock",
        };
        content.insert("membership".to_owned(), membership.into());
        if request.kind == TemplateKind::Join {
            match restricted(active, &reader, &ours, &request.user).await? {
                Restricted::No => {}
                Restricted::By(user) => {
                    content.insert("join_authorised_via_users_server".to_owned(), user.as_str().into());
                }
                Restricted::Refused => {
                    return Err(forbidden(
                        "the user is in none of the rooms whose members may join".to_owned(),
                    ));
                }
                Restricted::Unknown => return Err(MembershipRefusal::UnableToAuthorise.into()),
            }
        }
        let draft = Draft {
            sender: request.user.clone(),
            kind: "m.room.member".to_owned(),
            state_key: Some(request.user.to_string()),
            content,
            redacts: None,
            room_id: Some(active.id.clone()),
        };
        let placement = place(active, &draft, now)?;
        active
            .state
            .would_allow(&draft, &placement)
            .map_err(|reason| forbidden(reason.why))?;
        let object = draft
            .into_object(&active.version, placement)
            .map_err(|error| forbidden(error.to_string()))?;
        Ok((active.version.id().clone(), object))
    }

    /// Sets the authorising user of a join by one of our users, if the join rule requires one, and removes it
    /// otherwise. Our signature on the join authorises it, so the value that the client wrote is ignored: a user who is
    /// in none of the allowed rooms could otherwise name any member of this server.
    pub(crate) async fn with_authorising_user(&mut self, mut event: NewEvent) -> Result<NewEvent, Unavailable> {
        const AUTHORISING_USER: &str = "join_authorised_via_users_server";
        let is_join = event.kind == "m.room.member"
            && event.state_key.as_deref() == Some(event.sender.as_str())
            && event.content.get("membership").and_then(serde_json::Value::as_str) == Some("join");
        if !is_join {
            return Ok(event);
        }
        event.content.remove(AUTHORISING_USER);
        let ours = self.ours().to_owned();
        let shared = Arc::clone(&self.shared);
        if let Some(active) = &self.active
            && let Restricted::By(user) = restricted(active, &shared.reader, &ours, &event.sender).await?
        {
            event
                .content
                .insert(AUTHORISING_USER.to_owned(), user.to_string().into());
        }
        Ok(event)
    }

    pub(crate) async fn accept(
        &mut self,
        signed: SignedMembership,
        commit: &mut PendingCommit,
        reply: Reply<Accepted>,
    ) {
        // Pending edits are sealed first, so that the order of events is the order that users saw. This includes edits
        // that are only in the journal after a failure.
        if let Err(error) = self.open().await {
            reply.send(Err(error.into()));
            return;
        }
        self.seal(commit);
        self.fresh(commit).await;
        match Box::pin(self.accept_event(&signed.origin, signed.event, signed.remote_state, commit)).await {
            Ok(answer) => commit.answer(reply, answer),
            Err(error) => {
                if matches!(error, RoomError::Unavailable(_)) {
                    commit.abandon();
                }
                reply.send(Err(error));
            }
        }
    }

    async fn accept_event(
        &mut self,
        origin: &ServerName,
        event: Verified,
        remote_state: Option<StateMap>,
        commit: &mut PendingCommit,
    ) -> Result<Accepted, RoomError> {
        let room = self.room.clone();
        let (shared, ours) = (Arc::clone(&self.shared), self.ours().to_owned());
        let active = self
            .open()
            .await?
            .filter(|active| active.is_joined())
            .ok_or(RoomError::NotResident(room))?;
        let content = check(event.pdu(), origin, &ours)?;
        let authorising_user = content
            .join_authorised_via_users_server
            .filter(|user| user.server_name() == ours);
        if authorising_user.is_some() {
            // Our signature is requested: given only to users whom the join rule lets in, as far as this server can
            // decide.
            match restricted(active, &shared.reader, &ours, event.pdu().sender()).await? {
                Restricted::No | Restricted::By(_) => {}
                Restricted::Refused | Restricted::Unknown => {
                    return Err(MembershipRefusal::Forbidden {
                        reason: "this server does not authorise the join".to_owned(),
                    }
                    .into());
                }
            }
        }
        let Some(active) = self.active.as_mut() else {
            return Err(Unavailable::Interrupted.into());
        };
        let mut session = MergeSession::new(active, commit, &shared.reader, &ours).await?;
        if is_settled(&session, &event).await? {
            return Ok(answer_again(&session, &shared.reader, event).await?.into());
        }
        let is_remote = remote_state.is_some();
        let decided = decide(&session, event, remote_state, Some(session.current())).await;
        if let Some((lacks, error)) = decided.as_ref().err().and_then(|error| Some((error.lacks()?, error))) {
            return Ok(Accepted::Lacks(lacks, error.to_string()));
        }
        let (authorized, before) = decided.map_err(undecided)?;
        if is_remote {
            // The gap was filled with a state, not with the events: these are backfilled.
            session.note_gap(origin);
        }
        if let Verdict::Rejected { reason } | Verdict::SoftFailed { reason } = authorized.verdict() {
            return Err(MembershipRefusal::Forbidden {
                reason: reason.to_string(),
            }
            .into());
        }
        let pdu = Arc::clone(authorized.pdu());
        let incoming = Incoming {
            authorized,
            before: before.clone(),
            outlier: false,
            relay: true,
            staged: Vec::new(),
        };
        session.append(incoming).await?;
        let answered = answer(&session, pdu, &before).await?;
        if !unconfirmed_extremities(&session).await?.undelivered.is_empty() {
            // The joining server has not been sent the events since the template was made.
            self.reconcile_later(commit);
        }
        Ok(answered.into())
    }
}

fn forbidden(reason: String) -> RoomError {
    MembershipRefusal::Forbidden { reason }.into()
}

fn bad_event(reason: String) -> RoomError {
    MembershipRefusal::BadEvent { reason }.into()
}

fn undecided(undecided: Undecided) -> RoomError {
    match undecided {
        Undecided::Unavailable(error) => error.into(),
        other => bad_event(other.to_string()),
    }
}

/// Whether this endpoint accepts the event (T32): a server sends memberships of its own users, and returns invitations
/// of ours.
fn check(pdu: &Pdu, origin: &ServerName, ours: &ServerName) -> Result<Content, RoomError> {
    let bad = |reason: &str| bad_event(reason.to_owned());
    if pdu.kind() != "m.room.member" {
        return Err(bad("not a membership event"));
    }
    let target = pdu
        .state_key()
        .and_then(|key| UserId::parse(key).ok())
        .ok_or_else(|| bad("the state key is not a user id"))?;
    let content: Content = pdu.content_as().map_err(|error| bad(&error.to_string()))?;
    let fits = match content.membership {
        MembershipState::Join | MembershipState::Leave | MembershipState::Knock => {
            pdu.sender() == target && target.server_name() == origin
        }
        MembershipState::Invite => pdu.sender().server_name() == ours && target.server_name() == origin,
        _ => false,
    };
    if fits {
        Ok(content)
    } else {
        Err(bad("that server may not send this membership"))
    }
}

fn place(active: &ActiveRoom, draft: &Draft, now: ruma::MilliSecondsSinceUnixEpoch) -> Result<Placement, RoomError> {
    let prev_events = extremities::cite(active.extremities.ids().rev());
    let auth = active
        .state
        .auth_events(&draft.kind, &draft.sender, draft.state_key.as_deref(), &draft.content);
    let auth_events = auth.map_err(|error| forbidden(error.to_string()))?;
    let cited = active
        .state
        .iter()
        .filter(|pdu| auth_events.contains(&pdu.event_id().to_owned()));
    Ok(Placement {
        depth: Placement::depth_after(active.extremities.depths(&prev_events)),
        prev_events,
        origin_server_ts: Placement::time_after(now, cited.map(|pdu| pdu.origin_server_ts())),
        auth_events,
    })
}

/// Applies the join rule to a user who wants to join (Matrix specification, "Restricted rooms").
async fn restricted(
    active: &ActiveRoom,
    reader: &Reader,
    ours: &ServerName,
    user: &UserId,
) -> Result<Restricted, Unavailable> {
    let rule = active.state.join_rule();
    if !matches!(rule, JoinRuleKind::Restricted | JoinRuleKind::KnockRestricted)
        || matches!(
            active.state.membership(user),
            MembershipState::Join | MembershipState::Invite
        )
    {
        return Ok(Restricted::No);
    }
    let mut knows_all = true;
    let mut is_member = false;
    for room in allowing_rooms(active) {
        // Stored data of a room that this server has left is out of date.
        let knows = reader.has_server(&room, ours).await?;
        knows_all &= knows;
        is_member |= knows && reader.membership(&room, user).await? == MembershipState::Join;
    }
    if !is_member {
        return Ok(if knows_all {
            Restricted::Refused
        } else {
            Restricted::Unknown
        });
    }
    let mut locals = active
        .state
        .joined_members()
        .into_iter()
        .filter(|member| member.server_name() == ours);
    Ok(locals
        .find(|member| active.state.can_invite(member))
        .map_or(Restricted::Unknown, Restricted::By))
}

/// The rooms whose members may join.
fn allowing_rooms(active: &ActiveRoom) -> Vec<OwnedRoomId> {
    #[derive(Deserialize)]
    struct Rule {
        #[serde(default)]
        allow: Vec<serde_json::Value>,
    }
    let rule = active
        .state
        .get("m.room.join_rules", "")
        .and_then(|pdu| pdu.content_as::<Rule>().ok());
    let allow = rule.map(|rule| rule.allow).unwrap_or_default();
    let conditions = allow
        .iter()
        .filter(|condition| condition.get("type").and_then(serde_json::Value::as_str) == Some("m.room_membership"));
    conditions
        .filter_map(|condition| RoomId::parse(condition.get("room_id")?.as_str()?).ok())
        .collect()
}

/// The same answer for the same event. It contains the room's state: not for an event that was received another way and
/// rejected or soft-failed.
async fn answer_again(session: &MergeSession<'_>, reader: &Reader, event: Verified) -> Result<JoinAnswer, RoomError> {
    let id = event.pdu().event_id();
    let stored = reader.stored_event(session.room_id(), id).await?;
    if !stored.is_some_and(|stored| stored.is_visible()) {
        return Err(MembershipRefusal::Forbidden {
            reason: "the event was rejected or soft-failed before".to_owned(),
        }
        .into());
    }
    let before = session.before(id).await?;
    answer(session, event.into_pdu(), &before).await
}

/// The event with the state before it and the auth chain of both.
async fn answer(session: &MergeSession<'_>, event: Arc<Pdu>, before: &StateMap) -> Result<JoinAnswer, RoomError> {
    let mut state = Vec::with_capacity(before.0.len());
    for id in before.0.values() {
        state.extend(session.event(id).await?.map(|known| known.pdu));
    }
    let cited = state
        .iter()
        .flat_map(|pdu| pdu.auth_events())
        .chain(event.auth_events());
    let chain = session
        .cover()
        .with_ancestors(cited.filter(|id| session.cover().contains(id)));
    let mut auth_chain = Vec::new();
    for id in chain.unwrap_or_default() {
        auth_chain.extend(session.event(&id).await?.map(|known| known.pdu));
    }
    Ok(JoinAnswer {
        version: session.version().id().clone(),
        event,
        state,
        auth_chain,
    })
}

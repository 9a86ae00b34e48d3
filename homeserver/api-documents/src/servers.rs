//! `GET /documents/{id}/servers`: which servers have a copy of a document, and which would have one after an invitation.
//!
//! Must not contact any of them.

use std::collections::{BTreeMap, BTreeSet};

use axum::{
    Json,
    extract::{Query, State, rejection::QueryRejection},
};
use ruma::{OwnedServerName, OwnedUserId, UserId, events::room::member::MembershipState};
use schemars::JsonSchema;
use serde::Deserialize;
use weft_dag::StateView;
use weft_http::{
    authentication::Authenticated,
    errors::{ApiError, ApiResult},
    openapi::{Operation, Routes},
};
use weft_wire::{
    rest::{DocumentServer, DocumentServers},
    schema,
};

use super::{
    DocumentPorts,
    caller::{Named, Open, open},
};

pub(super) fn routes() -> Routes<DocumentPorts> {
    Routes::new("Sharing").get(
        "/_weft/client/v1/documents/{id}/servers",
        list,
        Operation::new("listServers", "Which servers have a copy of the document"),
    )
}

#[derive(Deserialize, JsonSchema)]
struct Asked {
    /// A user who might be invited.
    #[schemars(with = "Option<schema::UserId>")]
    invite: Option<OwnedUserId>,
}

/// For every member.
async fn list(
    State(ports): State<DocumentPorts>,
    Authenticated(session): Authenticated,
    named: Named,
    query: Result<Query<Asked>, QueryRejection>,
) -> ApiResult<Json<DocumentServers>> {
    let Query(asked) = query.map_err(|error| ApiError::invalid_param(error.body_text()))?;
    let Open { state, .. } = open(&ports, &named, &session.user_id).await?;
    Ok(Json(servers(&state, asked.invite.as_deref())))
}

fn servers(state: &StateView, invite: Option<&UserId>) -> DocumentServers {
    let mut joined: BTreeMap<OwnedServerName, u64> = BTreeMap::new();
    let (mut invited, mut former) = (BTreeSet::new(), BTreeSet::new());
    for user in state
        .of_type("m.room.member")
        .filter_map(|pdu| UserId::parse(pdu.state_key()?).ok())
    {
        let server = user.server_name().to_owned();
        match state.membership(&user) {
            MembershipState::Join => *joined.entry(server).or_default() += 1,
            MembershipState::Invite => drop(invited.insert(server)),
            // A user who knocked or declined may never have been in the document: the state does not tell.
            MembershipState::Leave | MembershipState::Ban => drop(former.insert(server)),
            _ => {}
        }
    }
    invited.retain(|server| !joined.contains_key(server));
    former.retain(|server| !joined.contains_key(server));
    let after = invite.map(|user| {
        let mut after: BTreeSet<OwnedServerName> = joined.keys().cloned().collect();
        after.insert(user.server_name().to_owned());
        after.into_iter().collect()
    });
    let servers = joined.into_iter();
    DocumentServers {
        servers: servers
            .map(|(server_name, users)| DocumentServer { server_name, users })
            .collect(),
        invited: invited.into_iter().collect(),
        former: former.into_iter().collect(),
        after,
    }
}

//! PUT /_matrix/client/v3/rooms/{roomId}/typing/{userId}

use axum::{Json, Router, extract::State};
use ruma::api::client::typing::create_typing_event::v3::{self, Typing};
use serde_json::{Value, json};
use weft_fanout::Ephemeral;
use weft_room::Reader;

use super::{Ports, standing};
use crate::{
    authentication::Authenticated,
    errors::ApiResult,
    ruma_json::{Ruma, RumaRoutes},
};

pub(super) fn routes() -> Router<Ports> {
    Router::new().endpoint::<v3::Request, _, _>(typing)
}

async fn typing(
    State(reader): State<Reader>,
    State(ephemeral): State<Ephemeral>,
    caller: Authenticated,
    Ruma(request): Ruma<v3::Request>,
) -> ApiResult<Json<Value>> {
    standing::same_user(&caller.user_id, &request.user_id)?;
    standing::joined(&reader, &request.room_id, &caller.user_id).await?;
    let timeout = match request.state {
        Typing::Yes(info) => Some(u64::try_from(info.timeout.as_millis()).unwrap_or(u64::MAX)),
        Typing::No => None,
    };
    ephemeral.set_typing(&request.room_id, &caller.user_id, timeout).await;
    Ok(Json(json!({})))
}

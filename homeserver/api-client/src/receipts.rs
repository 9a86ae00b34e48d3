//! Read receipts and the fully-read marker.

use std::sync::Arc;

use axum::{Json, Router, extract::State};
use ruma::{
    EventId, RoomId,
    api::client::{
        read_marker::set_read_marker,
        receipt::create_receipt::{self, v3::ReceiptType},
    },
    events::receipt::ReceiptThread,
};
use serde_json::{Value, json};
use weft_accounts::{Accounts, Session};
use weft_fanout::{Ephemeral, Fanout, Receipt, ReceiptError};
use weft_http::{
    authentication::Authenticated,
    errors::{ApiError, ApiResult},
    ruma_json::{Ruma, RumaRoutes},
};
use weft_room_api::Clock;
use weft_room_read::Reader;

use super::{Ports, membership_check};

pub(super) fn routes() -> Router<Ports> {
    Router::new()
        .endpoint::<create_receipt::v3::Request, _, _>(receipt)
        .endpoint::<set_read_marker::v3::Request, _, _>(markers)
}

/// POST /_matrix/client/v3/rooms/{roomId}/receipt/{receiptType}/{eventId}
async fn receipt(
    State(ports): State<Ports>,
    caller: Authenticated,
    Ruma(request): Ruma<create_receipt::v3::Request>,
) -> ApiResult<Json<Value>> {
    let reader: &Reader = &ports.reader;
    membership_check::joined(reader, &request.room_id, &caller.user_id).await?;
    let thread = thread(reader, &request).await?;
    let marked = Marked {
        room: &request.room_id,
        event: &request.event_id,
        thread: &thread,
    };
    mark(&ports, &caller, &request.receipt_type, &marked).await?;
    Ok(Json(json!({})))
}

/// The thread of a receipt: `main` or the root event of a thread in this room; empty for an unthreaded receipt.
/// The fully-read marker has no thread.
async fn thread(reader: &Reader, request: &create_receipt::v3::Request) -> ApiResult<String> {
    let unknown = || ApiError::invalid_param("thread_id must be `main` or the id of an event in this room.");
    match &request.thread {
        ReceiptThread::Unthreaded => Ok(String::new()),
        _ if matches!(request.receipt_type, ReceiptType::FullyRead) => {
            Err(ApiError::invalid_param("m.fully_read does not allow a thread_id."))
        }
        ReceiptThread::Main => Ok("main".to_owned()),
        ReceiptThread::Thread(root) => match reader.order(&request.room_id, root).await? {
            Some(_) => Ok(root.to_string()),
            None => Err(unknown()),
        },
        _ => Err(unknown()),
    }
}

/// POST /_matrix/client/v3/rooms/{roomId}/read_markers
async fn markers(
    State(ports): State<Ports>,
    caller: Authenticated,
    Ruma(request): Ruma<set_read_marker::v3::Request>,
) -> ApiResult<Json<Value>> {
    membership_check::joined(&ports.reader, &request.room_id, &caller.user_id).await?;
    let all = [
        (ReceiptType::FullyRead, &request.fully_read),
        (ReceiptType::Read, &request.read_receipt),
        (ReceiptType::ReadPrivate, &request.private_read_receipt),
    ];
    for (kind, event) in all {
        if let Some(event) = event {
            mark(
                &ports,
                &caller,
                &kind,
                &Marked {
                    room: &request.room_id,
                    event,
                    thread: "",
                },
            )
            .await?;
        }
    }
    Ok(Json(json!({})))
}

struct Marked<'a> {
    room: &'a RoomId,
    event: &'a EventId,
    thread: &'a str,
}

async fn mark(ports: &Ports, caller: &Session, kind: &ReceiptType, marked: &Marked<'_>) -> ApiResult<()> {
    let (accounts, fanout): (&Accounts, &Fanout) = (&ports.accounts, &ports.fanout);
    if matches!(kind, ReceiptType::FullyRead) {
        let content = json!({"event_id": marked.event});
        let user = &caller.user_id;
        let position = accounts
            .set_account_data(user, Some(marked.room), "m.fully_read", content)
            .await?;
        fanout.wake([&**user], accounts.lane_of(user), position);
        return Ok(());
    }
    let kind = match kind {
        ReceiptType::Read => "m.read",
        ReceiptType::ReadPrivate => "m.read.private",
        _ => return Err(ApiError::invalid_param("Unknown receipt type.")),
    };
    if ports.reader.order(marked.room, marked.event).await?.is_none() {
        return Err(ApiError::not_found("Event not found in this room."));
    }
    let clock: &Arc<dyn Clock> = &ports.clock;
    let ephemeral: &Ephemeral = &ports.ephemeral;
    let receipt = Receipt {
        kind: kind.to_owned(),
        thread: marked.thread.to_owned(),
        user: caller.user_id.clone(),
        event: marked.event.to_owned(),
        at: clock.now().get().into(),
    };
    ephemeral
        .set_receipt(marked.room, receipt)
        .await
        .map_err(|error| match error {
            ReceiptError::Read(error) => error.into(),
            ReceiptError::Commit(error) => error.into(),
            ReceiptError::Room(error) => error.into(),
            error @ ReceiptError::Refused(_) => ApiError::internal("storing a receipt", &error),
        })
}

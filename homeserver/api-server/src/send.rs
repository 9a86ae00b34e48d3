//! PUT /_matrix/federation/v1/send/{txnId} (Matrix specification, "Transactions").

use std::time::Instant;

use axum::extract::State;
use ruma::api::federation::transactions::send_transaction_message::v1::{Request, Response};
use weft_federation::inbound::{Transaction, TransactionError};
use weft_http::{
    errors::{ApiError, ApiResult},
    ruma_json::Answer,
};

use super::{ServerPorts, Signed};

pub(super) async fn send(
    State(ports): State<ServerPorts>,
    Signed { origin, request }: Signed<Request>,
) -> ApiResult<Answer<Response>> {
    if request.origin != origin {
        return Err(ApiError::forbidden(
            "The transaction's origin differs from its signature.",
        ));
    }
    let bytes = request.pdus.iter().map(|pdu| pdu.get().len() as u64).sum();
    ports.event_bytes.spend(&origin, bytes, Instant::now())?;
    let edus = request.edus.into_iter().map(ruma::serde::Raw::into_json).collect();
    let transaction = Transaction {
        pdus: request.pdus,
        edus,
    };
    let id = request.transaction_id.as_str();
    match ports
        .transactions
        .take(&origin, id, transaction, &ports.keys, ports.intake.as_ref())
        .await
    {
        Ok(results) => Ok(Answer(Response::new(results))),
        Err(error @ TransactionError::TooMany { .. }) => Err(ApiError::invalid_param(error.to_string())),
        Err(TransactionError::TooMuchWaits { retry_after }) => Err(ApiError::limit_exceeded(retry_after)),
        // Nothing was stored, so the other server must send it again.
        Err(TransactionError::InboundHandler(error)) => {
            Err(ApiError::store("The events cannot be stored at the moment.", &error))
        }
    }
}

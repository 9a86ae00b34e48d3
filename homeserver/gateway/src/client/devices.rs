//! A user's devices.

use std::sync::Arc;

use axum::{Json, Router, extract::State};
use ruma::api::client::device::{delete_device, delete_devices, get_device, get_devices, update_device};
use serde_json::{Value, json};
use weft_accounts::{Accounts, DeviceInfo};
use weft_fanout::Fanout;
use weft_room::Clock;

use super::{Ports, interactive::Interactive, password::proved};
use crate::{
    authentication::Authenticated,
    errors::{ApiError, ApiResult},
    ruma_json::{Ruma, RumaRoutes},
};

pub(super) fn routes() -> Router<Ports> {
    Router::new()
        .endpoint::<get_devices::v3::Request, _, _>(list)
        .endpoint::<get_device::v3::Request, _, _>(show)
        .endpoint::<update_device::v3::Request, _, _>(rename)
        .endpoint::<delete_device::v3::Request, _, _>(delete)
        .endpoint::<delete_devices::v3::Request, _, _>(delete_several)
}

/// Addresses are not kept; clients that insist on the field (matrix-nio) take null.
fn body(device: &DeviceInfo) -> Value {
    json!({
        "device_id": device.device_id,
        "display_name": device.display_name,
        "last_seen_ip": null,
        "last_seen_ts": device.created_at_ms,
    })
}

fn unknown() -> ApiError {
    ApiError::not_found("You have no such device.")
}

/// GET /_matrix/client/v3/devices
async fn list(State(accounts): State<Accounts>, caller: Authenticated) -> ApiResult<Json<Value>> {
    let devices = accounts.devices(&caller.user_id).await?;
    Ok(Json(json!({"devices": devices.iter().map(body).collect::<Vec<_>>()})))
}

/// GET /_matrix/client/v3/devices/{deviceId}
async fn show(
    State(accounts): State<Accounts>,
    caller: Authenticated,
    Ruma(request): Ruma<get_device::v3::Request>,
) -> ApiResult<Json<Value>> {
    let device = accounts
        .device(&caller.user_id, &request.device_id)
        .await?
        .ok_or_else(unknown)?;
    Ok(Json(body(&device)))
}

/// PUT /_matrix/client/v3/devices/{deviceId}
async fn rename(
    State(accounts): State<Accounts>,
    caller: Authenticated,
    Ruma(request): Ruma<update_device::v3::Request>,
) -> ApiResult<Json<Value>> {
    let found = accounts
        .rename_device(&caller.user_id, &request.device_id, request.display_name)
        .await?;
    if found { Ok(Json(json!({}))) } else { Err(unknown()) }
}

/// DELETE /_matrix/client/v3/devices/{deviceId}
async fn delete(
    State(accounts): State<Accounts>,
    State(interactive): State<Arc<Interactive>>,
    State(clock): State<Arc<dyn Clock>>,
    State(fanout): State<Fanout>,
    caller: Authenticated,
    Ruma(request): Ruma<delete_device::v3::Request>,
) -> ApiResult<Json<Value>> {
    let user = &caller.user_id;
    proved(
        &accounts,
        &interactive,
        &clock,
        user,
        ("delete device", request.auth.as_ref()),
    )
    .await?;
    accounts.logout(user, &request.device_id).await?;
    fanout.sessions_changed(user, Some(&request.device_id));
    Ok(Json(json!({})))
}

/// POST /_matrix/client/v3/delete_devices
async fn delete_several(
    State(accounts): State<Accounts>,
    State(interactive): State<Arc<Interactive>>,
    State(clock): State<Arc<dyn Clock>>,
    State(fanout): State<Fanout>,
    caller: Authenticated,
    Ruma(request): Ruma<delete_devices::v3::Request>,
) -> ApiResult<Json<Value>> {
    let user = &caller.user_id;
    proved(
        &accounts,
        &interactive,
        &clock,
        user,
        ("delete device", request.auth.as_ref()),
    )
    .await?;
    for device in &request.devices {
        accounts.logout(user, device).await?;
        fanout.sessions_changed(user, Some(device));
    }
    Ok(Json(json!({})))
}

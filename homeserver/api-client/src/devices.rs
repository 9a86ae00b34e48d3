//! A user's devices.

use std::collections::BTreeSet;

use axum::{Json, Router, extract::State};
use ruma::{
    OwnedDeviceId,
    api::client::{
        device::{delete_device, delete_devices, get_device, get_devices, update_device},
        uiaa::AuthData,
    },
};
use serde_json::{Value, json};
use weft_accounts::{Accounts, DeviceInfo, Session};
use weft_fanout::Fanout;
use weft_http::{
    authentication::Authenticated,
    client_address::ClientAddress,
    errors::{ApiError, ApiResult},
    ruma_json::{Ruma, RumaRoutes},
};

use super::{Ports, password::proved};

pub(super) fn routes() -> Router<Ports> {
    Router::new()
        .endpoint::<get_devices::v3::Request, _, _>(list)
        .endpoint::<get_device::v3::Request, _, _>(show)
        .endpoint::<update_device::v3::Request, _, _>(rename)
        .endpoint::<delete_device::v3::Request, _, _>(delete)
        .endpoint::<delete_devices::v3::Request, _, _>(delete_several)
}

/// IP addresses are not stored; the field is null because some clients require it (matrix-nio).
fn body(device: &DeviceInfo) -> Value {
    json!({
        "device_id": device.device_id,
        "display_name": device.display_name,
        "last_seen_ip": null,
        "last_seen_ts": device.created_at_ms,
    })
}

fn unknown() -> ApiError {
    ApiError::not_found("Device not found.")
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
    State(ports): State<Ports>,
    caller: Authenticated,
    address: ClientAddress,
    Ruma(request): Ruma<delete_device::v3::Request>,
) -> ApiResult<Json<Value>> {
    delete_proved(&ports, &caller, address, &[request.device_id], request.auth.as_ref()).await
}

/// POST /_matrix/client/v3/delete_devices
async fn delete_several(
    State(ports): State<Ports>,
    caller: Authenticated,
    address: ClientAddress,
    Ruma(request): Ruma<delete_devices::v3::Request>,
) -> ApiResult<Json<Value>> {
    delete_proved(&ports, &caller, address, &request.devices, request.auth.as_ref()).await
}

async fn delete_proved(
    ports: &Ports,
    caller: &Session,
    address: ClientAddress,
    devices: &[OwnedDeviceId],
    auth: Option<&AuthData>,
) -> ApiResult<Json<Value>> {
    let named: BTreeSet<&OwnedDeviceId> = devices.iter().collect();
    proved(ports, caller, address, (&json!(["delete devices", named]), auth)).await?;
    let fanout: &Fanout = &ports.fanout;
    for device in named {
        ports.accounts.logout(&caller.user_id, device).await?;
        fanout.sessions_changed(&caller.user_id, Some(device));
    }
    Ok(Json(json!({})))
}

//! A request whose signature was checked, with the server that sent it.
//!
//! Handlers for servers must not take a request in another form. The body is read completely (bounded) before the signature is
//! checked, because the signature covers it; a request whose header can't be valid is refused before its body is read.

use std::time::Duration;

use axum::extract::{FromRequest, FromRequestParts, RawPathParams, Request};
use http::StatusCode;
use ruma::{
    OwnedServerName,
    api::{IncomingRequest, IncomingRequestExt},
};
use weft_federation::{AuthError, Initiator, check_header, verify_request};
use weft_http::{
    client_address::ClientAddress,
    errors::{ApiError, ApiResult},
    ruma_json::read_body,
    traffic::Requester,
};
use weft_wire::limits;

use super::ServerPorts;

/// A request of ruma's type `T` sent by `origin`.
#[derive(Debug)]
pub(super) struct Signed<T> {
    /// The server that sent it.
    pub(super) origin: OwnedServerName,
    /// The parsed request.
    pub(super) request: T,
}

/// A request without a ruma type: the parts of the path and the query, decoded.
#[derive(Debug)]
pub(super) struct SignedPath {
    pub(super) origin: OwnedServerName,
    pub(super) arguments: Vec<String>,
    pub(super) query: String,
}

impl<T: IncomingRequest + Send> FromRequest<ServerPorts> for Signed<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, ports: &ServerPorts) -> ApiResult<Self> {
        let (origin, request, arguments) = check(request, ports).await?;
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        let request = T::try_from_http_request(request.as_deref(), &arguments)?;
        Ok(Self { origin, request })
    }
}

impl FromRequest<ServerPorts> for SignedPath {
    type Rejection = ApiError;

    async fn from_request(request: Request, ports: &ServerPorts) -> ApiResult<Self> {
        let (origin, request, arguments) = check(request, ports).await?;
        let query = request.uri().query().unwrap_or_default().to_owned();
        Ok(Self {
            origin,
            arguments,
            query,
        })
    }
}

async fn check(
    request: Request,
    ports: &ServerPorts,
) -> ApiResult<(OwnedServerName, http::Request<bytes::Bytes>, Vec<String>)> {
    let (mut parts, body) = request.into_parts();
    // Before the body is read, which can be large.
    check_header(&parts.headers, &ports.server_name).map_err(refused)?;
    let arguments = RawPathParams::from_request_parts(&mut parts, ports)
        .await
        .map_err(|_| ApiError::invalid_param("The path is not valid percent-encoded UTF-8."))?;
    let arguments = arguments.iter().map(|(_, value)| value.to_owned()).collect();
    let ClientAddress(address) = ClientAddress::of(&parts);
    let body = read_body(body, limits::MAX_FEDERATION_REQUEST_BYTES).await?;
    let request = http::Request::from_parts(parts, body);
    // Until the signature is checked, the name in the header is unverified.
    let keys = ports.keys.on_behalf_of(Initiator::Stranger(address));
    let origin = verify_request(&request, &ports.server_name, &keys)
        .await
        .map_err(refused)?;
    Requester::of(request.extensions()).is_server(&origin)?;
    ports.sender.mark_reachable(&origin);
    Ok((origin, request, arguments))
}

/// `Retry-After` for a server whose keys could not be fetched yet. Key requests end within seconds.
const KEYS_RETRY_AFTER: Duration = Duration::from_secs(2);

/// A request whose signature can't be checked yet should be sent again; the others never become valid.
fn refused(error: AuthError) -> ApiError {
    match error {
        AuthError::Busy(_) => ApiError::limit_exceeded(KEYS_RETRY_AFTER),
        error => ApiError::new(StatusCode::UNAUTHORIZED, "M_UNAUTHORIZED", error.to_string()),
    }
}

/// A request with a borrowed body: ruma parses from a slice.
trait Lend {
    fn as_deref(&self) -> http::Request<&[u8]>;
}

impl Lend for http::Request<bytes::Bytes> {
    fn as_deref(&self) -> http::Request<&[u8]> {
        let mut lent = http::Request::new(self.body().as_ref());
        *lent.method_mut() = self.method().clone();
        *lent.uri_mut() = self.uri().clone();
        *lent.headers_mut() = self.headers().clone();
        lent
    }
}

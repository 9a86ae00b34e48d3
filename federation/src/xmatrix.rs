//! Authentication of incoming requests: checks the `Authorization: X-Matrix` header and its signature.
//!
//! Must get the request as it was received: its raw path and query, and all bytes of its body.

use http::{HeaderMap, Request, header};
use ruma::{OwnedServerName, ServerName, api::federation::authentication::XMatrix};
use weft_wire::limits;

use crate::{RemoteKeys, remote_keys::KeysBusy};

/// Why a request is not authenticated. Each error is a 401 `M_UNAUTHORIZED`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AuthError {
    /// There is no `Authorization` header, or more than one.
    #[error("the request needs one Authorization header with the scheme X-Matrix")]
    Header,
    /// The header can't be parsed: a parameter is missing, repeated, or not a valid name.
    #[error("the Authorization header can't be parsed: {0}")]
    Form(String),
    /// Its destination is missing or names another server.
    #[error("the request is not for this server")]
    Destination,
    /// Its origin is this server.
    #[error("the origin of the request can't be this server")]
    Origin,
    /// The key is unknown, expired, or can't be fetched.
    #[error("no valid key {key} of {origin} is known")]
    Key {
        /// The server that the header names as origin.
        origin: OwnedServerName,
        /// The key id.
        key: String,
    },
    /// The key may be valid, and can't be fetched now.
    #[error(transparent)]
    Busy(#[from] KeysBusy),
    /// The signature is wrong.
    #[error("the signature of {0} is wrong")]
    Signature(OwnedServerName),
}

/// Checks the signature of a request. Returns the name of the server that sent it.
///
/// # Errors
/// When the header is missing or wrong, the key unknown or expired, or the signature wrong.
pub async fn verify_request<B: AsRef<[u8]>>(
    request: &Request<B>,
    our_name: &ServerName,
    keys: &RemoteKeys,
) -> Result<OwnedServerName, AuthError> {
    let header = parse(request.headers(), our_name)?;
    let now = keys.now();
    let key_id = header.key.to_string();
    let found = keys.of_request(&header.origin, &key_id).await?.for_requests(now);
    if !found
        .get(header.origin.as_str())
        .is_some_and(|set| set.contains_key(&key_id))
    {
        return Err(AuthError::Key {
            origin: header.origin,
            key: key_id,
        });
    }
    match header.verify_http_request(request, our_name, &found) {
        Ok(()) => Ok(header.origin),
        Err(error) => {
            tracing::info!(origin = %header.origin, %error, "request refused");
            Err(AuthError::Signature(header.origin))
        }
    }
}

/// Checks what can be checked before the body is received: there is one header, of the right form, for this server.
///
/// # Errors
/// When [`verify_request`] would refuse the request whatever its body and signature are.
pub fn check_header(headers: &HeaderMap, our_name: &ServerName) -> Result<(), AuthError> {
    parse(headers, our_name).map(drop)
}

pub(crate) fn parse(headers: &HeaderMap, our_name: &ServerName) -> Result<XMatrix, AuthError> {
    let mut headers = headers.get_all(header::AUTHORIZATION).iter();
    let (Some(value), None) = (headers.next(), headers.next()) else {
        return Err(AuthError::Header);
    };
    if value.len() > limits::MAX_X_MATRIX_BYTES {
        return Err(AuthError::Form("it is too long".to_owned()));
    }
    let parsed = XMatrix::try_from(value).map_err(|error| AuthError::Form(error.to_string()))?;
    // Old servers omitted the destination. Such a request could be replayed to any other server, so it is refused.
    if parsed.destination.as_deref() != Some(our_name) {
        return Err(AuthError::Destination);
    }
    if parsed.origin == our_name {
        return Err(AuthError::Origin);
    }
    Ok(parsed)
}

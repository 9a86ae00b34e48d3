//! Requests of commands to the running server, over its operator socket. Must not be used by the server itself.

use std::io::ErrorKind;

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use reqwest::{Client, ClientBuilder, RequestBuilder, Response, StatusCode};
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::config::Config;
use crate::serve::{install_crypto, storage};

/// A request to the running server that failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum OperatorError {
    /// There is a socket that can't be used.
    #[error("cannot reach the running server: {0}")]
    Unreachable(std::io::Error),
    /// The running server refused.
    #[error("{message}")]
    Refused { status: StatusCode, message: String },
    /// The request failed.
    #[error("the request to the running server failed: {0}")]
    Request(#[from] reqwest::Error),
}

/// A client of the running server; `None` if no server runs.
pub(crate) async fn builder(config: &Config) -> Result<Option<ClientBuilder>, OperatorError> {
    let socket = storage::operator_socket_path(&config.data_dir);
    match tokio::net::UnixStream::connect(&socket).await {
        Ok(_) => {}
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::ConnectionRefused) => return Ok(None),
        Err(error) => return Err(OperatorError::Unreachable(error)),
    }
    install_crypto();
    Ok(Some(Client::builder().unix_socket(socket).no_proxy()))
}

/// The URL of a path of the operator's requests.
pub(crate) fn url(path: &str) -> String {
    format!("http://localhost/{path}")
}

/// Percent-encodes an id for a path segment or a query.
pub(crate) fn encoded(id: &str) -> String {
    utf8_percent_encode(id, NON_ALPHANUMERIC).to_string()
}

/// Sends a request, and reads the JSON of the answer.
pub(crate) async fn answer<T: DeserializeOwned>(request: RequestBuilder) -> Result<T, OperatorError> {
    Ok(sent(request).await?.json().await?)
}

/// Sends a request; the answer is one of success.
pub(crate) async fn sent(request: RequestBuilder) -> Result<Response, OperatorError> {
    let answer = request.send().await?;
    if answer.status().is_success() {
        return Ok(answer);
    }
    let status = answer.status();
    let body: Value = answer.json().await.unwrap_or_default();
    let message = body.get("error").and_then(Value::as_str);
    Err(OperatorError::Refused {
        status,
        message: message.map_or_else(|| format!("the running server responded with {status}"), str::to_owned),
    })
}

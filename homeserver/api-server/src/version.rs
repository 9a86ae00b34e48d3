//! GET /_matrix/federation/v1/version (Matrix specification, "Server implementation"). Unsigned.

use ruma::api::federation::discovery::get_server_version::v1::{Response, Server};
use weft_http::ruma_json::Answer;

pub(super) async fn version() -> Answer<Response> {
    let mut server = Server::new();
    server.name = Some("Weft".to_owned());
    server.version = Some(env!("CARGO_PKG_VERSION").to_owned());
    let mut response = Response::new();
    response.server = Some(server);
    Answer(response)
}

//! A server of the Model Context Protocol (MCP, modelcontextprotocol.io) on standard input and output: tools with which
//! an assistant lists, reads, searches, comments, suggests and edits documents as one account of a homeserver.
//!
//! It is a client of the document API (`spec/docs/documents-api.md`) with an access token: whatever it does is signed as
//! that account's, and it can do what that account may do and no more. Must not open a store, and must not print anything
//! but protocol messages to standard output.

mod api;
mod error;
mod place;
mod tools;

pub use api::{Connection, Token};
pub use error::McpError;

use rmcp::{ServiceExt as _, transport::stdio};

use crate::{api::Api, tools::DocumentTools};

/// What the assistant may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// It reads only.
    Read,
    /// It reads, comments and suggests.
    Suggest,
    /// It does what the account may do.
    Edit,
}

/// Serves one client until it closes standard input.
///
/// # Errors
/// When the homeserver does not accept the token, or the protocol can't be started.
pub async fn serve(connection: Connection, access: Access) -> Result<(), McpError> {
    let api = Api::new(connection)?;
    let account = api.account().await?;
    let running = DocumentTools::new(api, account, access).serve(stdio()).await;
    let running = running.map_err(|error| McpError::Protocol(error.to_string()))?;
    running.waiting().await.map_err(|_| McpError::Interrupted)?;
    Ok(())
}

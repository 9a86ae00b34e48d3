//! `weft mcp`: reads the token and the certificates, and serves the Model Context Protocol. Must not print anything to
//! standard output, which carries the protocol, and must not take the token from the command line, which others can see.

use std::{env, fs, io, path::PathBuf};

use weft_mcp::{Access, Connection, McpError as ProtocolError, Token};

use crate::cli::{McpAccess, McpArguments};

/// The variable with the token.
const TOKEN: &str = "WEFT_ACCESS_TOKEN";

/// Why nothing was served.
#[derive(Debug, thiserror::Error)]
pub(crate) enum McpError {
    #[error("{path}: {source}", path = path.display())]
    File { path: PathBuf, source: io::Error },
    #[error("no access token: use --token-file, or set {TOKEN}")]
    NoToken,
    #[error("cannot start the runtime: {0}")]
    Runtime(io::Error),
    #[error(transparent)]
    Protocol(#[from] ProtocolError),
}

/// Serves until the client closes standard input.
pub(crate) fn run(arguments: &McpArguments) -> Result<(), McpError> {
    // An error means that a provider is already installed.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let token = match &arguments.token_file {
        Some(path) => String::from_utf8_lossy(&read(path)?).into_owned(),
        None => env::var(TOKEN).map_err(|_| McpError::NoToken)?,
    };
    let connection = Connection {
        homeserver: arguments.homeserver.clone(),
        token: Token::new(&token)?,
        authorities: arguments.ca_file.as_ref().map(read).transpose()?,
    };
    let access = match arguments.access {
        McpAccess::Read => Access::Read,
        McpAccess::Suggest => Access::Suggest,
        McpAccess::Edit => Access::Edit,
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(McpError::Runtime)?;
    let served = runtime.block_on(weft_mcp::serve(connection, access));
    // A read of standard input can't be cancelled.
    runtime.shutdown_background();
    Ok(served?)
}

fn read(path: &PathBuf) -> Result<Vec<u8>, McpError> {
    fs::read(path).map_err(|source| McpError::File {
        path: path.clone(),
        source,
    })
}

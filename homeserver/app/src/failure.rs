//! Why a command did not do what it was asked, and the exit code that tells scripts so.

use std::process::ExitCode;

use crate::config::LoadError;
use crate::demo::DemoError;
use crate::keys_command::KeysError;
use crate::serve::ServeError;
use crate::user_command::UserError;

/// The store is not one that this version can open (`EX_DATAERR`).
const DATA: u8 = 65;
/// Something that is needed is taken by somebody else (`EX_UNAVAILABLE`).
const UNAVAILABLE: u8 = 69;
/// The configuration, a certificate or a key is wrong (`EX_CONFIG`).
const CONFIG: u8 = 78;

/// See the module.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    #[error(transparent)]
    Config(#[from] LoadError),
    #[error("cannot write the configuration to {path}: {source}", path = path.display())]
    WriteConfig {
        path: std::path::PathBuf,
        source: std::io::Error,
    },
    #[error("cannot write to standard output: {0}")]
    Output(#[from] std::io::Error),
    #[error(transparent)]
    Serve(#[from] ServeError),
    #[error(transparent)]
    User(#[from] UserError),
    #[error(transparent)]
    Keys(#[from] KeysError),
    #[error(transparent)]
    Demo(#[from] DemoError),
}

impl Failure {
    /// See the module.
    pub(crate) fn exit_code(&self) -> ExitCode {
        match self {
            Self::Config(_) | Self::User(UserError::Config(_)) | Self::Keys(KeysError::Config(_)) => CONFIG.into(),
            Self::Serve(error) | Self::User(UserError::Serve(error)) | Self::Keys(KeysError::Serve(error)) => {
                Self::of_server(error)
            }
            _ => ExitCode::FAILURE,
        }
    }

    fn of_server(error: &ServeError) -> ExitCode {
        match error {
            ServeError::Tls(_)
            | ServeError::Authority(_)
            | ServeError::OtherName { .. }
            | ServeError::Keys { .. }
            | ServeError::Config(_)
            | ServeError::Federation { .. } => CONFIG.into(),
            ServeError::StoreInUse { .. } | ServeError::AddressInUse { .. } | ServeError::Bind { .. } => {
                UNAVAILABLE.into()
            }
            ServeError::NewerStore { .. } | ServeError::Store { .. } => DATA.into(),
            _ => ExitCode::FAILURE,
        }
    }
}

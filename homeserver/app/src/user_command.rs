//! placeholder
use crate::cli::AddUserArguments;
use crate::config::LoadError;
use crate::serve::ServeError;
#[derive(Debug, thiserror::Error)]
pub(crate) enum UserError {
    #[error(transparent)]
    Config(#[from] LoadError),
    #[error(transparent)]
    Serve(#[from] ServeError),
}
pub(crate) fn add(_: &AddUserArguments) -> Result<(), UserError> {
    Ok(())
}

//! Login with a password.

use crate::{Accounts, DeviceError, Network, NewDevice, NewSession, ProofError, login_limiter::Source};

/// A login. It holds a password: must not be logged (hence no `Debug`).
pub struct LoginRequest {
    /// Local part or full user ID, as the user typed it.
    pub user: String,
    /// The password.
    pub password: String,
    /// The device of the new session.
    pub device: NewDevice,
    /// The network that the request comes from, if known: failures are counted by it.
    pub network: Option<Network>,
}

/// The reason why a login failed.
#[derive(Debug, thiserror::Error)]
pub enum LoginError {
    /// The name or the password is wrong, or too many attempts failed.
    #[error(transparent)]
    Proof(#[from] ProofError),
    /// The session can't begin.
    #[error(transparent)]
    Device(#[from] DeviceError),
}

impl Accounts {
    /// Logs in with a password.
    ///
    /// # Errors
    /// If the name or the password is wrong, too many attempts failed, or the device is not valid.
    pub async fn login(&self, request: LoginRequest) -> Result<NewSession, LoginError> {
        request.device.check()?;
        let network = request.network;
        let user = self.user_id(&request.user).map_err(|_| ProofError::Denied)?;
        let proved = self
            .check_password(&user, &request.password, (Source::Network(network), network))
            .await?;
        // A session must not begin with a password that was changed during the check: the change has already ended all
        // sessions.
        let unchanged = |password: Option<&String>| password == proved.as_ref();
        let session = self.begin_session_if(&user, request.device, unchanged).await?;
        session.ok_or_else(|| ProofError::Denied.into())
    }
}

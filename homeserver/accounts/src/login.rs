//! Signing in with a password.

use crate::{Accounts, DeviceError, Network, NewDevice, NewSession, ProofError, login_limiter::Place};

/// A sign-in. Holds a password: must not be logged (hence no `Debug`).
pub struct LoginRequest {
    /// Local part or full id, as the person typed it.
    pub user: String,
    /// The password.
    pub password: String,
    /// The device to sign in.
    pub device: NewDevice,
    /// Where the request comes from, if known: failures are counted by it.
    pub network: Option<Network>,
}

/// Why a sign-in failed.
#[derive(Debug, thiserror::Error)]
pub enum LoginError {
    /// Name and password don't fit, or too many attempts failed.
    #[error(transparent)]
    Proof(#[from] ProofError),
    /// The session can't begin.
    #[error(transparent)]
    Device(#[from] DeviceError),
}

impl Accounts {
    /// Signs in with a password.
    ///
    /// # Errors
    /// When name and password don't fit, too many attempts failed, or the device can't be used.
    pub async fn login(&self, request: LoginRequest) -> Result<NewSession, LoginError> {
        request.device.check()?;
        let network = request.network;
        let user = self.user_id(&request.user).map_err(|_| ProofError::Denied)?;
        let proved = self
            .check_password(&user, &request.password, (Place::Network(network), network))
            .await?;
        // A session must not begin with a password that was changed while it was checked: whoever changed it has ended all
        // sessions by then.
        let still_right = |password: Option<&String>| password == proved.as_ref();
        let session = self.begin_session_if(&user, request.device, still_right).await?;
        session.ok_or_else(|| ProofError::Denied.into())
    }
}

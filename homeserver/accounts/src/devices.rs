//! A user's devices: listing and renaming them. Must not return tokens.

use ruma::{DeviceId, OwnedDeviceId, UserId};
use weft_store::{
    Batch, CommitError,
    tables::accounts::{DEVICES, DeviceRow},
};
use weft_wire::limits::{MAX_DEVICE_ID_BYTES, MAX_DEVICE_NAME_BYTES};

use crate::{ATTEMPTS, Accounts, AccountsUnavailable};

/// The reason why a device was not created or changed.
#[derive(Debug, thiserror::Error)]
pub enum DeviceError {
    /// The ID is empty or longer than the limit.
    #[error("a device ID has 1 to {MAX_DEVICE_ID_BYTES} bytes")]
    Id,
    /// The name is longer than the limit.
    #[error("a device name has at most {MAX_DEVICE_NAME_BYTES} bytes")]
    NameTooLong,
    /// The store failed.
    #[error(transparent)]
    Unavailable(#[from] AccountsUnavailable),
}

pub(crate) fn check_name(name: Option<&str>) -> Result<(), DeviceError> {
    if name.is_some_and(|name| name.len() > MAX_DEVICE_NAME_BYTES) {
        return Err(DeviceError::NameTooLong);
    }
    Ok(())
}

/// A device, without secrets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeviceInfo {
    /// The device ID.
    pub device_id: OwnedDeviceId,
    /// The name that the user gave it.
    pub display_name: Option<String>,
    /// Time of the login, in milliseconds since 1970.
    pub created_at_ms: u64,
}

impl Accounts {
    /// Returns all devices of a user.
    ///
    /// # Errors
    /// If the store fails.
    pub async fn devices(&self, user: &UserId) -> Result<Vec<DeviceInfo>, AccountsUnavailable> {
        let rows = self.store().scan_all(DEVICES.under(&(user,))).await?;
        Ok(rows.into_iter().map(|((_, id), row)| info(id, row)).collect())
    }

    /// Returns one device.
    ///
    /// # Errors
    /// If the store fails.
    pub async fn device(&self, user: &UserId, device: &DeviceId) -> Result<Option<DeviceInfo>, AccountsUnavailable> {
        let row = self.store().get(&DEVICES, &(user, device)).await?;
        Ok(row.map(|row| info(device.to_owned(), row)))
    }

    /// Sets the display name of a device. Returns false if there is no such device.
    ///
    /// # Errors
    /// If the name is too long or the store fails.
    pub async fn rename_device(
        &self,
        user: &UserId,
        device: &DeviceId,
        name: Option<String>,
    ) -> Result<bool, DeviceError> {
        check_name(name.as_deref())?;
        for _ in 0..ATTEMPTS {
            let before = self.store().get(&DEVICES, &(user, device)).await;
            let Some(before) = before.map_err(AccountsUnavailable::from)? else {
                return Ok(false);
            };
            let mut batch = Batch::new();
            batch.require(&DEVICES, &(user, device), Some(&before));
            batch.put(
                &DEVICES,
                &(user, device),
                &DeviceRow {
                    display_name: name.clone(),
                    ..before
                },
            );
            match self.store().commit(batch).await {
                Ok(()) => return Ok(true),
                Err(CommitError::Fence { .. }) => {}
                Err(error) => return Err(AccountsUnavailable::from(error).into()),
            }
        }
        Err(AccountsUnavailable::Contended.into())
    }
}

fn info(device_id: OwnedDeviceId, row: DeviceRow) -> DeviceInfo {
    DeviceInfo {
        device_id,
        display_name: row.display_name,
        created_at_ms: row.created_at,
    }
}

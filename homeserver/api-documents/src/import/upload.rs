//! Uploads a file that was in an imported one, as a file of the user. Must not fail an import because of one file that the
//! server does not accept.

use ruma::UserId;
use weft_http::errors::ApiResult;
use weft_media::{Declared, Media, MediaError};

/// The `mxc` URI of the file, once it is on disk; `None` if its size, its type or the quota does not allow it.
///
/// # Errors
/// When the stores fail, or the user has too many uploads in progress.
pub(super) async fn upload(
    media: &Media,
    user: &UserId,
    declared: Declared,
    bytes: &[u8],
) -> ApiResult<Option<String>> {
    match stored(media, user, declared, bytes).await {
        Ok(uri) => Ok(Some(uri)),
        Err(MediaError::TooLarge { .. } | MediaError::QuotaExceeded { .. } | MediaError::TypeNotAllowed { .. }) => {
            Ok(None)
        }
        Err(error) => Err(error.into()),
    }
}

async fn stored(media: &Media, user: &UserId, declared: Declared, bytes: &[u8]) -> Result<String, MediaError> {
    let length = u64::try_from(bytes.len()).ok();
    let mut upload = media.begin_upload(user, declared, None, length).await?;
    upload.write(bytes).await?;
    let id = upload.finish().await?;
    Ok(format!("mxc://{}/{id}", media.server_name()))
}

//! The ports of media: thumbnails by render workers, and the files of other servers through the federation client. Must not
//! decide who may have a file.

use async_trait::async_trait;
use bytes::Bytes;
use ruma::{ServerName, UserId};
use weft_federation::{CallError, Client, Initiator};
use weft_media::{
    RemoteError, RemoteFile, RemoteMedia, Thumbnail, ThumbnailError, ThumbnailMethod, ThumbnailSize, Thumbnailer,
};
use weft_render::{ImageFormat, Pool, RenderError, ThumbnailRequest};

/// Makes thumbnails with a pool of render workers.
pub(crate) struct WorkerThumbnails(pub(crate) Pool);

#[async_trait]
impl Thumbnailer for WorkerThumbnails {
    async fn thumbnail(&self, name: &str, image: Bytes, size: ThumbnailSize) -> Result<Thumbnail, ThumbnailError> {
        let request = ThumbnailRequest {
            image,
            width: size.width,
            height: size.height,
            crop: size.method == ThumbnailMethod::Crop,
        };
        let made = self.0.thumbnail(name, request).await.map_err(not_made)?;
        Ok(Thumbnail {
            bytes: made.image,
            content_type: match made.format {
                ImageFormat::Png => "image/png",
                ImageFormat::Jpeg => "image/jpeg",
            },
        })
    }
}

fn not_made(error: RenderError) -> ThumbnailError {
    match error {
        RenderError::Busy { retry_after } => ThumbnailError::Busy { retry_after },
        RenderError::ImageTooLarge | RenderError::TooLarge { .. } => ThumbnailError::TooLarge,
        RenderError::TimedOut { .. } | RenderError::NotRendered { .. } | RenderError::Refused { .. } => {
            ThumbnailError::Undecodable
        }
        // The pool logs the cause.
        RenderError::Unavailable { .. } => ThumbnailError::Unavailable,
    }
}

/// The files of other servers.
pub(crate) struct FederationMedia(pub(crate) Client);

#[async_trait]
impl RemoteMedia for FederationMedia {
    async fn open(&self, user: &UserId, server: &ServerName, id: &str) -> Result<RemoteFile, RemoteError> {
        let initiator = Initiator::User(user.to_owned());
        let file = self.0.media(&initiator, server, id).await;
        let file = file.map_err(|error| not_received(server, id, &error))?;
        Ok(RemoteFile {
            content_type: file.content_type,
            name: file.name,
            body: file.body,
        })
    }
}

fn not_received(server: &ServerName, id: &str, error: &CallError) -> RemoteError {
    tracing::debug!(%server, id, %error, "a file of another server was not received");
    match error {
        CallError::Busy => RemoteError::Busy,
        CallError::Refused { error, .. } if error.status == 404 => RemoteError::NotFound,
        CallError::Refused { error, .. } if error.errcode == "M_NOT_YET_UPLOADED" => RemoteError::NotYetUploaded,
        error if error.unreachable().is_some() => RemoteError::Unreachable {
            server: server.to_owned(),
        },
        _ => RemoteError::Unusable,
    }
}

//! Thumbnails: the sizes that are made, and their storage with the files. A request for another size gets the next larger one,
//! so a file has at most as many thumbnails as there are sizes. Must not decode images.

use bytes::BytesMut;
use futures_util::TryStreamExt as _;
use weft_store::{
    Batch,
    tables::media::{MEDIA_THUMBNAILS, ThumbnailRow},
};
use weft_wire::limits::MAX_THUMBNAIL_SOURCE_BYTES;

use crate::{Area, BlobKey, Found, Media, MediaError, ThumbnailError, kind};

/// How an image is fitted into a size.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ThumbnailMethod {
    /// The size is filled; what exceeds it is cut off.
    Crop,
    /// The whole image is in the size.
    Scale,
}

/// The size of a thumbnail, pixels.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ThumbnailSize {
    /// Greatest width.
    pub width: u32,
    /// Greatest height.
    pub height: u32,
    /// How the image is fitted.
    pub method: ThumbnailMethod,
}

/// The sizes that the Matrix specification recommends, the smallest first.
const SIZES: [ThumbnailSize; 5] = [
    size(32, 32, ThumbnailMethod::Crop),
    size(96, 96, ThumbnailMethod::Crop),
    size(320, 240, ThumbnailMethod::Scale),
    size(640, 480, ThumbnailMethod::Scale),
    size(800, 600, ThumbnailMethod::Scale),
];

const fn size(width: u32, height: u32, method: ThumbnailMethod) -> ThumbnailSize {
    ThumbnailSize { width, height, method }
}

impl ThumbnailSize {
    /// The size that is made for a request: the smallest of this method that is large enough, otherwise of any method,
    /// otherwise the largest.
    #[must_use]
    pub fn made(self) -> Self {
        let enough = |made: &&Self| made.width >= self.width && made.height >= self.height;
        let same = SIZES.iter().filter(|made| made.method == self.method).find(enough);
        let found = same.or_else(|| SIZES.iter().find(enough)).or(SIZES.last());
        found.copied().unwrap_or(self)
    }

    fn name(self) -> String {
        let method = match self.method {
            ThumbnailMethod::Crop => "crop",
            ThumbnailMethod::Scale => "scale",
        };
        format!("{}x{}-{method}", self.width, self.height)
    }
}

/// The name of a thumbnail in the media store.
fn key(of: &BlobKey, size: ThumbnailSize) -> BlobKey {
    BlobKey::new(
        Area::Thumbnail,
        &format!("{}.{}.{}", of.name(), of.area().name(), size.name()),
    )
}

/// The row of a thumbnail. Content ids and names in the cache are hashes of different things, and never equal.
fn row_key(of: &BlobKey, size: ThumbnailSize) -> (String, String) {
    (of.name().to_owned(), size.name())
}

impl Media {
    /// A thumbnail of a file: stored, or made and stored now.
    ///
    /// # Errors
    /// The file is no image that can be decoded within the limits, too many are being decoded, or a store failed.
    pub async fn thumbnail(&self, of: &Found, size: ThumbnailSize) -> Result<Found, MediaError> {
        let size = size.made();
        if let Some(found) = self.stored_thumbnail(of, size).await? {
            return Ok(found);
        }
        let _one = self.inner.locks.lock_in_time(&format!("thumbnail {}", of.key)).await?;
        if let Some(found) = self.stored_thumbnail(of, size).await? {
            return Ok(found);
        }
        if of.size > MAX_THUMBNAIL_SOURCE_BYTES {
            return Err(ThumbnailError::TooLarge.into());
        }
        let _bytes = self.inner.thumbnail_bytes.try_take(of.size)?;
        let parts = self.read(of, 0..of.size).await?;
        let image = parts.try_fold(BytesMut::new(), |mut image, part| async move {
            image.extend_from_slice(&part);
            Ok(image)
        });
        let image = image.await?.freeze();
        if kind::image_type(&image).is_none() {
            return Err(ThumbnailError::NotAnImage.into());
        }
        let made = self.inner.thumbnails.thumbnail(of.key.name(), image, size).await?;
        let mut spool = self.inner.incoming.create(u64::MAX).await?;
        spool.write(&made.bytes).await?;
        let complete = spool.finish().await?;
        self.inner.blobs.put(&key(&of.key, size), &complete.path).await?;
        let row = ThumbnailRow {
            size: complete.size,
            content_type: made.content_type.to_owned(),
        };
        let mut batch = Batch::new();
        batch.put(&MEDIA_THUMBNAILS, &row_key(&of.key, size), &row);
        self.inner.store.commit(batch).await?;
        Ok(found(of, size, row))
    }

    async fn stored_thumbnail(&self, of: &Found, size: ThumbnailSize) -> Result<Option<Found>, MediaError> {
        let row = self.inner.store.get(&MEDIA_THUMBNAILS, &row_key(&of.key, size)).await?;
        Ok(row.map(|row| found(of, size, row)))
    }

    /// Removes all thumbnails of a file, also those whose row was not written.
    pub(crate) async fn remove_thumbnails(&self, of: &BlobKey) -> Result<(), MediaError> {
        let mut batch = Batch::new();
        for size in SIZES {
            self.inner.blobs.delete(&key(of, size)).await?;
            batch.delete(&MEDIA_THUMBNAILS, &row_key(of, size));
        }
        Ok(self.inner.store.commit(batch).await?)
    }
}

fn found(of: &Found, size: ThumbnailSize, row: ThumbnailRow) -> Found {
    Found {
        key: key(&of.key, size),
        size: row.size,
        content_type: row.content_type,
        name: None,
        tag: format!("{}-{}", of.tag, size.name()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_gets_the_next_larger_size() {
        let made = |width, height, method| {
            let made = size(width, height, method).made();
            (made.width, made.height, made.method)
        };
        use ThumbnailMethod::{Crop, Scale};
        assert_eq!(made(1, 1, Crop), (32, 32, Crop));
        assert_eq!(made(33, 10, Crop), (96, 96, Crop));
        assert_eq!(made(97, 97, Crop), (320, 240, Scale));
        assert_eq!(made(1, 1, Scale), (320, 240, Scale));
        assert_eq!(made(321, 240, Scale), (640, 480, Scale));
        assert_eq!(made(u32::MAX, 1, Scale), (800, 600, Scale));
    }
}

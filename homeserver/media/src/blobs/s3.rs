//! The media store in a bucket of an S3 service. Must not hold more of a file in memory than one part: files are written and
//! read part by part, each in a request with a deadline.

use std::{fmt, io, ops::Range, path::Path};

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use futures_util::{StreamExt as _, stream::try_unfold};
use object_store::{
    MultipartUpload, ObjectStoreExt as _, PutPayload,
    aws::{AmazonS3, AmazonS3Builder},
    path::Path as ObjectPath,
};
use tokio::{fs::File, io::AsyncReadExt as _};
use weft_wire::limits::{MEDIA_PART_BYTES, MEDIA_READ_BYTES};

use super::{BlobError, BlobKey, BlobStream, Blobs};

/// How the bucket is reached.
#[derive(Clone)]
pub struct S3Settings {
    /// The URL of the service, without the bucket.
    pub endpoint: String,
    /// The bucket.
    pub bucket: String,
    /// The region.
    pub region: String,
    /// The id of the access key.
    pub access_key_id: String,
    /// The access key.
    pub secret_access_key: String,
    /// What the names of all objects begin with, so that a bucket can be shared; may be empty.
    pub prefix: String,
}

impl fmt::Debug for S3Settings {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("S3Settings")
            .field("endpoint", &self.endpoint)
            .field("bucket", &self.bucket)
            .finish_non_exhaustive()
    }
}

/// See the module.
#[derive(Debug, Clone)]
pub struct S3Blobs {
    bucket: AmazonS3,
    prefix: String,
}

impl S3Blobs {
    /// A bucket. Nothing is requested yet. A provider of cryptography must be installed for `rustls`.
    ///
    /// # Errors
    /// The settings can't be used.
    pub fn new(settings: &S3Settings) -> Result<Self, BlobError> {
        let bucket = AmazonS3Builder::new()
            .with_endpoint(&settings.endpoint)
            .with_allow_http(settings.endpoint.starts_with("http://"))
            .with_bucket_name(&settings.bucket)
            .with_region(&settings.region)
            .with_access_key_id(&settings.access_key_id)
            .with_secret_access_key(&settings.secret_access_key)
            .build()?;
        Ok(Self {
            bucket,
            prefix: settings.prefix.trim_matches('/').to_owned(),
        })
    }

    fn path(&self, key: &BlobKey) -> ObjectPath {
        ObjectPath::from(format!("{}/{key}", self.prefix))
    }
}

fn missing(error: object_store::Error, key: &BlobKey) -> BlobError {
    match error {
        object_store::Error::NotFound { .. } => BlobError::Missing { key: key.clone() },
        error => error.into(),
    }
}

/// The next part of a file, shorter than [`MEDIA_PART_BYTES`] only at its end.
async fn next_part(file: &mut File) -> io::Result<Bytes> {
    let size = usize::try_from(MEDIA_PART_BYTES).unwrap_or(usize::MAX);
    let mut part = BytesMut::with_capacity(size);
    while part.len() < size {
        let rest = (size - part.len()) as u64;
        if (&mut *file).take(rest).read_buf(&mut part).await? == 0 {
            break;
        }
    }
    Ok(part.freeze())
}

async fn put_parts(upload: &mut dyn MultipartUpload, first: Bytes, file: &mut File) -> Result<(), BlobError> {
    let mut part = first;
    while !part.is_empty() {
        upload.put_part(PutPayload::from_bytes(part)).await?;
        part = next_part(file).await?;
    }
    upload.complete().await?;
    Ok(())
}

#[async_trait]
impl Blobs for S3Blobs {
    async fn put(&self, key: &BlobKey, from: &Path) -> Result<(), BlobError> {
        let mut file = File::open(from).await?;
        let first = next_part(&mut file).await?;
        if (first.len() as u64) < MEDIA_PART_BYTES {
            self.bucket.put(&self.path(key), PutPayload::from_bytes(first)).await?;
            return Ok(());
        }
        let mut upload = self.bucket.put_multipart(&self.path(key)).await?;
        let stored = put_parts(upload.as_mut(), first, &mut file).await;
        if stored.is_err() {
            // The service keeps the parts of an upload that is neither completed nor aborted.
            if let Err(error) = upload.abort().await {
                tracing::warn!(event = "media.parts_left", %key, %error, "an incomplete upload is left in the bucket");
            }
        }
        stored
    }

    async fn read(&self, key: &BlobKey, range: Range<u64>) -> Result<BlobStream, BlobError> {
        let size = self
            .size(key)
            .await?
            .ok_or_else(|| BlobError::Missing { key: key.clone() })?;
        if range.start > range.end || range.end > size {
            return Err(BlobError::Range);
        }
        let start = (self.bucket.clone(), self.path(key), range);
        let parts = try_unfold(start, |(bucket, path, range)| async move {
            if range.is_empty() {
                return Ok(None);
            }
            let end = range.end.min(range.start.saturating_add(MEDIA_READ_BYTES));
            let part = bucket
                .get_range(&path, range.start..end)
                .await
                .map_err(io::Error::other)?;
            if part.is_empty() {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            let next = range.start.saturating_add(part.len() as u64);
            Ok(Some((part, (bucket, path, next..range.end))))
        });
        Ok(parts.boxed())
    }

    async fn size(&self, key: &BlobKey) -> Result<Option<u64>, BlobError> {
        match self
            .bucket
            .head(&self.path(key))
            .await
            .map_err(|error| missing(error, key))
        {
            Ok(object) => Ok(Some(object.size)),
            Err(BlobError::Missing { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    async fn delete(&self, key: &BlobKey) -> Result<(), BlobError> {
        match self
            .bucket
            .delete(&self.path(key))
            .await
            .map_err(|error| missing(error, key))
        {
            Ok(()) | Err(BlobError::Missing { .. }) => Ok(()),
            Err(error) => Err(error),
        }
    }
}

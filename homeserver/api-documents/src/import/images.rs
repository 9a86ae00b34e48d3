//! The images that are in an imported file: `data:` URIs in HTML and Markdown, and the pictures of office files. They are
//! uploaded as files of the user, and the text gets their `mxc` URIs. What is not uploaded stays, and is then left out and
//! listed by the reader of the text.
//!
//! Must not request an image that is elsewhere.

use std::{collections::BTreeMap, fmt::Write as _};

use base64::{Engine as _, engine::general_purpose::STANDARD_NO_PAD};
use bytes::Bytes;
use ruma::UserId;
use tokio::task::spawn_blocking;
use weft_http::errors::ApiResult;
use weft_media::{Declared, Media};
use weft_wire::limits::{MAX_IMPORT_BYTES, MAX_IMPORT_IMAGES};

use super::upload::upload;
use crate::archive::{ArchiveError, ArchiveReader};

/// How a `data:` URI of an image begins.
const DATA_IMAGE: &str = "data:image/";
/// The folder of a DOCX file under which its pictures have the names that pandoc gives them.
const OFFICE_FOLDER: &str = "word/";
/// The folder of pictures in it.
const PICTURES: &str = "media/";
/// Bytes of all pictures of an office file: compressing them again saves little, so they have about the size of the file.
const PICTURES_BYTES: usize = 4 * MAX_IMPORT_BYTES;

/// Uploads the `data:` images of a text.
///
/// # Errors
/// When the media store fails.
pub(super) async fn in_text(media: &Media, user: &UserId, file: Bytes) -> ApiResult<Bytes> {
    // Text that is not UTF-8 is refused by the reader.
    let Ok(text) = std::str::from_utf8(&file) else {
        return Ok(file);
    };
    let (mut out, mut rest, mut images) = (String::new(), text, 0);
    while let Some((before, uri, after)) = next_data_image(rest) {
        out.push_str(before);
        let uploaded = match decoded(uri) {
            Some((kind, bytes)) if images < MAX_IMPORT_IMAGES => {
                images += 1;
                upload(media, user, Declared::new(Some(kind), None), &bytes).await?
            }
            _ => None,
        };
        out.push_str(uploaded.as_deref().unwrap_or(uri));
        rest = after;
    }
    if images == 0 {
        return Ok(file);
    }
    out.push_str(rest);
    Ok(out.into())
}

/// The first `data:` URI of an image, with the text before and after it.
fn next_data_image(text: &str) -> Option<(&str, &str, &str)> {
    let start = text.find(DATA_IMAGE)?;
    let uri = text.get(start..)?;
    let is_part = |byte: &u8| byte.is_ascii_alphanumeric() || b":/+-.;,=%".contains(byte);
    let end = start + uri.bytes().take_while(is_part).count();
    Some((text.get(..start)?, text.get(start..end)?, text.get(end..)?))
}

/// The type and the bytes of an image that documents show.
fn decoded(uri: &str) -> Option<(&str, Vec<u8>)> {
    let (kind, bytes) = uri.strip_prefix("data:")?.split_once(";base64,")?;
    if !["image/png", "image/jpeg", "image/gif", "image/webp"].contains(&kind) {
        return None;
    }
    let bytes = STANDARD_NO_PAD.decode(bytes.trim_end_matches('=')).ok()?;
    Some((kind, bytes))
}

/// Uploads the pictures of an office file, and gives their addresses to the HTML that pandoc made of it.
///
/// # Errors
/// When the media store fails. A file whose pictures can't be read has none.
pub(super) async fn of_office_file(media: &Media, user: &UserId, html: &Bytes, file: Bytes) -> ApiResult<Bytes> {
    let source = format!("src=\"{PICTURES}");
    let text = String::from_utf8_lossy(html);
    if !text.contains(&source) {
        return Ok(html.clone());
    }
    let pictures = spawn_blocking(move || pictures(file)).await;
    let pictures = pictures.ok().and_then(Result::ok).unwrap_or_default();
    let mut addresses = BTreeMap::new();
    for (name, bytes) in &pictures {
        if let Some(uri) = upload(media, user, Declared::new(kind_of(name), Some(name)), bytes).await? {
            addresses.insert(name.as_str(), uri);
        }
    }
    let mut parts = text.split(&source);
    let mut out = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let (name, rest) = part.split_once('"').unwrap_or((part, ""));
        let _ = match addresses.get(name) {
            Some(uri) => write!(out, "src=\"{uri}\"{rest}"),
            None => write!(out, "{source}{part}"),
        };
    }
    Ok(out.into())
}

/// The pictures of a DOCX file by name, as far as they are within the limits.
pub(super) fn pictures(file: Bytes) -> Result<BTreeMap<String, Vec<u8>>, ArchiveError> {
    let archive = ArchiveReader::of_bytes(file)?;
    let (mut found, mut left) = (BTreeMap::new(), PICTURES_BYTES);
    for file in archive.names() {
        let name = file
            .strip_prefix(OFFICE_FOLDER)
            .and_then(|name| name.strip_prefix(PICTURES));
        let Some(name) = name else { continue };
        if found.len() >= MAX_IMPORT_IMAGES {
            break;
        }
        if let Ok(bytes) = archive.read(file, left) {
            left = left.saturating_sub(bytes.len());
            found.insert(name.to_owned(), bytes);
        }
    }
    Ok(found)
}

/// The text again, made of what is before, in and after each image.
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) fn with_each_image_replaced_by_itself(text: &str) -> String {
    let (mut out, mut rest) = (String::new(), text);
    while let Some((before, uri, after)) = next_data_image(rest) {
        drop(decoded(uri));
        out.push_str(before);
        out.push_str(uri);
        rest = after;
    }
    out + rest
}

fn kind_of(name: &str) -> Option<&'static str> {
    match name.rsplit('.').next()? {
        "png" => Some("image/png"),
        "jpg" | "jpeg" => Some("image/jpeg"),
        "gif" => Some("image/gif"),
        "webp" => Some("image/webp"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn data_images_are_found_and_decoded() {
        let text = "<img src=\"data:image/png;base64,aGVsbG8=\"> ![](data:image/gif;base64,aGVsbG8) data:image/";
        let (before, uri, after) = next_data_image(text).unwrap();
        assert_eq!((before, uri), ("<img src=\"", "data:image/png;base64,aGVsbG8="));
        assert_eq!(decoded(uri), Some(("image/png", b"hello".to_vec())));
        let (before, uri, after) = next_data_image(after).unwrap();
        assert_eq!((before, uri), ("\"> ![](", "data:image/gif;base64,aGVsbG8"));
        assert_eq!(decoded(uri), Some(("image/gif", b"hello".to_vec())));
        assert_eq!(next_data_image(after).map(|(_, uri, _)| uri), Some(DATA_IMAGE));
        for none in [
            "data:image/",
            "data:image/svg+xml;base64,aGVsbG8=",
            "data:image/png,x",
            "data:image/png;base64,%%",
        ] {
            assert_eq!(decoded(none), None, "{none}");
        }
    }
}

//! The images of a document that becomes an office file: a converter has no network, so those that this server has are put
//! into the HTML, and all others become their descriptions.
//!
//! Reads only HTML of this server, whose attributes have neither quotes nor angle brackets. Must not request anything from
//! another server.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use futures_util::TryStreamExt as _;
use ruma::{OwnedServerName, UserId};
use weft_http::errors::{ApiError, ApiResult};
use weft_media::{Found, Media, Wait};
use weft_wire::{limits::MAX_IMPORT_BYTES, mxc};

/// Types of images that office programs show.
const TYPES: [&str; 3] = ["image/png", "image/jpeg", "image/gif"];

/// The HTML with its images in it, within the limit of a converted file.
pub(super) async fn embedded(media: &Media, user: &UserId, html: &str) -> ApiResult<String> {
    let mut parts = html.split("<img");
    let mut out = parts.next().unwrap_or_default().to_owned();
    // The rest of the HTML must fit too. Base64 has four bytes for three.
    let mut left = MAX_IMPORT_BYTES.saturating_sub(html.len()) / 4 * 3;
    for part in parts {
        let (tag, rest) = part.split_once('>').unwrap_or((part, ""));
        let alt = attribute(tag, "alt").unwrap_or_default();
        let image = match attribute(tag, "src") {
            Some(address) => image(media, user, address, left).await?,
            None => None,
        };
        match image {
            Some((kind, bytes)) => {
                left = left.saturating_sub(bytes.len());
                let bytes = STANDARD.encode(bytes);
                out.push_str(&format!("<img src=\"data:{kind};base64,{bytes}\" alt=\"{alt}\">"));
            }
            None => out.push_str(alt),
        }
        out.push_str(rest);
    }
    Ok(out)
}

fn attribute<'a>(tag: &'a str, name: &str) -> Option<&'a str> {
    let (_, value) = tag.split_once(&format!(" {name}=\""))?;
    value.split('"').next()
}

/// An image that this server has, of at most `limit` bytes.
async fn image(media: &Media, user: &UserId, address: &str, limit: usize) -> ApiResult<Option<(String, Vec<u8>)>> {
    let here = Wait {
        at_most: std::time::Duration::ZERO,
        fetch: false,
    };
    let Some((server, id)) = mxc::parts(address) else {
        return Ok(None);
    };
    let Ok(server) = OwnedServerName::try_from(server) else {
        return Ok(None);
    };
    let Ok(found) = media.find(user, &server, id, here).await else {
        return Ok(None);
    };
    let fits = usize::try_from(found.size).is_ok_and(|size| size <= limit);
    if !fits || !TYPES.contains(&&*found.content_type) {
        return Ok(None);
    }
    Ok(Some((found.content_type.clone(), whole(media, &found).await?)))
}

async fn whole(media: &Media, found: &Found) -> ApiResult<Vec<u8>> {
    let mut stream = media.read(found, 0..found.size).await?;
    let mut bytes = Vec::new();
    let failed = |error: std::io::Error| ApiError::store("Files can't be read now.", &error);
    while let Some(part) = stream.try_next().await.map_err(failed)? {
        bytes.extend_from_slice(&part);
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::attribute;

    #[test]
    fn attributes_are_those_of_the_tag() {
        let tag = " src=\"mxc://a/b\" alt=\"b &gt; c\" title=\"d\"";
        assert_eq!(attribute(tag, "src"), Some("mxc://a/b"));
        assert_eq!(attribute(tag, "alt"), Some("b &gt; c"));
        assert_eq!(attribute(" alt=\"y\"", "src"), None);
    }
}

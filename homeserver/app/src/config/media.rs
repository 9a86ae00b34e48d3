//! `[media]`: where uploaded files are stored, and limits on them. Must not show the key of the object store.

use weft_media::{MediaSettings, S3Settings};

use super::source::Fields;

/// See the module.
#[derive(Clone, Debug, Default)]
pub(crate) struct Media {
    /// Limits.
    pub(crate) settings: MediaSettings,
    /// The bucket; `None`: files are in the data directory.
    pub(crate) s3: Option<S3Settings>,
}

/// The longest time in the cache: a hundred years, so that sums of times stay in range.
const MAX_DAYS: u64 = 36_525;

/// See the module.
pub(super) fn read(mut fields: Fields<'_>) -> Media {
    let mut settings = MediaSettings::default();
    for (name, value) in [
        ("max_upload_bytes", &mut settings.max_upload_bytes),
        ("bytes_per_user", &mut settings.bytes_per_user),
        ("bytes", &mut settings.bytes),
        ("cache_bytes", &mut settings.cache_bytes),
        ("cache_days", &mut settings.cache_days),
    ] {
        if let Some(found) = fields.count(name) {
            *value = found.value as u64;
            if name == "cache_days" && *value > MAX_DAYS {
                fields.wrong(name, &found.origin, format!("is more than {MAX_DAYS}"));
            }
        }
    }
    if let Some(days) = fields.days("unnamed_days") {
        settings.unnamed_days = days;
    }
    if let Some(found) = fields.texts("allowed_types") {
        if let Some(wrong) = found.value.iter().find(|allowed| !is_type(allowed)) {
            let message = format!("{wrong:?} is neither a type in lower case like \"image/png\" nor \"image/*\"");
            fields.wrong("allowed_types", &found.origin, message);
        }
        settings.allowed_types = found.value;
    }
    let s3 = s3(fields.section("s3"));
    fields.finish();
    Media { settings, s3 }
}

fn is_type(text: &str) -> bool {
    let is_part =
        |part: &str| !part.is_empty() && !part.contains(|c: char| c.is_uppercase() || c.is_whitespace() || c == '/');
    text.split_once('/')
        .is_some_and(|(kind, subtype)| is_part(kind) && is_part(subtype))
}

fn s3(mut fields: Fields<'_>) -> Option<S3Settings> {
    let mut text = |name: &str| fields.text(name).map(|found| found.value).unwrap_or_default();
    let settings = S3Settings {
        endpoint: text("endpoint"),
        bucket: text("bucket"),
        region: text("region"),
        access_key_id: text("access_key_id"),
        secret_access_key: text("secret_access_key"),
        prefix: text("prefix"),
    };
    let is_wanted = !settings.endpoint.is_empty();
    if is_wanted {
        for (name, value, meaning) in [
            ("bucket", &settings.bucket, "the name of the bucket"),
            ("access_key_id", &settings.access_key_id, "the id of the access key"),
            ("secret_access_key", &settings.secret_access_key, "the access key"),
        ] {
            if value.is_empty() {
                fields.missing(name, meaning);
            }
        }
        let origin = fields.origin_of("endpoint");
        if !settings.endpoint.starts_with("https://") && !settings.endpoint.starts_with("http://") {
            fields.wrong(
                "endpoint",
                &origin,
                "must be a URL that begins with https:// or http://".to_owned(),
            );
        }
    }
    fields.finish();
    is_wanted.then_some(S3Settings {
        region: if settings.region.is_empty() {
            "us-east-1".to_owned()
        } else {
            settings.region
        },
        ..settings
    })
}

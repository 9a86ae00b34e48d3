//! Which URLs a webhook may have. Must not resolve a name: that is checked when the connection is made.

use std::net::IpAddr;

use reqwest::Url;
use weft_federation::DenyList;
use weft_wire::limits::MAX_WEBHOOK_URL_BYTES;

use crate::WebhookError;

/// Checks a URL as far as it is possible without DNS.
pub(crate) fn check(url: &str, addresses: &DenyList) -> Result<Url, WebhookError> {
    let wrong = WebhookError::Url;
    if url.len() > MAX_WEBHOOK_URL_BYTES {
        return Err(wrong("is too long"));
    }
    let url = Url::parse(url).map_err(|_| wrong("is not valid"))?;
    if !matches!(url.scheme(), "https" | "http") {
        return Err(wrong("must begin with https://"));
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err(wrong("must not contain a user name or a password"));
    }
    if url.fragment().is_some() {
        return Err(wrong("must not have a fragment"));
    }
    let host = url.host_str().filter(|host| !host.is_empty());
    let host = host.ok_or(wrong("has no host"))?;
    let is_plain = url.scheme() == "http";
    match literal(host) {
        Some(address) if is_plain && !addresses.is_exception(address) => Err(wrong("must begin with https://")),
        Some(address) if !addresses.allows(address) => Err(wrong("has an address that is not allowed")),
        // Whether its addresses are allowed is known when it is resolved.
        None if is_plain && !addresses.has_exceptions() => Err(wrong("must begin with https://")),
        _ => Ok(url),
    }
}

/// The address that a host is, if it is one. IPv6 addresses are in brackets.
pub(crate) fn literal(host: &str) -> Option<IpAddr> {
    let inner = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    inner.unwrap_or(host).parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_https_to_public_addresses_is_accepted_unless_the_operator_allows_more() {
        let none = DenyList::default();
        let private = DenyList::new(vec!["10.0.0.0/8".parse().unwrap()]);
        for (url, public, allowed) in [
            ("https://hooks.example/x?y=z", true, true),
            ("https://hooks.example:8443/", true, true),
            ("https://1.1.1.1/", true, true),
            ("https://[2606:4700::1111]/", true, true),
            ("http://hooks.example/", false, true),
            ("http://1.1.1.1/", false, false),
            ("https://127.0.0.1/", false, false),
            ("https://2130706433/", false, false),
            ("https://0x7f.1/", false, false),
            ("https://[::1]/", false, false),
            ("https://[::ffff:10.1.1.1]/", false, true),
            ("https://169.254.169.254/latest/meta-data", false, false),
            ("https://10.1.1.1/", false, true),
            ("http://10.1.1.1/", false, true),
            ("ftp://hooks.example/", false, false),
            ("file:///etc/passwd", false, false),
            ("https://user@hooks.example/", false, false),
            ("https://user:password@hooks.example/", false, false),
            ("https://hooks.example/#part", false, false),
            ("hooks.example", false, false),
            ("https://", false, false),
            ("", false, false),
        ] {
            assert_eq!(check(url, &none).is_ok(), public, "{url}");
            assert_eq!(check(url, &private).is_ok(), allowed, "{url} with an exception");
        }
        let long = format!("https://hooks.example/{}", "x".repeat(MAX_WEBHOOK_URL_BYTES));
        assert!(check(&long, &none).is_err());
    }
}

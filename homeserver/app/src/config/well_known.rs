//! `[well_known]`: the content of `/.well-known/matrix`, for servers whose host name is not their server name. Must not
//! look up the names.

use super::source::Fields;

/// See the module.
#[derive(Clone, Debug, Default)]
pub(crate) struct WellKnown {
    /// Base URL for clients, like `https://matrix.example.org`.
    pub(crate) client: Option<String>,
    /// Host for other servers, like `matrix.example.org:443`.
    pub(crate) server: Option<String>,
}

/// See the module.
pub(super) fn read(mut fields: Fields<'_>) -> WellKnown {
    let client = fields.text("client");
    if let Some(found) = client.as_ref().filter(|found| !found.value.is_empty()) {
        let usable = reqwest::Url::parse(&found.value).is_ok_and(|url| matches!(url.scheme(), "http" | "https"));
        if !usable {
            fields.wrong(
                "client",
                &found.origin,
                format!("{:?} is not a URL like \"https://matrix.example.org\"", found.value),
            );
        }
    }
    let server = fields.text("server");
    if let Some(found) = server.as_ref().filter(|found| !found.value.is_empty())
        && <&ruma::ServerName>::try_from(found.value.as_str()).is_err()
    {
        fields.wrong(
            "server",
            &found.origin,
            format!("{:?} is not a host name with an optional port", found.value),
        );
    }
    fields.finish();
    let given =
        |found: Option<super::source::Found<String>>| found.map(|found| found.value).filter(|text| !text.is_empty());
    WellKnown {
        client: given(client),
        server: given(server),
    }
}

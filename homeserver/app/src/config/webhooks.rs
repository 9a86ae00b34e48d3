//! `[webhooks]`: where events of documents may be delivered to. Must not send requests.

use ipnet::IpNet;

use super::{federation::networks, source::Fields};

/// See the module.
#[derive(Clone, Debug, Default)]
pub(crate) struct Webhooks {
    /// Private networks to which deliveries are allowed as an exception, also without TLS.
    pub(crate) allow_addresses: Vec<IpNet>,
}

/// See the module.
pub(super) fn read(mut fields: Fields<'_>) -> Webhooks {
    let allow_addresses = networks(&mut fields, "allow_addresses");
    fields.finish();
    Webhooks { allow_addresses }
}

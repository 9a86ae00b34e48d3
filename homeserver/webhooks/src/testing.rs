//! Webhooks for tests of other crates: they deliver to this machine only. Must not be used by shipped code.

use std::sync::Arc;

use ipnet::{IpNet, Ipv4Net};
use weft_accounts::Accounts;
use weft_clock::SystemClock;
use weft_federation::{ClientError, SystemNames};
use weft_room_read::Reader;
use weft_store::Store;

use crate::{ReceiverConfig, Receivers, WebhookPorts, Webhooks};

/// Webhooks to receivers on this machine, also without TLS. They deliver when they are run.
///
/// # Errors
/// When there is no TLS.
pub fn webhooks(store: Store, reader: Reader, accounts: Accounts) -> Result<Webhooks, ClientError> {
    let loopback = Ipv4Net::new_assert([127, 0, 0, 0].into(), 8);
    let receivers = Receivers::new(ReceiverConfig {
        extra_ca_certificates: Vec::new(),
        allow_addresses: vec![IpNet::V4(loopback)],
        names: Arc::new(SystemNames::new()),
    })?;
    Ok(Webhooks::new(WebhookPorts {
        store,
        reader,
        accounts,
        receivers,
        clock: Arc::new(SystemClock),
        random: rand::random,
    }))
}

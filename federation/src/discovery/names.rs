//! Name resolution of the machine: its hosts file and resolver for addresses, DNS for SRV records.

use std::{collections::BTreeSet, net::IpAddr, time::Duration};

use async_trait::async_trait;
use hickory_resolver::{TokioResolver, proto::rr::RData};

use super::{Names, Srv};

/// The timeout of one DNS query: a request to another server waits for it.
const DNS_TIMEOUT: Duration = Duration::from_secs(3);

/// The machine's resolver.
pub struct SystemNames {
    dns: Option<TokioResolver>,
}

impl SystemNames {
    /// Reads the resolver configuration of the machine. Without one there are no SRV records.
    #[must_use]
    pub fn new() -> Self {
        let built = TokioResolver::builder_tokio().and_then(|mut builder| {
            let options = builder.options_mut();
            options.timeout = DNS_TIMEOUT;
            options.attempts = 1;
            builder.build()
        });
        if let Err(error) = &built {
            tracing::warn!(
                event = "discovery.no_dns", %error,
                "no DNS configuration: servers are resolved without SRV records"
            );
        }
        Self { dns: built.ok() }
    }
}

impl Default for SystemNames {
    fn default() -> Self {
        Self::new()
    }
}

#[async_trait]
impl Names for SystemNames {
    async fn addresses(&self, host: &str) -> std::io::Result<Vec<IpAddr>> {
        let found: BTreeSet<IpAddr> = tokio::net::lookup_host((host, 0))
            .await?
            .map(|address| address.ip())
            .collect();
        Ok(found.into_iter().collect())
    }

    async fn srv(&self, name: &str) -> Vec<Srv> {
        let Some(dns) = &self.dns else { return Vec::new() };
        let answer = match tokio::time::timeout(2 * DNS_TIMEOUT, dns.srv_lookup(name)).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(error)) => {
                tracing::debug!(name, %error, "no SRV records");
                return Vec::new();
            }
            Err(_) => return Vec::new(),
        };
        let records = answer.answers().iter().filter_map(|record| match &record.data {
            RData::SRV(srv) => Some(Srv {
                priority: srv.priority,
                weight: srv.weight,
                port: srv.port,
                target: srv.target.to_string(),
            }),
            _ => None,
        });
        records.collect()
    }
}

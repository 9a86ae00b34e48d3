//! The certificates of the addresses, read again while the server runs: when SIGHUP comes and when the files change, so
//! that a renewed certificate is in use without a restart. What can't be read is reported, and the one before stays in use.
//! Connections that are open are not touched.

use std::path::Path;
use std::time::{Duration, SystemTime};

use axum_server::tls_rustls::RustlsConfig;
use tokio::signal::unix::Signal;
use tokio::time::MissedTickBehavior;

use super::tls;
use crate::config::{Invalid, Tls};

/// How often the files are looked at: renewals come weeks before the old certificate ends.
const LOOK_AGAIN: Duration = Duration::from_secs(30);

/// The certificate of one address.
struct Certificate {
    files: Tls,
    in_use: RustlsConfig,
    seen: Stamp,
}

/// By what a change of the files is noticed: when each was changed, and its length.
type Stamp = [Option<(SystemTime, u64)>; 2];

/// All certificates of the server.
#[derive(Default)]
pub(super) struct Certificates(Vec<Certificate>);

impl Certificates {
    /// Reads the certificate of an address; gives what its listener uses.
    pub(super) fn add(&mut self, files: &Tls) -> Result<RustlsConfig, Invalid> {
        // Before they are read: a change between the two is seen at the next look.
        let seen = stamp(files);
        let in_use = RustlsConfig::from_config(tls::load(files)?);
        self.0.push(Certificate {
            files: files.clone(),
            in_use: in_use.clone(),
            seen,
        });
        Ok(in_use)
    }

    /// Reads again what has changed, and everything whenever the signal comes. Never ends.
    pub(super) async fn keep_current(mut self, mut reload: Signal) {
        let mut ticks = tokio::time::interval(LOOK_AGAIN);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let all = tokio::select! {
                _ = ticks.tick() => false,
                signal = reload.recv() => signal.is_some(),
            };
            if all {
                tracing::info!("SIGHUP: reading the certificates again");
            }
            for certificate in &mut self.0 {
                certificate.read_again(all);
            }
        }
    }
}

impl Certificate {
    fn read_again(&mut self, whatever: bool) {
        let seen = stamp(&self.files);
        if seen == self.seen && !whatever {
            return;
        }
        self.seen = seen;
        match tls::load(&self.files) {
            Ok(config) => {
                self.in_use.reload_from_config(config);
                tracing::info!(certificate = %self.files.certificate.display(), "certificate read again");
            }
            Err(error) => tracing::error!(%error, "the certificate can't be read again: the one before stays in use"),
        }
    }
}

fn stamp(files: &Tls) -> Stamp {
    let of = |path: &Path| {
        let found = std::fs::metadata(path).ok()?;
        Some((found.modified().ok()?, found.len()))
    };
    [of(&files.certificate), of(&files.private_key)]
}

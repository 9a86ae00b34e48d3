//! The certificates of the addresses. They are reloaded on SIGHUP and when the files change, so that a renewed certificate
//! needs no restart. If a reload fails, this is logged and the previous certificate stays in use. Must not affect open
//! connections.

use std::path::Path;
use std::time::{Duration, SystemTime};

use axum_server::tls_rustls::RustlsConfig;
use tokio::signal::unix::Signal;
use tokio::time::MissedTickBehavior;

use super::tls;
use crate::config::{Invalid, Tls};

/// Interval of the checks for changed files: renewals happen weeks before the old certificate expires.
const CHECK_INTERVAL: Duration = Duration::from_secs(30);

/// The certificate of one address.
struct Certificate {
    files: Tls,
    in_use: RustlsConfig,
    seen: Stamp,
}

/// The modification time and length of each file, by which a change is detected.
type Stamp = [Option<(SystemTime, u64)>; 2];

/// All certificates of the server.
#[derive(Default)]
pub(super) struct Certificates(Vec<Certificate>);

impl Certificates {
    /// Reads the certificate of an address; returns the configuration for its listener.
    pub(super) fn add(&mut self, files: &Tls) -> Result<RustlsConfig, Invalid> {
        // Taken before the files are read: a change in between is detected by the next check.
        let seen = stamp(files);
        let in_use = RustlsConfig::from_config(tls::load(files)?);
        self.0.push(Certificate {
            files: files.clone(),
            in_use: in_use.clone(),
            seen,
        });
        Ok(in_use)
    }

    /// Reloads changed certificates, and all of them on the signal. Never returns.
    pub(super) async fn keep_current(mut self, mut reload: Signal) {
        let mut ticks = tokio::time::interval(CHECK_INTERVAL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let all = tokio::select! {
                _ = ticks.tick() => false,
                signal = reload.recv() => signal.is_some(),
            };
            if all {
                tracing::info!("SIGHUP: reloading the certificates");
            }
            for certificate in &mut self.0 {
                certificate.reload_all(all);
            }
        }
    }
}

impl Certificate {
    fn reload_all(&mut self, unconditionally: bool) {
        let seen = stamp(&self.files);
        if seen == self.seen && !unconditionally {
            return;
        }
        self.seen = seen;
        match tls::load(&self.files) {
            Ok(config) => {
                self.in_use.reload_from_config(config);
                tracing::info!(certificate = %self.files.certificate.display(), "certificate reloaded");
            }
            Err(error) => tracing::error!(
                event = "server.certificate_not_reloaded", %error,
                "cannot reload the certificate: the previous one stays in use"
            ),
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

//! `/health` and `/ready`, for load balancers and service managers. Answers must not reveal more than yes or no.
//!
//! `/health` answers as long as the process serves requests. `/ready` answers 200 while the store accepts commits and the
//! server is not stopping, and 503 otherwise.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use axum::{Router, extract::State, http::StatusCode, routing::get};
use tokio::{
    sync::Mutex,
    time::{Instant, timeout},
};
use weft_store::{Batch, Store};

/// How long a result of the store check is cached.
const HOLDS: Duration = Duration::from_secs(1);
/// A store that takes longer for an empty commit counts as failed.
const STORE_TIMEOUT: Duration = Duration::from_secs(5);

/// Whether requests are accepted. Cheap to clone.
#[derive(Clone)]
pub struct Readiness(Arc<Inner>);

struct Inner {
    store: Store,
    open: AtomicBool,
    /// The last result of the store check, and its time.
    last: Mutex<Option<(Instant, bool)>>,
}

impl Readiness {
    /// Not ready until [`Readiness::set`].
    #[must_use]
    pub fn new(store: Store) -> Self {
        Self(Arc::new(Inner {
            store,
            open: AtomicBool::new(false),
            last: Mutex::new(None),
        }))
    }

    /// Sets whether the server accepts requests; false while it stops.
    pub fn set(&self, open: bool) {
        self.0.open.store(open, Ordering::Release);
    }

    async fn get(&self) -> bool {
        self.0.open.load(Ordering::Acquire) && self.store_works().await
    }

    async fn store_works(&self) -> bool {
        let mut last = self.0.last.lock().await;
        if let Some((_, works)) = last.filter(|(asked, _)| asked.elapsed() < HOLDS) {
            return works;
        }
        // Nothing is written, but a failed store refuses an empty commit.
        let works = matches!(
            timeout(STORE_TIMEOUT, self.0.store.commit(Batch::new())).await,
            Ok(Ok(()))
        );
        *last = Some((Instant::now(), works));
        works
    }
}

/// The two routes.
pub fn router(readiness: Readiness) -> Router {
    Router::new()
        .route("/health", get(|| async { "alive\n" }))
        .route("/ready", get(ready))
        .with_state(readiness)
}

async fn ready(State(readiness): State<Readiness>) -> (StatusCode, &'static str) {
    if readiness.get().await {
        (StatusCode::OK, "ready\n")
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, "not ready\n")
    }
}

#[cfg(test)]
mod tests {
    use axum::{body::Body, http::Request};
    use tower::ServiceExt;
    use weft_store::memory::MemoryDisk;

    use super::*;

    async fn ask(readiness: &Readiness, path: &str) -> StatusCode {
        let request = Request::get(path).body(Body::empty()).unwrap();
        router(readiness.clone()).oneshot(request).await.unwrap().status()
    }

    #[tokio::test(start_paused = true)]
    async fn readiness_follows_the_store_and_shutdown() {
        let store = Store::open(MemoryDisk::new().open()).await.unwrap();
        let readiness = Readiness::new(store.clone());
        assert_eq!(ask(&readiness, "/ready").await, StatusCode::SERVICE_UNAVAILABLE);
        readiness.set(true);
        assert_eq!(ask(&readiness, "/ready").await, StatusCode::OK);
        readiness.set(false);
        assert_eq!(ask(&readiness, "/ready").await, StatusCode::SERVICE_UNAVAILABLE);
        readiness.set(true);
        store.close().await;
        tokio::time::advance(HOLDS).await;
        assert_eq!(ask(&readiness, "/ready").await, StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(ask(&readiness, "/health").await, StatusCode::OK);
    }
}

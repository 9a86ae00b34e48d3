//! Logs the usage of each budget, what rooms hold in memory, and the figures of durable jobs and render workers: on SIGUSR1, and the
//! budgets also periodically at level debug. Must not change a budget.

use std::sync::Arc;
use std::time::Duration;

use tokio::signal::unix::Signal;
use weft_budget::Budgets;
use weft_render::Pool;
use weft_room::Rooms;

/// Interval of the reports at level debug.
const PERIOD: Duration = Duration::from_secs(60);

/// Reports while the server runs. Never returns.
pub(super) async fn report(budgets: Arc<Budgets>, rooms: Rooms, renderer: Pool, mut requested: Signal) {
    loop {
        let requested = tokio::select! {
            signal = requested.recv() => signal.is_some(),
            () = tokio::time::sleep(PERIOD) => false,
        };
        for usage in budgets.snapshot() {
            let (name, limit, used, peak, refused) = (usage.name, usage.limit, usage.used, usage.peak, usage.refused);
            if requested {
                tracing::info!(name, limit, used, peak, refused, "budget");
            } else {
                tracing::debug!(name, limit, used, peak, refused, "budget");
            }
        }
        if requested {
            let (active, texts) = (rooms.active(), rooms.texts_in_memory());
            tracing::info!(active, texts, "rooms in memory");
            report_jobs(&rooms).await;
            report_renderer(&renderer);
        }
    }
}

async fn report_jobs(rooms: &Rooms) {
    match rooms.job_figures().await {
        Ok(figures) => {
            for kind in figures {
                let (name, queued, running, done) = (kind.kind, kind.queued, kind.running, kind.done);
                let (failed, oldest_due) = (kind.failed, kind.oldest_due);
                tracing::info!(name, queued, running, done, failed, oldest_due, "jobs");
            }
        }
        Err(error) => tracing::error!(event = "jobs.not_counted", %error, "the jobs can't be counted"),
    }
}

fn report_renderer(renderer: &Pool) {
    let figures = renderer.figures();
    let (limit, busy, idle, waiting) = (figures.limit, figures.busy, figures.idle, figures.waiting);
    let (paused, started, done) = (figures.paused, figures.started, figures.done);
    let (refused, not_rendered) = (figures.refused, figures.not_rendered);
    let (died, timed_out) = (figures.died, figures.timed_out);
    tracing::info!(
        limit,
        busy,
        idle,
        waiting,
        paused,
        started,
        done,
        refused,
        not_rendered,
        died,
        timed_out,
        "render workers"
    );
}

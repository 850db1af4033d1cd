//! How a server that serves ends: drained, at the operator's word, or replaced by the next
//! one. Called by `app`, which says goodbye afterwards; knows the rooms it closes, and no HTTP.

use std::sync::Arc;
use std::time::Duration;

use procession_core::frame::ToKeeper;
use procession_keeper::fault;
use procession_store::SqliteStore;
use tokio::time::{Instant, sleep, sleep_until, timeout};

use crate::background::EXIT_STUCK;
use crate::config::Config;
use crate::drain::{Drain, Stage};
use crate::handover::Handover;
use crate::log::SAID;
use crate::scheduler::Scheduler;

/// How long open answers get after everything else has ended.
pub const LAST_WORDS: Duration = Duration::from_secs(5);

/// Requests that change something get this long before the store is given away; the next
/// server takes nothing until then.
const CHANGES: Duration = Duration::from_secs(8);

/// Ends that are being recorded, launches that are being made ready.
const ERRANDS: Duration = Duration::from_secs(5);

/// Waits for running jobs, at most `stop_timeout` or until a second signal, and ends what is
/// left; or leaves all to the keeper, where the operator wants that.
pub async fn drain(scheduler: &Arc<Scheduler>, drain: &Drain, config: &Config) {
    let began = Instant::now();
    let mut asked = drain.asked();
    // A claim under way is launched first: what the store says runs must reach the keeper.
    drain.no_more_launches().await;
    let running = scheduler.running.len();
    let log = scheduler.background.log();
    if asked.borrow().keep_jobs {
        launches_are_made(scheduler).await;
        tracing::info!(target: SAID, running, "stopping: what runs is left to the keeper");
        return log.say(&format!("stopping: {running} running jobs are left to the keeper"));
    }
    tracing::info!(target: SAID, running, "stopping: nothing new is taken, what runs may finish");
    if running > 0 {
        log.say(&format!("stopping: waiting for {running} running jobs; once more ends them"));
    }
    loop {
        let shutdown = *asked.borrow_and_update();
        if shutdown.keep_jobs {
            return launches_are_made(scheduler).await;
        }
        let patience = shutdown.timeout.unwrap_or(config.server.stop_timeout);
        tokio::select! {
            () = scheduler.running.none_left() => return,
            () = drain.reached(Stage::Ending) => break,
            () = sleep_until(began + patience) => break drain.advance(Stage::Ending),
            // The sender lives as long as `drain`.
            _ = asked.changed() => {}
        }
    }
    tracing::info!(running = scheduler.running.len(), "stopping: what still runs is ended");
    scheduler.stop_all(false);
    let longest = config.tasks.values().map(|task| task.grace).max().unwrap_or_default();
    if timeout(longest + LAST_WORDS, scheduler.running.none_left()).await.is_err() {
        // Their ends wait in the keeper's journal for the next server.
        tracing::error!(running = scheduler.running.len(), "some ends could not be recorded");
    }
}

/// What is claimed and still being made ready goes to the keeper before the goodbye: nobody
/// else knows that it never ran.
async fn launches_are_made(scheduler: &Scheduler) {
    if !scheduler.background.errands_done(ERRANDS).await {
        tracing::warn!("some launches are not ready; what was claimed may be lost");
    }
}

/// Gives place to the next server: lets what changes the store come to its end, releases it,
/// says so, and serves open connections until they are gone, at most for `stop_timeout`.
pub async fn give_place(
    scheduler: &Arc<Scheduler>,
    store: Arc<SqliteStore>,
    handover: &Handover,
    drain: &Drain,
    config: &Config,
) {
    let background = &scheduler.background;
    tracing::info!("another server takes over");
    handover.begin();
    background.put_down_work();
    drain.no_more_launches().await;
    if timeout(CHANGES, handover.no_changes()).await.is_err() {
        // They are told that nothing was recorded.
        tracing::warn!("some requests were too slow for the server that takes over");
    }
    if !background.errands_done(ERRANDS).await {
        // Two servers must not move the same job's files; what is half done the next one
        // finds as after a crash.
        tracing::error!("what jobs left is still being kept; the server ends so that another does it");
        background.log().exit(EXIT_STUCK);
    }
    fault::point("retire.before_release");
    background.blocking(move || store.stop_writing()).await;
    fault::point("retire.after_release");
    handover.release();
    scheduler.keeper.send(&ToKeeper::Retired);
    tokio::select! {
        () = background.connections_gone() => {}
        () = sleep(config.server.stop_timeout) => {}
        () = drain.reached(Stage::Ending) => {}
    }
}

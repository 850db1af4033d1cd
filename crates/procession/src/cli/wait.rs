//! `wait`: until jobs are over, however long that is.
//!
//! The server is asked in rounds of half a minute, so that nothing between takes the
//! connection for dead. `submit --wait` waits here too.

use std::time::Duration;

use anyhow::Context;
use clap::Args;
use futures_util::stream::{FuturesUnordered, StreamExt};
use procession_core::api::Job;
use procession_core::id::JobId;
use procession_core::quantity::{parse_duration, show_duration};
use tokio::time::{Instant, sleep, timeout_at};

use super::client::{Answer, Call, Client, Failure};
use super::exit::Exit;
use super::id;
use super::patience::Patience;
use super::screen::Screen;
use super::words;

/// Seconds one request may wait on the server.
const ROUND: u64 = 30;
/// A server that answers sooner than it was asked to is not asked again at once.
const BREATH: Duration = Duration::from_millis(250);

/// `procession wait`.
#[derive(Debug, Args)]
#[command(after_help = "\
Exits as the job did; of several, as the first of them, in the order given, that did not exit with 0. \
124 when --timeout runs out, 125 when Procession itself failed.")]
pub struct WaitArgs {
    /// Ids, or their unique ends.
    #[arg(required = true, value_name = "ID")]
    ids: Vec<String>,
    /// Wait no longer than this: 10s, 5m, 1h30m.
    #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
    timeout: Option<Duration>,
}

/// Waits for all of them at once and says of each how it ended.
pub(super) async fn run(args: &WaitArgs, client: &Client, screen: &Screen) -> anyhow::Result<Exit> {
    let mut ids = Vec::new();
    for text in &args.ids {
        ids.push(id::resolve(client, text).await?);
    }
    let mut ends: Vec<Option<(Exit, Answer)>> = vec![None; ids.len()];
    let all = collect(client, screen, &ids, &mut ends);
    let in_time = match args.timeout {
        Some(limit) => match timeout_at(Instant::now() + limit, all).await {
            Ok(done) => done.map(|()| true)?,
            Err(_) => false,
        },
        None => all.await.map(|()| true)?,
    };
    if screen.is_json() {
        let answers: Vec<Answer> = ends.iter().flatten().map(|(_, answer)| answer.clone()).collect();
        screen.json_of(&answers, ids.len())?;
    }
    let limit = args.timeout.map(show_duration).unwrap_or_default();
    for (id, _) in ids.iter().zip(&ends).filter(|(_, end)| !in_time && end.is_none()) {
        screen.say(&format!("procession: {} is not over after {limit}", id::short(*id)));
    }
    let exits = ends.iter().map(|end| end.as_ref().map_or(Exit::TIMED_OUT, |(exit, _)| *exit));
    Ok(exits.fold(Exit::OK, Exit::or))
}

async fn collect(
    client: &Client,
    screen: &Screen,
    ids: &[JobId],
    ends: &mut [Option<(Exit, Answer)>],
) -> anyhow::Result<()> {
    let one = async |at: usize, id| (at, until_over(client, id, Patience::new()).await);
    let mut waits: FuturesUnordered<_> = ids.iter().enumerate().map(|(at, &id)| one(at, id)).collect();
    while let Some((at, end)) = waits.next().await {
        let (job, answer) = end.with_context(|| format!("cannot wait for {}", id::short(ids[at])))?;
        if !screen.is_json() {
            screen.line(&words::ending(&job))?;
        }
        ends[at] = Some((Exit::of(&job), answer));
    }
    Ok(())
}

/// The job once it is over, and the answer that said so. Bears a server that is replaced
/// meanwhile.
pub(super) async fn until_over(
    client: &Client,
    id: JobId,
    mut patience: Patience,
) -> Result<(Job, Answer), Failure> {
    loop {
        let asked = Instant::now();
        match client.ask(Call::get(format!("/v1/jobs/{id}?wait={ROUND}"))).await {
            Ok(answer) => {
                patience.answered();
                let job: Job = answer.json()?;
                if job.state.is_final() {
                    return Ok((job, answer));
                }
                if asked.elapsed() < BREATH {
                    sleep(BREATH).await;
                }
            }
            Err(failure) => patience.bear(failure).await?,
        }
    }
}

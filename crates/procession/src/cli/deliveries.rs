//! `deliveries`: the callbacks and tasks that follow ends of jobs, where they stand, and `repeat`,
//! which makes one due again.

use anyhow::{Context as _, bail};
use clap::builder::{PossibleValuesParser, TypedValueParser};
use clap::{Args, Subcommand};
use jiff::Timestamp;
use procession_core::api::{Delivery, DeliveryPage, Kind};
use procession_core::outbox::{DeliveryId, DeliveryState};
use serde_json::value::RawValue;

use super::client::{Call, Client};
use super::exit::Exit;
use super::id;
use super::jobs::{Found, collect};
use super::paint::Style;
use super::query::Query;
use super::screen::Screen;
use super::table::{Cell, Table};
use super::when;

/// `procession deliveries`.
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct DeliveriesArgs {
    #[command(subcommand)]
    verb: Option<DeliveryVerb>,
    /// Only of this job: its id, or its unique end.
    #[arg(long, value_name = "ID")]
    job: Option<String>,
    /// Only in this state; several with commas between.
    #[arg(long, value_delimiter = ',', value_parser = state_parser())]
    state: Vec<DeliveryState>,
    /// At most this many.
    #[arg(long, short = 'n', value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..))]
    limit: u32,
    /// All of them.
    #[arg(long, conflicts_with = "limit")]
    all: bool,
}

/// What can be done to a delivery.
#[derive(Debug, Subcommand)]
enum DeliveryVerb {
    /// Do it once more, now, whatever became of it.
    Repeat {
        /// The delivery as the list shows it, or the id of a job with a single one.
        id: String,
    },
}

fn state_parser() -> impl TypedValueParser<Value = DeliveryState> {
    PossibleValuesParser::new(DeliveryState::ALL.map(DeliveryState::name))
        .try_map(|name| name.parse::<DeliveryState>())
}

/// Lists them, or repeats one.
pub(super) async fn run(args: &DeliveriesArgs, client: &Client, screen: &Screen) -> anyhow::Result<Exit> {
    match &args.verb {
        Some(DeliveryVerb::Repeat { id }) => repeat(id, client, screen).await,
        None => list(args, client, screen).await,
    }
}

async fn list(args: &DeliveriesArgs, client: &Client, screen: &Screen) -> anyhow::Result<Exit> {
    let job = match &args.job {
        Some(text) => Some(id::resolve(client, text).await?.to_string()),
        None => None,
    };
    let states: Vec<&str> = args.state.iter().map(|state| state.name()).collect();
    let states = Some(states.join(",")).filter(|states| !states.is_empty());
    let filter =
        || Query::of("/v1/deliveries").maybe("job", job.as_deref()).maybe("state", states.as_deref());
    let wanted = if args.all { usize::MAX } else { args.limit as usize };
    if screen.is_json() {
        let found: Found<Box<RawValue>> = collect(client, filter, wanted).await?;
        screen.items(&found.items)?;
        return Ok(Exit::OK);
    }
    let found: Found<Delivery> = collect(client, filter, wanted).await?;
    if found.items.is_empty() {
        screen.say("no deliveries");
        return Ok(Exit::OK);
    }
    screen.table(&table(&found.items, Timestamp::now()))?;
    if found.more {
        screen.hint("there are more: --limit N, --all");
    }
    Ok(Exit::OK)
}

async fn repeat(text: &str, client: &Client, screen: &Screen) -> anyhow::Result<Exit> {
    let id = resolve(text, client).await?;
    let answer = client.ask(Call::post(format!("/v1/deliveries/{id}/repeat"))).await?;
    if screen.is_json() {
        screen.json(&answer)?;
    } else {
        let delivery: Delivery = answer.json()?;
        screen.line(&format!("{} is due now: {}", short(delivery.id), whither(&delivery)))?;
    }
    Ok(Exit::OK)
}

/// The delivery that `text` names: by a job, or the end of its id, and, where that has several, `_`
/// and a number.
async fn resolve(text: &str, client: &Client) -> anyhow::Result<DeliveryId> {
    if let Some((job, ordinal)) = text.split_once('_') {
        let ordinal = ordinal.parse().with_context(|| format!("`{text}` names no delivery: write ID_N"))?;
        return Ok(DeliveryId { job: id::resolve(client, job).await?, ordinal });
    }
    let job = id::resolve(client, text).await?;
    let path = Query::of("/v1/deliveries").with("job", &job.to_string()).end();
    let page: DeliveryPage = client.ask(Call::get(path)).await?.json()?;
    match page.items.as_slice() {
        [] => bail!("nothing follows job {job}, or it is not over"),
        [one] => Ok(one.id),
        several => {
            let lines: String =
                several.iter().map(|one| format!("\n  {}  {}", short(one.id), whither(one))).collect();
            bail!("job {job} is followed by several; name one:{lines}")
        }
    }
}

fn short(id: DeliveryId) -> String {
    format!("{}_{}", id::short(id.job), id.ordinal)
}

/// Where it goes, and the job that came of it.
fn whither(delivery: &Delivery) -> String {
    let to = match delivery.kind {
        Kind::Callback => delivery.url.clone(),
        Kind::Then => delivery.then.as_ref().map(|task| format!("task {task}")),
    };
    let job = delivery.then_job.map(|job| format!(" ({})", id::short(job)));
    format!("{}{}", to.unwrap_or_default(), job.unwrap_or_default())
}

fn table(deliveries: &[Delivery], now: Timestamp) -> Table {
    let mut table = Table::new(["ID", "TASK", "STATE", "TRIES", "NEXT", "ENDED", "TO", "NOTE"]);
    for delivery in deliveries {
        table.row([
            Cell::new(short(delivery.id)),
            Cell::new(delivery.task.as_str()),
            Cell::new(delivery.state.name()).styled(style(delivery.state)),
            Cell::new(delivery.tries.to_string()),
            Cell::new(delivery.next_try_at.map(|at| next(at, now)).unwrap_or_default()),
            Cell::new(when::ago(delivery.created_at, now)),
            Cell::new(whither(delivery)),
            Cell::new(delivery.last_error.as_deref().unwrap_or_default()),
        ]);
    }
    table
}

fn style(state: DeliveryState) -> Style {
    match state {
        DeliveryState::Pending => Style::Active,
        DeliveryState::Delivered => Style::Good,
        DeliveryState::GivenUp | DeliveryState::Gone => Style::Bad,
    }
}

fn next(at: Timestamp, now: Timestamp) -> String {
    match u64::try_from(at.as_millisecond() - now.as_millisecond()) {
        Ok(ms) if ms > 0 => format!("in {}", when::span(ms)),
        _ => "now".into(),
    }
}

#[cfg(test)]
mod tests {
    use jiff::SignedDuration;
    use procession_core::id::JobId;

    use super::*;

    #[test]
    fn the_table_of_deliveries() {
        let (job, now) = (JobId::from_bytes([0xab; 16]), Timestamp::UNIX_EPOCH);
        let waits = Delivery {
            id: DeliveryId { job, ordinal: 1 },
            job,
            task: "inspect".parse().expect("a name"),
            kind: Kind::Callback,
            url: Some("https://hooks.example.org/done".into()),
            then: None,
            then_job: None,
            state: DeliveryState::Pending,
            tries: 2,
            next_try_at: Some(now + SignedDuration::from_secs(7)),
            last_status: Some(503),
            last_error: Some("the receiver answered 503".into()),
            created_at: now - SignedDuration::from_secs(60),
        };
        let followed = Delivery {
            id: DeliveryId { job, ordinal: 0 },
            kind: Kind::Then,
            url: None,
            then: Some("notify".parse().expect("a name")),
            then_job: Some(JobId::from_bytes([0xcd; 16])),
            state: DeliveryState::Delivered,
            tries: 1,
            next_try_at: None,
            last_status: None,
            last_error: None,
            ..waits.clone()
        };
        let [a, b, c] = [
            "ID          TASK     STATE      TRIES  NEXT     ENDED   TO                              NOTE",
            "abababab_1  inspect  pending    2      in 7.0s  1m ago  https://hooks.example.org/done  the receiver answered 503",
            "abababab_0  inspect  delivered  1               1m ago  task notify (cdcdcdcd)",
        ];
        assert_eq!(table(&[waits, followed], now).lines(false), [a, b, c]);
    }
}

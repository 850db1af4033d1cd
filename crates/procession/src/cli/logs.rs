//! `logs`: what a job wrote, byte for byte; with `-f` as it writes.
//!
//! Here is also what writes a job's streams to ours, for all verbs that do.

use clap::Args;
use procession_core::id::JobId;

use super::client::{Call, Client};
use super::exit::Exit;
use super::follow::{self, Shown};
use super::id;
use super::patience::Patience;
use super::plain::Filter;
use super::query::Query;
use super::screen::{Closed, Screen};

/// `procession logs`.
#[derive(Debug, Args)]
#[command(after_help = "\
The job's stdout goes to stdout, its stderr to stderr: one after the other, or with -f as they come. \
On a terminal control sequences are left out; in a file or pipe every byte is the job's.")]
pub struct LogsArgs {
    /// An id, or its unique end.
    id: String,
    /// Go on until the job is over.
    #[arg(long, short)]
    follow: bool,
    /// Of this attempt [default: the last].
    #[arg(long, value_name = "N", conflicts_with = "follow", value_parser = clap::value_parser!(u32).range(1..))]
    attempt: Option<u32>,
    /// Only its stdout.
    #[arg(long, conflicts_with = "stderr")]
    stdout: bool,
    /// Only its stderr.
    #[arg(long)]
    stderr: bool,
    /// Leave control sequences in, even on a terminal.
    #[arg(long)]
    raw: bool,
}

/// One of a job's streams, and where it goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stream {
    Stdout,
    Stderr,
}

impl Stream {
    fn name(self) -> &'static str {
        match self {
            Stream::Stdout => "stdout",
            Stream::Stderr => "stderr",
        }
    }
}

/// Prints what was asked for.
pub(super) async fn run(args: &LogsArgs, client: &Client, screen: &Screen) -> anyhow::Result<Exit> {
    let id = id::resolve(client, &args.id).await?;
    let shown = Shown { stdout: !args.stderr, stderr: !args.stdout, raw: args.raw };
    match args.attempt {
        None if args.follow => {
            follow::until_over(client, screen, id, shown, Patience::new()).await?;
        }
        attempt => print(client, screen, id, attempt, shown).await?,
    }
    Ok(Exit::OK)
}

/// What there is of the streams, one after the other.
pub(super) async fn print(
    client: &Client,
    screen: &Screen,
    id: JobId,
    attempt: Option<u32>,
    shown: Shown,
) -> anyhow::Result<()> {
    let attempt = attempt.map(|attempt| attempt.to_string());
    for (stream, wanted) in [(Stream::Stdout, shown.stdout), (Stream::Stderr, shown.stderr)] {
        if !wanted {
            continue;
        }
        let path = Query::of(format!("/v1/jobs/{id}/{}", stream.name())).maybe("attempt", attempt.as_deref());
        let mut reply = client.open(Call::get(path.end())).await?;
        let mut writer = Writer::new(screen, stream, shown.raw);
        while let Some(bytes) = reply.chunk().await? {
            writer.write(screen, &bytes)?;
        }
    }
    Ok(())
}

/// Writes a job's stream to ours; to a terminal without control sequences.
pub(super) struct Writer {
    stream: Stream,
    filter: Option<Filter>,
}

impl Writer {
    pub(super) fn new(screen: &Screen, stream: Stream, raw: bool) -> Self {
        let terminal = match stream {
            Stream::Stdout => screen.terminal,
            Stream::Stderr => screen.stderr_terminal,
        };
        Writer { stream, filter: (terminal && !raw).then(Filter::default) }
    }

    pub(super) fn write(&mut self, screen: &Screen, bytes: &[u8]) -> Result<(), Closed> {
        let shown = self.filter.as_mut().map(|filter| filter.pass(bytes));
        let bytes = shown.as_deref().unwrap_or(bytes);
        match self.stream {
            Stream::Stdout => screen.bytes(bytes),
            Stream::Stderr => {
                screen.stderr(bytes);
                Ok(())
            }
        }
    }
}

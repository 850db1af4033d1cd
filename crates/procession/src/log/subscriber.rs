//! From `tracing` to the queues: which events are taken, and where they go.

use std::io::{self, IsTerminal};
use std::sync::Arc;

use jiff::Timestamp;
use tracing::{Event, Level, Metadata, Subscriber};
use tracing_subscriber::filter::{EnvFilter, filter_fn};
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::{Context, Layer, SubscriberExt as _};
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{Registry, reload};

use super::line;
use super::queue::Queue;

/// The target of events that people at a terminal hear in words of their own.
pub const SAID: &str = "procession::serve";

/// Overrides the config's `level`.
const VARIABLE: &str = "PROCESSION_LOG";

/// To change which events are taken.
pub(super) type Levels = reload::Handle<EnvFilter, Registry>;

/// Takes this process's events from now on: to `file` as JSON, to `people` as text.
pub(super) fn install(file: Arc<Queue>, people: Arc<Queue>, daemon: bool) -> Levels {
    let (filter, levels) = reload::Layer::new(filter("info"));
    let text = tracing_subscriber::fmt::layer()
        .with_writer(Lines(people))
        .with_ansi(io::stderr().is_terminal())
        .with_target(false)
        .log_internal_errors(false)
        .with_filter(filter_fn(move |meta| meta.target() != SAID && is_heard(*meta.level(), daemon)));
    tracing_subscriber::registry().with(filter).with(filter_fn(is_ours)).with(ToFile(file)).with(text).init();
    levels
}

/// The variable's events, else those of `level`.
pub(super) fn filter(level: &str) -> EnvFilter {
    variable().and_then(|text| EnvFilter::try_new(text).ok()).unwrap_or_else(|| EnvFilter::new(level))
}

/// Whether the variable is there and makes no sense.
pub(super) fn variable_is_wrong() -> bool {
    variable().is_some_and(|text| EnvFilter::try_new(text).is_err())
}

fn variable() -> Option<String> {
    std::env::var(VARIABLE).ok().filter(|text| !text.trim().is_empty())
}

/// What other crates trace is not ours to answer for: h2 and hyper have every header in their
/// hands, and may show it in any version.
fn is_ours(meta: &Metadata<'_>) -> bool {
    let (target, own) = (meta.target(), "procession");
    target
        .strip_prefix(own)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with("::") || rest.starts_with('_'))
}

/// Whoever starts a daemon wants to know why it does not start, and nothing else.
fn is_heard(level: Level, daemon: bool) -> bool {
    !daemon || level <= Level::WARN
}

/// JSON lines.
struct ToFile(Arc<Queue>);

impl<S: Subscriber> Layer<S> for ToFile {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        self.0.put(line::of(event, Timestamp::now()).as_bytes());
    }
}

/// Text lines; each write is one.
struct Lines(Arc<Queue>);

impl<'a> MakeWriter<'a> for Lines {
    type Writer = &'a Lines;

    fn make_writer(&'a self) -> Self::Writer {
        self
    }
}

impl io::Write for &Lines {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.0.put(line);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

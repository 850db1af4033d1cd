//! The server process: takes the keeper's socket, opens the store, wires everything, serves
//! until it is told to stop. The only place that knows all rooms.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use anyhow::Context as _;
use jiff::Timestamp;
use procession_core::command::Surroundings;
use procession_core::frame::{Hello, ToKeeper, VERSION};
use procession_core::schedule::Schedule;
use procession_keeper::{fault, heir};
use procession_store::sqlite::SqliteStore;
use procession_store::{KnownSchedule, Store, StoreError};
use tokio::sync::{Mutex, Notify, Semaphore, mpsc};

use crate::background::{Background, EXIT_BUG, EXIT_CONFIG};
use crate::board::Board;
use crate::cli::ServerArgs;
use crate::config::{self, Auth, Config, LoadOptions, Severity, Snapshot, load, restore};
use crate::data::{DataDir, replace};
use crate::drain::{Drain, Stage};
use crate::facts::Facts;
use crate::handover::Handover;
use crate::http::{self, Gate, Listener};
use crate::keeper::{Greeting, KeeperLink, greet};
use crate::log::{Log, SAID};
use crate::maintenance;
use crate::meters::Meters;
use crate::scheduler::{
    GATHERING, Losses, Owned, Pressure, ProgressWatch, Running, Scheduler, ScratchPool, cgroups_of, recover,
};
use crate::space::Space;
use crate::standby::{Turn, stand_by};
use crate::submit::Door;
use crate::succession::{Choice, Estate};
use crate::timetable::Timetable;
use crate::way_out;

/// Descriptors kept free of connections: the store, files being read, pipes.
const RESERVED_DESCRIPTORS: u64 = 256;

/// Connections at once, however many descriptors there are.
const MAX_CONNECTIONS: usize = 20_000;

/// Runs the server; returns its exit status. As a daemon it lets go of where its caller
/// speaks once it answers.
pub fn run(config_path: &Path, args: &ServerArgs, log: &Log) -> anyhow::Result<u8> {
    let socket = procession_keeper::take_control_socket()?;
    let mut greeting = greet(socket)?;
    let loaded_at = Timestamp::now();
    // Whether a listener may be reached from outside was settled by the keeper's start.
    let options = LoadOptions { insecure: true, ..LoadOptions::default() };
    let config = if greeting.hello.standby {
        match stand_by(&mut greeting, config_path, &options)? {
            Turn::TakeOver(config) => *config,
            Turn::Refused => return Ok(EXIT_CONFIG),
            Turn::NotWanted => return Ok(0),
        }
    } else {
        // `serve` removes it: whoever types that means the file as it is.
        let config = match args.in_force.as_deref().and_then(|kept| Snapshot::read(kept).ok()) {
            // Nobody asked for another config: one before this server died.
            Some(snapshot) => restore(snapshot, &options),
            None => load(config_path, &options),
        };
        config.map_err(|wrong| anyhow::anyhow!("{wrong}"))?
    };
    log.open(&DataDir::existing(&config.server.data_dir).log(), &config.log)
        .context("a thread for the log cannot be had")?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("the runtime cannot be started")?;
    let status = runtime.block_on(serve(Arc::new(config), loaded_at, greeting, log, args.daemon));
    // Removals under way are the next server's: they may take long.
    runtime.shutdown_background();
    status
}

async fn serve(
    config: Arc<Config>,
    loaded_at: Timestamp,
    greeting: Greeting,
    log: &Log,
    daemon: bool,
) -> anyhow::Result<u8> {
    let background = Background::new(log.clone());
    let data = DataDir::existing(&config.server.data_dir);
    let hello = greeting.hello.clone();
    log.take_charge();
    log_start(&config, &hello);
    write_name(&data);
    let mut leftovers = data.half_arrived()?;
    let store = Arc::new(SqliteStore::open(&data.database())?);
    make_known(&*store, &config).await?;

    let (listeners, held, carrier) = greeting.into_parts();
    let estate = Estate::new(&listeners, held, &hello, &data)?;
    let keeper = Arc::new(KeeperLink::default());
    let (sender, mut inbox) = mpsc::unbounded_channel();
    let (link, stopping) = (keeper.clone(), background.stopping().clone());
    background.service("keeper link", async move {
        if let Err(error) = link.run(carrier, sender, &stopping).await {
            tracing::error!(%error, "the keeper cannot be reached");
        }
    });
    let owned = Owned::ask(&keeper, &mut inbox).await.inspect_err(|_| {
        // Its keeper is dead before we know what it had: there is nobody else to end that.
        cgroups_of(&hello).iter().for_each(|folder| heir::end_all(folder));
    })?;

    let (drain, handover) = (Arc::new(Drain::default()), Arc::new(Handover::default()));
    let (scratch, left) = ScratchPool::open(&data.scratch(), &owned.scratch())?;
    leftovers.extend(left);
    let scheduler = scheduler(&config, &data, &hello, store.clone(), keeper, &background, scratch)?;
    recover(&scheduler, owned, &hello).await?;
    scheduler.look_for_removed(hello.force).await?;
    start_services(&scheduler, &config);
    hear_the_keeper(&scheduler, &drain, inbox, estate, &hello);
    let facts = Facts {
        started_at: Timestamp::now(),
        config_loaded_at: loaded_at,
        revision: config.revision.clone(),
        containment: hello.containment,
        keeper_pid: hello.keeper_pid,
        slots: config.limits.max_running,
    };
    let context = context(&config, scheduler.clone(), drain.clone(), handover.clone(), &hello, facts)?;
    listen(listeners, &context)?;
    fault::point("ready.before_send");
    say_ready(&scheduler.keeper, &hello).await;
    // Nothing is claimed before: a first server that dies before it is ready is followed by none,
    // and nobody could say of a claim that it never ran.
    background.service("dispatcher", scheduler.clone().dispatch(drain.clone()));
    background.service("deliveries", maintenance::deliver(scheduler.clone(), context.door.clone()));
    let (door, timetable) = (context.door.clone(), context.timetable.clone());
    background.service("schedules", maintenance::run_schedules(door, timetable, drain.clone()));
    config.snapshot.keep(&data.config_in_force());
    scheduler.remove_in_time(leftovers);
    if daemon {
        go_quiet(&data);
    }
    log.ready();
    announce(&hello, log);

    drain.reached(Stage::Retiring).await;
    // The next server may be there before the last line of this one.
    log.retire();
    if drain.stage() == Stage::Retiring {
        way_out::give_place(&scheduler, store, &handover, &drain, &config).await;
    } else {
        way_out::drain(&scheduler, &drain, &config).await;
        tracing::info!("goodbye");
        scheduler.keeper.send(&ToKeeper::Goodbye { status: 0 });
    }
    background.end(way_out::LAST_WORDS).await;
    Ok(0)
}

/// Tasks and schedules of the config; what is due of those that are known stays due.
async fn make_known(store: &dyn Store, config: &Config) -> Result<(), StoreError> {
    store.put_tasks(config.tasks.keys().cloned().collect()).await?;
    let now = Timestamp::now();
    let known = |schedule: &Arc<Schedule>| KnownSchedule {
        name: schedule.name.clone(),
        rhythm: schedule.cron.to_string(),
        first: schedule.cron.next_after(now),
    };
    store.put_schedules(config.schedules.values().map(known).collect()).await
}

/// For people; a disk that is full now must not keep a server from answering.
fn write_name(data: &DataDir) {
    if let Err(error) = replace(&data.server_pid(), &format!("{}\n", std::process::id())) {
        tracing::warn!(%error, "server.pid cannot be written");
        // It names a server that is gone.
        let _ = std::fs::remove_file(data.server_pid());
    }
}

/// Said first to the keeper: who reads it elsewhere may do anything, also end this process.
async fn say_ready(keeper: &KeeperLink, hello: &Hello) {
    if hello.renew {
        // Before READY: what waits for the handover to be over waits for this as well.
        keeper.send(&ToKeeper::Renew);
    }
    keeper.send(&ToKeeper::Ready { version: VERSION });
    keeper.written().await;
}

/// Who starts, with what. Warnings of the config are known to whoever sits at a terminal.
fn log_start(config: &Config, hello: &Hello) {
    let listeners: Vec<_> = hello.listener_names().collect();
    tracing::info!(
        version = env!("CARGO_PKG_VERSION"),
        process = std::process::id(),
        generation = hello.generation,
        config = %config.path.display(),
        revision = config.revision,
        tasks = config.tasks.len(),
        containment = hello.containment.name(),
        listeners = listeners.join(" "),
        "the server starts"
    );
    for warning in config.warnings.iter().filter(|warning| warning.severity == Severity::Warning) {
        let line = warning.place.as_ref().map(|place| place.line);
        tracing::warn!(target: SAID, line, warning = warning.message, "the config may not do what it should");
    }
}

fn scheduler(
    config: &Arc<Config>,
    data: &DataDir,
    hello: &Hello,
    store: Arc<dyn Store>,
    keeper: Arc<KeeperLink>,
    background: &Background,
    scratch: ScratchPool,
) -> anyhow::Result<Arc<Scheduler>> {
    let board = Arc::new(Board::default());
    let text = |path: std::path::PathBuf| path.to_string_lossy().into_owned();
    Ok(Arc::new(Scheduler {
        store,
        keeper,
        running: Arc::new(Running::new(board.clone())),
        board,
        scratch,
        progress: ProgressWatch::new()?,
        data: data.clone(),
        tasks: config.tasks.clone(),
        surroundings: Surroundings { environment: environment(), job_folder: text(data.jobs()) },
        revision: config.revision.clone(),
        node: std::fs::read_to_string(data.node())?.trim().to_owned(),
        boot_id: hello.boot_id,
        slots: usize::try_from(config.limits.max_running).unwrap_or(usize::MAX),
        wake: Notify::new(),
        deliver: Notify::new(),
        losses: Losses::default(),
        pressure: Pressure::default(),
        space: Arc::new(Space::default()),
        meters: Arc::new(Meters::default()),
        payloads: Mutex::default(),
        gathering: Semaphore::new(GATHERING),
        background: background.clone(),
    }))
}

/// The server's own environment as text; jobs get none of what is no text.
fn environment() -> BTreeMap<String, String> {
    std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .collect()
}

fn start_services(scheduler: &Arc<Scheduler>, config: &Arc<Config>) {
    let background = &scheduler.background;
    let watcher = scheduler.clone();
    background.service("progress", async move {
        if let Err(error) = watcher.progress.run(&watcher.running, &watcher.background).await {
            tracing::error!(%error, "progress files cannot be watched");
        }
    });
    background.service("expiry", maintenance::expire(scheduler.clone()));
    let retention = config.retention;
    background.service("retention by age", maintenance::retain(scheduler.clone(), retention.finished));
    background.service("retention by size", maintenance::bound(scheduler.clone(), retention.output));
    background.service("stray folders", maintenance::sweep(scheduler.clone()));
    background.service("free space", maintenance::watch_space(scheduler.clone(), retention.min_free));
}

/// Until the keeper is gone; then its jobs are settled, and this process ends or becomes the
/// keeper.
fn hear_the_keeper(
    scheduler: &Arc<Scheduler>,
    drain: &Arc<Drain>,
    inbox: mpsc::UnboundedReceiver<procession_core::frame::ToServer>,
    estate: Estate,
    hello: &Hello,
) {
    let (one, drain) = (scheduler.clone(), drain.clone());
    let (cgroups, choice) = (cgroups_of(hello), Choice::here(hello));
    scheduler.background.service("inbox", async move {
        one.clone().listen(inbox, drain.clone()).await;
        // Whose work is put down needs no keeper any more.
        if one.background.is_put_down() {
            return;
        }
        one.settle(cgroups).await;
        if drain.stage() == Stage::Serving && choice == Choice::Serve {
            tracing::warn!(target: SAID, "the keeper was killed; this process takes its place");
            one.background.log().flush();
            let error = estate.serve();
            tracing::error!(%error, "no keeper could be made of this process");
        }
        tracing::error!("the keeper is gone; the server ends");
        one.background.log().exit(EXIT_BUG);
    });
}

fn context(
    config: &Arc<Config>,
    scheduler: Arc<Scheduler>,
    drain: Arc<Drain>,
    handover: Arc<Handover>,
    hello: &Hello,
    facts: Facts,
) -> anyhow::Result<http::Context> {
    let token = match config.server.auth {
        Auth::None => None,
        Auth::Token => {
            let token =
                std::fs::read_to_string(scheduler.data.token()).context("the token cannot be read")?;
            anyhow::ensure!(
                !token.trim().is_empty(),
                "the file `token` is empty: remove it, a new one is made"
            );
            Some(token)
        }
    };
    let addresses: Vec<SocketAddr> = hello.listener_names().filter_map(|name| name.parse().ok()).collect();
    let waker = scheduler.clone();
    let door = Arc::new(Door {
        surroundings: scheduler.surroundings.clone(),
        revision: config.revision.clone(),
        slots: facts.slots,
        tasks: config.tasks.clone(),
        store: scheduler.store.clone(),
        data: scheduler.data.clone(),
        meters: scheduler.meters.clone(),
        drain: drain.clone(),
        space: scheduler.space.clone(),
        background: scheduler.background.clone(),
        taken: Arc::new(move |job, effects| {
            waker.board.tell(job);
            waker.follow(effects, false);
        }),
    });
    Ok(http::Parts {
        gate: Gate::new(token.as_deref().map(str::trim), &addresses, &config.server.hosts),
        tasks: config.tasks.clone(),
        timetable: Arc::new(Timetable::new(config.schedules.clone())),
        door,
        store: scheduler.store.clone(),
        running: scheduler.running.clone(),
        board: scheduler.board.clone(),
        data: scheduler.data.clone(),
        meters: scheduler.meters.clone(),
        drain,
        handover,
        facts,
        background: scheduler.background.clone(),
        scheduler,
    }
    .into())
}

fn listen(listeners: Vec<std::os::fd::OwnedFd>, context: &http::Context) -> anyhow::Result<()> {
    let descriptors =
        rustix::process::getrlimit(rustix::process::Resource::Nofile).current.unwrap_or(u64::MAX);
    let most = usize::try_from(descriptors.saturating_sub(RESERVED_DESCRIPTORS) / 2).unwrap_or(usize::MAX);
    let places = Arc::new(Semaphore::new(most.clamp(16, MAX_CONNECTIONS)));
    for socket in listeners {
        let listener = Listener::adopt(socket)?;
        context.background.service("accept", http::accept(listener, context.clone(), places.clone()));
    }
    Ok(())
}

/// Lets go of where whoever started the daemon speaks.
fn go_quiet(data: &DataDir) {
    let log = procession_keeper::open_log(&data.stderr_log());
    if let Err(error) = log.and_then(|log| procession_keeper::replace_output(&log, &log)) {
        tracing::warn!(%error, "what is said outside the log goes where the daemon was started");
    }
}

/// Says where the server is; people and scripts wait for this line.
fn announce(hello: &Hello, log: &Log) {
    for name in hello.listener_names() {
        log.say(&format!("listening on {}", config::address(&name)));
    }
    tracing::info!(target: SAID, "ready");
}

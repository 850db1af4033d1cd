//! The new program's side of a renewal: reads the image that `renew` wrote and goes on from
//! it; or begins anew from the same setup, where there is nothing to go on from.
//!
//! The signals were blocked all the time, and what came meanwhile waits. If the image cannot
//! be used nothing is lost in silence: what it says of cgroups is ended, monitors end their
//! trees by themselves when their sockets close, and the exit status says what happened.

use std::fs::File;
use std::io::{Read, Seek};
use std::os::fd::OwnedFd;
use std::path::PathBuf;

use bytes::Bytes;
use procession_core::frame::image::{self, Image, folder_of};
use procession_core::record::ExitRecord;
use rustix::fs::{SealFlags, fcntl_get_seals};

use crate::daemon::Daemon;
use crate::fault;
use crate::keeper::Keeper;
use crate::operator::Requests;
use crate::renew::{Given, Missing, alarm, pid};
use crate::server::ServerCommand;
use crate::servers::Servers;
use crate::startup::{Inherited, dev_null};
use crate::supervise::Attempt;
use crate::sys::clone::Method;
use crate::sys::{clock, stack::Stacks};
use crate::tree::cgroup::{self, Cgroups};
use crate::unacknowledged::Unacknowledged;
use crate::world::{Alarm, Origin, Outbox, Trees, World};
use crate::{ContainmentChoice, KeeperError, Setup, events, journal, monitors, startup, timers};

/// A keeper that another program handed on to this one.
#[derive(Debug)]
pub struct Resumed {
    image: Image,
    given: Given,
}

impl Resumed {
    /// Reads the image in the descriptor of this number, which the program before named on
    /// the command line.
    ///
    /// # Errors
    /// It cannot be used. What it is known to name has been ended: exit with 70.
    pub fn read(number: i32) -> Result<Self, KeeperError> {
        fault::point("renew.after_exec");
        let mut given = Given::default();
        let bytes = given
            .take(image::Fd(number))
            .map_err(|missing| KeeperError::Image { what: missing.to_string() })
            .and_then(contents)?;
        match Image::from_bytes(&bytes) {
            Ok(image) => Ok(Self { image, given }),
            Err(bad) => Err(give_up(folder_of(&bytes), bad.to_string())),
        }
    }

    /// The folder with the journal.
    pub fn state_dir(&self) -> PathBuf {
        crate::path_of(&self.image.setup.state_dir)
    }

    /// Nothing is handed on but a setup: this is a new keeper.
    pub fn begins_anew(&self) -> bool {
        self.image.state.is_none()
    }

    /// Keeps until there is nothing more to keep; gives the exit status for this process.
    ///
    /// # Errors
    /// As [`crate::run`]; and where what was handed on is not all there.
    pub fn keep(self) -> Result<u8, KeeperError> {
        let Self { image: Image { folder, setup, state }, mut given } = self;
        let unusable = |missing: Missing| give_up(Some(folder.clone()), missing.to_string());
        let setup = setup_of(setup, &mut given).map_err(unusable)?;
        let Some(state) = state else { return crate::run(setup) };
        match restore(setup, state, &folder, &mut given) {
            Ok(keeper) => keeper.keep(),
            Err(error) => Err(give_up(Some(folder.clone()), error.to_string())),
        }
    }
}

/// All that is in the sealed file.
fn contents(descriptor: OwnedFd) -> Result<Bytes, KeeperError> {
    let failed = |error: std::io::Error| KeeperError::Image { what: error.to_string() };
    let sealed = fcntl_get_seals(&descriptor).is_ok_and(|seals| seals.contains(SealFlags::WRITE));
    if !sealed {
        return Err(KeeperError::Image { what: "it is no sealed file".into() });
    }
    let (mut file, mut bytes) = (File::from(descriptor), vec![]);
    file.rewind().map_err(failed)?;
    file.read_to_end(&mut bytes).map_err(failed)?;
    Ok(bytes.into())
}

/// Loudly: jobs end here that nobody wanted ended.
fn give_up(folder: Option<Bytes>, what: String) -> KeeperError {
    if let Some(folder) = folder.filter(|folder| !folder.is_empty()) {
        crate::complain(format_args!("what was handed on cannot be used: what runs is ended"));
        cgroup::end_all(&crate::path_of(&folder));
    }
    KeeperError::Image { what }
}

fn setup_of(image: image::Setup, given: &mut Given) -> Result<Setup, Missing> {
    let text = |bytes: &Bytes| String::from_utf8_lossy(bytes).into_owned();
    let os = |bytes: &Bytes| crate::path_of(bytes).into_os_string();
    let mut listeners = vec![];
    for listener in image.listeners {
        listeners.push((given.take(listener.fd)?, text(&listener.name)));
    }
    Ok(Setup {
        listeners,
        held: image.held.into_iter().map(|fd| given.take(fd)).collect::<Result<_, _>>()?,
        state_dir: crate::path_of(&image.state_dir),
        server: ServerCommand {
            program: crate::path_of(&image.program),
            args: image.args.iter().map(os).collect(),
            env: image.env.iter().map(|variable| (os(&variable.name), os(&variable.value))).collect(),
        },
        containment: match image.monitor_only {
            true => ContainmentChoice::MonitorOnly,
            false => ContainmentChoice::Best,
        },
        label: text(&image.label),
        daemon: None,
    })
}

fn missing(missing: Missing) -> KeeperError {
    KeeperError::Image { what: missing.to_string() }
}

fn restore(
    setup: Setup,
    state: image::State,
    folder: &Bytes,
    given: &mut Given,
) -> Result<Keeper, KeeperError> {
    startup::settle().map_err(KeeperError::start("settling"))?;
    let image::State { servers, attempts, alarms, ending, reloaded, follower, log, askers, reload, .. } =
        state.clone();
    let mut world = world_of(&setup, state, folder, given)?;
    let mut resumed = Servers::new(setup.server, setup.listeners, setup.held);
    resumed.resume(servers, given, &mut world).map_err(missing)?;
    resumed.watch(&world).map_err(KeeperError::start("events"))?;
    for image::Alarm { kind, at } in alarms {
        if let Some(alarm) = alarm(kind) {
            world.timers.arm(alarm, at);
        }
    }
    let askers = askers.map(|askers| given.take(askers)).transpose().map_err(missing)?;
    let mut admin = crate::open_control_socket(&setup.state_dir, askers, &world);
    let follower = follower.map(|follower| given.take(follower)).transpose().map_err(missing)?;
    let follower = follower.and_then(|follower| admin.take_up(follower, &mut world));
    let daemon = log.map(|log| Daemon::told(crate::path_of(&log)));
    let mut keeper = Keeper::new(world, resumed, admin, daemon)?;
    keeper.requests = Requests::from_image(reloaded, follower);
    if let Some(reload) = reload {
        keeper.resume_reload(reload, given).map_err(missing)?;
    }
    keeper.ending = crate::ending::Ending::from_image(ending);
    keeper.notify.resume(keeper.servers.ever_ready);
    for image in attempts {
        let (id, alarms) = (keeper.attempts.reserve(), image.alarms.clone());
        let attempt = Attempt::from_image(id, image, given).map_err(missing)?;
        keeper.attempts.insert(id, attempt);
        keeper.with(id, |attempt, world| attempt.take_up(&alarms, world));
    }
    // A SIGCHLD that came during the exec is gone: its default is set anew.
    keeper.world.timers.arm(Alarm::ReapOrphans, keeper.world.now);
    // Words that were read before are acted on before new ones are waited for.
    keeper.servers.ids().into_iter().for_each(|id| keeper.on_server_words(id));
    Ok(keeper)
}

fn world_of(
    setup: &Setup,
    state: image::State,
    folder: &Bytes,
    given: &mut Given,
) -> Result<World, KeeperError> {
    let slots = state.attempts.iter().filter_map(|attempt| match &attempt.tree {
        image::Tree::Cgroup(slot, _) => Some(slot.number),
        image::Tree::Monitor(_) => None,
    });
    let lent = slots.collect();
    let trees = match state.cgroups {
        Some(cgroups) => Trees::Cgroups(Cgroups::from_image(cgroups, folder, lent, given).map_err(missing)?),
        None => Trees::Monitors,
    };
    let journal = given.take(state.journal).map_err(missing)?;
    let mut left = Unacknowledged::default();
    state.left.into_iter().for_each(|record: ExitRecord| left.insert(record));
    let pids = |pids: Vec<i32>| pids.into_iter().map(pid).collect::<Result<_, _>>().map_err(missing);
    let mut overdue = vec![];
    for late in state.overdue {
        overdue.push((late.until, given.process(late.process).map_err(missing)?));
    }
    Ok(World {
        boot_id: state.boot_id,
        origin: Origin::of(setup),
        events: events::Events::new().map_err(KeeperError::start("events"))?,
        timers: timers::Timers::new().map_err(KeeperError::start("timers"))?,
        now: clock::now(),
        inherited: Inherited { nofile: state.nofile, niced: state.niced, strangers: state.strangers },
        method: if state.clone3 { Method::Clone3 } else { Method::Clone },
        stacks: Stacks::default(),
        trees,
        null: dev_null().map_err(KeeperError::start("/dev/null"))?.into(),
        monitors: monitors::share(&setup.state_dir).map_err(KeeperError::start("monitors"))?,
        own: pids(state.own)?,
        spared: pids(state.spared)?,
        overdue,
        journal: journal::Journal::resume(&setup.state_dir, state.boot_id, journal, state.journal_length),
        left,
        outbox: Outbox::default(),
    })
}

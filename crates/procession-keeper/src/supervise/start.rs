//! From a launch to a child: everything opened, then one clone, then nothing that can fail
//! without the child being supervised.

use std::os::fd::{AsFd, OwnedFd};
use std::rc::Rc;

use bytes::Bytes;
use procession_core::attempt::{self, Bounds, Input, Instant};
use procession_core::launch::{Launch, ResourceLimit, Stdin};
use procession_core::record::{Containment, Ending, ExitRecord, Phase, StreamRecord, Usage};
use rustix::fs::OFlags;
use rustix::io::Errno;

use super::Attempt;
use super::hold::part;
use super::tree::{Tree, Watch};
use crate::events::{AttemptId, Part, Source};
use crate::fault;
use crate::file::open_regular;
use crate::output::{self, Output};
use crate::spawn::{Command, Failure, Newborn, Process, clone, prepare};
use crate::sys::clock::{self, wall_us};
use crate::tree::cgroup::Join;
use crate::tree::monitor;
use crate::tree::watch::Wire;
use crate::world::{Trees, World};

/// Starts an attempt. An error: there was no child.
pub(crate) fn start(id: AttemptId, launch: &Launch, world: &mut World) -> Result<Attempt, Failure> {
    let stdin = open_stdin(&launch.stdin).map_err(Failure::at(Phase::Prepare))?;
    let owner = launch.credentials.as_ref().map(|who| (who.uid, who.gid));
    let (output, ends) = output::open(&launch.output, owner).map_err(Failure::at(Phase::Prepare))?;
    let argv: Vec<&[u8]> = launch.argv.iter().map(AsRef::as_ref).collect();
    let env: Vec<&[u8]> = launch.env.iter().map(AsRef::as_ref).collect();
    let rlimits = rlimits(launch, world);
    let null = Rc::clone(&world.null);
    let stdout = ends.stdout.as_fd();
    let command = Command {
        program: &launch.program,
        argv: &argv,
        env: &env,
        directory: Some(&launch.directory),
        stdio: [
            stdin.as_ref().unwrap_or(&*null).as_fd(),
            stdout,
            ends.stderr.as_ref().map_or(stdout, AsFd::as_fd),
        ],
        extra: None,
        join: None,
        umask: 0o022,
        nice: world.inherited.niced,
        die_with_parent: false,
        rlimits: &rlimits,
        credentials: launch.credentials.as_ref(),
    };
    let born = match world.containment() {
        Containment::Cgroup => in_cgroup(command, world)?,
        Containment::Monitor => below_monitor(command, world)?,
    };
    fault::point("supervise.after_clone");
    Ok(supervise(id, launch, born, output, world))
}

/// A child and what holds its tree; the status pipe is a monitor's business if it has one.
struct Born {
    process: Process,
    newborn: Option<Newborn>,
    tree: Tree,
}

fn in_cgroup(command: Command<'_>, world: &mut World) -> Result<Born, Failure> {
    let Trees::Cgroups(cgroups) = &mut world.trees else {
        return Err(Failure { phase: Phase::Cgroup, errno: Errno::NOSYS });
    };
    let at_birth = cgroups.join() == Join::AtBirth;
    let slot = cgroups.take().map_err(Failure::at(Phase::Cgroup))?;
    let procs = if at_birth { Ok(None) } else { slot.procs().map(Some) };
    let born = procs.map_err(Failure::at(Phase::Cgroup)).and_then(|procs| {
        let command = Command { join: procs.as_ref().map(AsFd::as_fd), ..command };
        let prepared = prepare(&command, &mut world.stacks)?;
        let folder = at_birth.then(|| slot.folder());
        clone(prepared, world.method, folder, &mut world.stacks)
            .map_err(|errno| clone_failure(errno, at_birth))
    });
    match born {
        Ok((process, newborn)) => {
            Ok(Born { process, newborn: Some(newborn), tree: Tree::Cgroup { slot, leaked: 0 } })
        }
        Err(failure) => {
            cgroups.give_back(slot);
            Err(failure)
        }
    }
}

fn below_monitor(mut command: Command<'_>, world: &mut World) -> Result<Born, Failure> {
    command.die_with_parent = true;
    let null = Rc::clone(&world.null);
    let (ours, theirs) = Wire::pair().map_err(Failure::at(Phase::Prepare))?;
    let process =
        monitor::start((&theirs, &world.monitors), &command, &null, world.method, &mut world.stacks)
            .map_err(|errno| clone_failure(errno, false))?;
    Ok(Born { process, newborn: None, tree: Tree::Monitor(Watch::new(ours)) })
}

/// `clone3` may fail for the process, for its descriptor or for its cgroup.
fn clone_failure(errno: Errno, at_birth: bool) -> Failure {
    let phase = match errno {
        Errno::MFILE | Errno::NFILE => Phase::Prepare,
        Errno::BUSY | Errno::OPNOTSUPP | Errno::NODEV | Errno::ACCESS if at_birth => Phase::Cgroup,
        _ => Phase::Fork,
    };
    Failure { phase, errno }
}

/// No core dumps, the open files that we were given ourselves, then what the task wants.
fn rlimits(launch: &Launch, world: &World) -> Vec<ResourceLimit> {
    let (soft, hard) = world.inherited.nofile;
    let mut limits = vec![
        ResourceLimit { resource: libc::RLIMIT_CORE, soft: 0, hard: 0 },
        ResourceLimit { resource: libc::RLIMIT_NOFILE, soft, hard },
    ];
    limits.extend_from_slice(&launch.rlimits);
    limits
}

fn open_stdin(stdin: &Stdin) -> Result<Option<OwnedFd>, Errno> {
    match stdin {
        Stdin::Null => Ok(None),
        Stdin::Bytes(bytes) => output::stdin_of(bytes).map(Some),
        Stdin::File(path) => open_regular(&crate::path_of(path), OFlags::RDONLY).map(Some),
    }
}

/// There is a child: from here on it has a supervisor.
fn supervise(
    id: AttemptId,
    launch: &Launch,
    Born { process, newborn, tree }: Born,
    output: Output,
    world: &mut World,
) -> Attempt {
    world.own.insert(process.pid);
    // Its times count from here: we may have been stopped since the last event.
    world.now = clock::now();
    let bounds =
        Bounds { timeout: launch.timeout, grace: launch.grace, leave_children: launch.leave_children };
    let (machine, actions) = attempt::Attempt::new(bounds, world.now);
    let mut attempt = Attempt {
        id,
        key: launch.key,
        // A copy: the launch's bytes are slices of whole frames.
        cookie: Bytes::copy_from_slice(&launch.cookie),
        machine,
        newborn,
        process,
        tree,
        output,
        open: [false; 2],
        told: [0; 2],
        pid: 0,
        start_ticks: 0,
        started_us: 0,
        started: Instant(0),
        finished_us: 0,
        finished: Instant(0),
        status: None,
        looks: (0, 0),
        unasked: false,
        held: false,
    };
    for action in actions {
        attempt.perform(action, world);
    }
    if attempt.watch(world).is_err() {
        // It cannot be supervised (no memory for the wait set), so it must not run on.
        attempt.feed(Input::WatcherDied, world);
    }
    attempt
}

impl Attempt {
    fn watch(&mut self, world: &World) -> Result<(), Errno> {
        let source = |part| Source::Attempt(self.id, part);
        world.events.add(self.process.pidfd.as_fd(), source(Part::Process))?;
        if let Tree::Monitor(watch) = &self.tree {
            world.events.add(watch.wire.descriptor(), source(Part::Monitor))?;
        }
        if let Some(newborn) = &self.newborn {
            world.events.add(newborn.status(), source(Part::Status))?;
        }
        for (index, stream) in self.output.streams() {
            world.events.add(stream.pipe(), Source::Attempt(self.id, part(index)))?;
            self.open[index] = true;
        }
        Ok(())
    }
}

/// The record of an attempt that never had a process.
pub(crate) fn not_started(launch: &Launch, failure: Failure, world: &World) -> ExitRecord {
    let errno = failure.errno.raw_os_error();
    let now = wall_us();
    ExitRecord {
        key: launch.key,
        ending: Ending::NotStarted { phase: failure.phase, errno, message: super::message(errno) },
        started_us: now,
        finished_us: now,
        run_us: 0,
        usage: Usage::default(),
        leaked: 0,
        stdout: StreamRecord::default(),
        stderr: StreamRecord::default(),
        containment: world.containment(),
        cookie: Bytes::copy_from_slice(&launch.cookie),
    }
}

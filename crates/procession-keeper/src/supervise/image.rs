//! An attempt as the next program of the keeper gets it, and how it is taken up there: the
//! same machine, the same descriptors, its alarms at the same moments.

use std::os::fd::AsFd;

use procession_core::attempt::{self, Input, State, Timer};
use procession_core::frame::image;
use rustix::event::epoll::EventFlags;
use rustix::io::Errno;

use super::Attempt;
use super::hold::{NEWS, part};
use super::tree::{Tree, Watch};
use crate::events::{AttemptId, Part, Source};
use crate::output::Output;
use crate::renew::{Given, Missing, Names};
use crate::timers::Timers;
use crate::tree::cgroup::Slot;
use crate::tree::watch::Wire;
use crate::world::{Alarm, World};

/// The alarms of an attempt; their places are their numbers in an image.
fn alarms(id: AttemptId) -> [Alarm; 8] {
    [
        Alarm::Attempt(id, Timer::Exec),
        Alarm::Attempt(id, Timer::Deadline),
        Alarm::Attempt(id, Timer::Grace),
        Alarm::Attempt(id, Timer::Drain),
        Alarm::WriteOut(id),
        Alarm::Notice(id),
        Alarm::Answer(id),
        Alarm::Hold(id),
    ]
}

impl Attempt {
    /// Its child shares our memory, and has not told whether it reached its program.
    pub(crate) fn is_newborn(&self) -> bool {
        self.newborn.is_some()
    }

    /// Only for one that is not newborn.
    pub(crate) fn to_image<'a>(&'a self, names: &mut Names<'a>, timers: &Timers<Alarm>) -> image::Attempt {
        let armed = |(kind, alarm)| timers.at(alarm).map(|at| image::Alarm { kind, at });
        image::Attempt {
            key: self.key,
            cookie: self.cookie.clone(),
            machine: image::Machine {
                state: self.machine.state(),
                bounds: self.machine.bounds(),
                verdict: self.machine.verdict(),
            },
            process: names.process(&self.process),
            tree: self.tree.to_image(names),
            output: self.output.to_image(names),
            open: self.open.into(),
            told: self.told.into(),
            pid: self.pid,
            start_ticks: self.start_ticks,
            started_us: self.started_us,
            started: self.started,
            finished_us: self.finished_us,
            finished: self.finished,
            looks: self.looks,
            unasked: self.unasked,
            held: self.held,
            alarms: (0u8..).zip(alarms(self.id)).filter_map(armed).collect(),
        }
    }

    pub(crate) fn from_image(
        id: AttemptId,
        image: image::Attempt,
        given: &mut Given,
    ) -> Result<Self, Missing> {
        let image::Machine { state, bounds, verdict } = image.machine;
        Ok(Self {
            id,
            key: image.key,
            cookie: image.cookie,
            machine: attempt::Attempt::resume(state, bounds, verdict),
            newborn: None,
            process: given.process(image.process)?,
            tree: Tree::from_image(image.tree, given)?,
            output: Output::from_image(image.output, given)?,
            open: image.open.into(),
            told: image.told.into(),
            pid: image.pid,
            start_ticks: image.start_ticks,
            started_us: image.started_us,
            started: image.started,
            finished_us: image.finished_us,
            finished: image.finished,
            status: None,
            looks: image.looks,
            unasked: image.unasked,
            held: image.held,
        })
    }

    /// From here on it is supervised again, as if nothing had been.
    pub(crate) fn take_up(&mut self, armed: &[image::Alarm], world: &mut World) {
        let alarms = alarms(self.id);
        for image::Alarm { kind, at } in armed {
            if let Some(alarm) = alarms.get(usize::from(*kind)) {
                world.timers.arm(*alarm, *at);
            }
        }
        if self.watch_again(world).is_err() {
            // As at its start: unsupervised it must not run on.
            self.feed(Input::WatcherDied, world);
        } else if self.machine.state() == State::Sweeping {
            // It may have become empty while nobody watched.
            self.on_tree(world);
        }
    }

    fn watch_again(&mut self, world: &World) -> Result<(), Errno> {
        let source = |part| Source::Attempt(self.id, part);
        let died = matches!(self.machine.state(), State::Sweeping | State::Draining | State::Over);
        match &self.tree {
            Tree::Cgroup { slot, .. } => {
                // A leader's death is heard once: here it is no news.
                if !died {
                    world.events.add(self.process.pidfd.as_fd(), source(Part::Process))?;
                }
                if self.machine.state() == State::Sweeping {
                    world.events.add_for(slot.events(), source(Part::Tree), EventFlags::PRI)?;
                }
            }
            Tree::Monitor(watch) => {
                world.events.add(self.process.pidfd.as_fd(), source(Part::Process))?;
                world.events.add(watch.wire.descriptor(), source(Part::Monitor))?;
            }
        }
        for (index, stream) in self.output.streams() {
            if self.open[index] {
                let source = Source::Attempt(self.id, part(index));
                let flags = if stream.is_patient() { NEWS } else { EventFlags::IN };
                world.events.add_for(stream.pipe(), source, flags)?;
            }
        }
        Ok(())
    }
}

impl Tree {
    fn to_image<'a>(&'a self, names: &mut Names<'a>) -> image::Tree {
        match self {
            Tree::Cgroup { slot, leaked } => image::Tree::Cgroup(slot.to_image(names), *leaked),
            Tree::Monitor(watch) => image::Tree::Monitor(image::Watch {
                wire: names.of(watch.wire.descriptor()),
                wait_status: watch.wait_status,
                usage: watch.usage,
                leaked: watch.leaked,
                left: watch.left,
                swept: watch.swept,
            }),
        }
    }

    fn from_image(image: image::Tree, given: &mut Given) -> Result<Self, Missing> {
        Ok(match image {
            image::Tree::Cgroup(slot, leaked) => {
                Tree::Cgroup { slot: Slot::from_image(slot, given)?, leaked }
            }
            image::Tree::Monitor(watch) => Tree::Monitor(Watch {
                wire: Wire::from(given.take(watch.wire)?),
                wait_status: watch.wait_status,
                usage: watch.usage,
                leaked: watch.leaked,
                left: watch.left,
                swept: watch.swept,
            }),
        })
    }
}

#[cfg(test)]
mod tests {
    use procession_core::attempt::Instant;

    use super::*;

    #[test]
    fn every_timer_of_the_machine_has_a_number() {
        let id = AttemptId { index: 3, generation: 7 };
        let all = alarms(id);
        for timer in [Timer::Exec, Timer::Deadline, Timer::Grace, Timer::Drain] {
            assert!(all.contains(&Alarm::Attempt(id, timer)));
        }
        let mut timers = Timers::new().expect("a timerfd");
        timers.arm(all[1], Instant(9));
        assert_eq!((timers.at(all[1]), timers.at(all[0])), (Some(Instant(9)), None));
    }
}

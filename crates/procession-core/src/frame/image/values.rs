//! The image's values as fields: every field a block, so that each may grow.

use std::time::Duration;

use bytes::Bytes;

use super::{
    Alarm, Attached, Attempt, BadFrame, Bounds, Cgroups, Ending, Fd, Image, Instant, Listener, Machine,
    MachineState, Output, Overdue, Phase, Process, Reader, Reload, Reloaded, Servers, Setup, Sink, Slot,
    State, StopCause, Stream, Tree, Up, Value, Variable, Verdict, Watch, Writer,
};

type Read<T> = Result<T, BadFrame>;

/// The next field; what a missing one reads as is the value of no bytes.
pub(super) fn field<T: Value>(r: &mut Reader) -> Read<T> {
    T::read(&mut r.block()?)
}

fn put(w: &mut Writer<'_>, value: &impl Value) {
    w.block(|w| value.write(w));
}

macro_rules! fields {
    ($name:ident: $($field:ident)*) => {
        impl Value for $name {
            fn write(&self, w: &mut Writer<'_>) {
                $(put(w, &self.$field);)*
            }

            fn read(r: &mut Reader) -> Read<Self> {
                Ok(Self { $($field: field(r)?),* })
            }
        }
    };
}

fields!(Image: folder setup state);
fields!(Setup: listeners held state_dir program args env monitor_only label);
fields!(Listener: fd name);
fields!(Variable: name value);
fields!(State: boot_id clone3 nofile niced strangers journal journal_length left own spared overdue cgroups
    servers attempts alarms ending reloaded follower log askers reload);
fields!(Reloaded: at_us error);
fields!(Reload: binary force askers);
fields!(Process: pid pidfd);
fields!(Overdue: until process);
fields!(Cgroups: name joins_before_exec next leaving);
fields!(Slot: path number name folder events killed);
fields!(Servers: generation pause_us ever_ready current retired settled);
fields!(Up: id process socket unread unsent attached greeted ready since);
fields!(Attached: at fds);
fields!(Attempt: key cookie machine process tree output open told pid start_ticks started_us started
    finished_us finished looks unasked alarms held);
fields!(Machine: state bounds verdict);
fields!(Bounds: timeout grace leave_children);
fields!(Watch: wire wait_status usage leaked left swept);
fields!(Stream: pipe path limit total sink patient);
fields!(Alarm: kind at);
fields!(Ending: asked status goodbye alone_until attempts_ended wish);

macro_rules! plain {
    ($($kind:ty: $call:ident)*) => {
        $(impl Value for $kind {
            fn write(&self, w: &mut Writer<'_>) {
                w.$call(*self);
            }

            fn read(r: &mut Reader) -> Read<Self> {
                r.$call()
            }
        })*
    };
}

plain!(bool: flag u8: u8 u32: u32 u64: u64 i32: i32 i64: i64);

impl Value for Bytes {
    fn write(&self, w: &mut Writer<'_>) {
        w.bytes(self);
    }

    fn read(r: &mut Reader) -> Read<Self> {
        r.bytes()
    }
}

impl<const N: usize> Value for [u8; N] {
    fn write(&self, w: &mut Writer<'_>) {
        w.fixed(self);
    }

    fn read(r: &mut Reader) -> Read<Self> {
        r.fixed()
    }
}

impl<T: Value> Value for Vec<T> {
    fn write(&self, w: &mut Writer<'_>) {
        w.list(self, |w, item| put(w, item));
    }

    fn read(r: &mut Reader) -> Read<Self> {
        r.list(field)
    }
}

impl<T: Value> Value for Option<T> {
    fn write(&self, w: &mut Writer<'_>) {
        w.option(self.as_ref(), |w, value| value.write(w));
    }

    fn read(r: &mut Reader) -> Read<Self> {
        r.option(T::read)
    }
}

impl<A: Value, B: Value> Value for (A, B) {
    fn write(&self, w: &mut Writer<'_>) {
        put(w, &self.0);
        put(w, &self.1);
    }

    fn read(r: &mut Reader) -> Read<Self> {
        Ok((field(r)?, field(r)?))
    }
}

impl Value for Fd {
    fn write(&self, w: &mut Writer<'_>) {
        w.i32(self.0);
    }

    // Number 0 is nobody's here: a missing descriptor is seen as one.
    fn read(r: &mut Reader) -> Read<Self> {
        r.i32().map(Fd)
    }
}

impl Value for Instant {
    fn write(&self, w: &mut Writer<'_>) {
        w.u64(self.0);
    }

    fn read(r: &mut Reader) -> Read<Self> {
        r.u64().map(Instant)
    }
}

impl Value for Duration {
    fn write(&self, w: &mut Writer<'_>) {
        w.u64(u64::try_from(self.as_micros()).unwrap_or(u64::MAX));
    }

    fn read(r: &mut Reader) -> Read<Self> {
        r.u64().map(Duration::from_micros)
    }
}

impl Value for Phase {
    fn write(&self, w: &mut Writer<'_>) {
        w.u8(*self as u8);
    }

    fn read(r: &mut Reader) -> Read<Self> {
        Phase::from_number(r.u8()?).ok_or(BadFrame::Body)
    }
}

/// Their places are their numbers.
const STATES: [MachineState; 7] = [
    MachineState::Starting,
    MachineState::Running,
    MachineState::Stopping,
    MachineState::Ending,
    MachineState::Sweeping,
    MachineState::Draining,
    MachineState::Over,
];

impl Value for MachineState {
    fn write(&self, w: &mut Writer<'_>) {
        w.u8(match self {
            MachineState::Starting => 0,
            MachineState::Running => 1,
            MachineState::Stopping => 2,
            MachineState::Ending => 3,
            MachineState::Sweeping => 4,
            MachineState::Draining => 5,
            MachineState::Over => 6,
        });
    }

    fn read(r: &mut Reader) -> Read<Self> {
        STATES.get(usize::from(r.u8()?)).copied().ok_or(BadFrame::Body)
    }
}

impl Value for Verdict {
    // "Vanished" is 0, what a missing verdict reads as: an end is never made up.
    fn write(&self, w: &mut Writer<'_>) {
        match self {
            Verdict::Vanished => w.u8(0),
            Verdict::NotStarted { phase, errno } => {
                w.u8(1);
                put(w, phase);
                put(w, errno);
            }
            Verdict::Ended { stopped } => {
                w.u8(2);
                put(w, stopped);
            }
        }
    }

    fn read(r: &mut Reader) -> Read<Self> {
        match r.u8()? {
            0 => Ok(Verdict::Vanished),
            1 => Ok(Verdict::NotStarted { phase: field(r)?, errno: field(r)? }),
            2 => Ok(Verdict::Ended { stopped: field::<Option<StopCause>>(r)? }),
            _ => Err(BadFrame::Body),
        }
    }
}

impl Value for Tree {
    fn write(&self, w: &mut Writer<'_>) {
        match self {
            Tree::Cgroup(slot, leaked) => {
                w.u8(1);
                put(w, slot);
                put(w, leaked);
            }
            Tree::Monitor(watch) => {
                w.u8(2);
                put(w, watch);
            }
        }
    }

    fn read(r: &mut Reader) -> Read<Self> {
        match r.u8()? {
            1 => Ok(Tree::Cgroup(field(r)?, field(r)?)),
            2 => Ok(Tree::Monitor(field(r)?)),
            _ => Err(BadFrame::Body),
        }
    }
}

impl Value for Output {
    fn write(&self, w: &mut Writer<'_>) {
        match self {
            Output::Pipes(stdout, stderr) => {
                w.u8(1);
                put(w, stdout);
                put(w, stderr);
            }
            Output::Files(stdout, stderr) => {
                w.u8(2);
                put(w, stdout);
                put(w, stderr);
            }
        }
    }

    fn read(r: &mut Reader) -> Read<Self> {
        match r.u8()? {
            1 => Ok(Output::Pipes(field(r)?, field(r)?)),
            2 => Ok(Output::Files(field(r)?, field(r)?)),
            _ => Err(BadFrame::Body),
        }
    }
}

impl Value for Sink {
    fn write(&self, w: &mut Writer<'_>) {
        match self {
            Sink::Memory(bytes, tried) => {
                w.u8(1);
                put(w, bytes);
                put(w, tried);
            }
            Sink::File(file, splices) => {
                w.u8(2);
                put(w, file);
                put(w, splices);
            }
            Sink::Full { file, written, tail } => {
                w.u8(3);
                put(w, file);
                put(w, written);
                put(w, tail);
            }
        }
    }

    fn read(r: &mut Reader) -> Read<Self> {
        match r.u8()? {
            1 => Ok(Sink::Memory(field(r)?, field(r)?)),
            2 => Ok(Sink::File(field(r)?, field(r)?)),
            3 => Ok(Sink::Full { file: field(r)?, written: field(r)?, tail: field(r)? }),
            _ => Err(BadFrame::Body),
        }
    }
}

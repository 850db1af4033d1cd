//! How the values inside frames are written: launches, records, and what they hold.
//!
//! Field order is the format. Fields are only ever appended; numbers of variants are
//! never given to another. The journal of the keeper stores the same bytes.

use std::time::Duration;

use bytes::Bytes;

use super::codec::BadFrame;
use super::fields::{Reader, Writer};
use super::{Held, Hello, OutputNotice, Shutdown, Started};
use crate::id::{AttemptKey, Fence, JobId};
use crate::launch::{Credentials, Launch, OutputMode, OutputPlan, ResourceLimit, Stdin};
use crate::outcome::CancelledBy;
use crate::record::{Containment, Ending, ExitRecord, OutputPlace, Phase, StopCause, StreamRecord, Usage};

type Read<T> = Result<T, BadFrame>;

/// A value with a place in a frame.
pub(super) trait Value: Sized {
    fn write(&self, w: &mut Writer<'_>);
    fn read(r: &mut Reader) -> Read<Self>;
}

impl Value for AttemptKey {
    fn write(&self, w: &mut Writer<'_>) {
        w.fixed(self.job.as_bytes());
        w.u64(self.fence.0);
    }

    fn read(r: &mut Reader) -> Read<Self> {
        Ok(Self { job: JobId::from_bytes(r.fixed()?), fence: Fence(r.u64()?) })
    }
}

impl Value for Launch {
    fn write(&self, w: &mut Writer<'_>) {
        self.key.write(w);
        w.bytes(&self.program);
        w.list(&self.argv, |w, item| w.bytes(item));
        w.list(&self.env, |w, item| w.bytes(item));
        w.bytes(&self.directory);
        self.stdin.write(w);
        w.block(|w| self.output.write(w));
        w.option(self.timeout.as_ref(), |w, timeout| w.u64(micros(*timeout)));
        w.u64(micros(self.grace));
        w.flag(self.leave_children);
        w.option(self.credentials.as_ref(), |w, credentials| credentials.write(w));
        w.list(&self.rlimits, |w, limit| w.block(|w| limit.write(w)));
        w.bytes(&self.cookie);
    }

    fn read(r: &mut Reader) -> Read<Self> {
        Ok(Self {
            key: AttemptKey::read(r)?,
            program: r.bytes()?,
            argv: r.list(Reader::bytes)?,
            env: r.list(Reader::bytes)?,
            directory: r.bytes()?,
            stdin: Stdin::read(r)?,
            output: OutputPlan::read(&mut r.block()?)?,
            timeout: r.option(Reader::u64)?.map(Duration::from_micros),
            grace: Duration::from_micros(r.u64()?),
            leave_children: r.flag()?,
            credentials: r.option(Credentials::read)?,
            rlimits: r.list(|r| ResourceLimit::read(&mut r.block()?))?,
            cookie: r.bytes()?,
        })
    }
}

/// Deadlines are kept to the microsecond.
fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

impl Value for Stdin {
    fn write(&self, w: &mut Writer<'_>) {
        let (number, bytes) = match self {
            Stdin::Null => (0, &Bytes::new()),
            Stdin::Bytes(bytes) => (1, bytes),
            Stdin::File(path) => (2, path),
        };
        w.u8(number);
        w.bytes(bytes);
    }

    fn read(r: &mut Reader) -> Read<Self> {
        let (number, bytes) = (r.u8()?, r.bytes()?);
        match number {
            0 => Ok(Stdin::Null),
            1 => Ok(Stdin::Bytes(bytes)),
            2 => Ok(Stdin::File(bytes)),
            _ => Err(BadFrame::Body),
        }
    }
}

impl Value for OutputPlan {
    fn write(&self, w: &mut Writer<'_>) {
        w.u8(match self.mode {
            OutputMode::Separate => 0,
            OutputMode::Merged => 1,
            OutputMode::File => 2,
        });
        w.u64(self.limit);
        w.bytes(&self.stdout);
        w.bytes(&self.stderr);
    }

    fn read(r: &mut Reader) -> Read<Self> {
        let mode = match r.u8()? {
            0 => OutputMode::Separate,
            1 => OutputMode::Merged,
            2 => OutputMode::File,
            _ => return Err(BadFrame::Body),
        };
        Ok(Self { mode, limit: r.u64()?, stdout: r.bytes()?, stderr: r.bytes()? })
    }
}

impl Value for Credentials {
    fn write(&self, w: &mut Writer<'_>) {
        w.u32(self.uid);
        w.u32(self.gid);
        w.list(&self.groups, |w, group| w.u32(*group));
    }

    fn read(r: &mut Reader) -> Read<Self> {
        Ok(Self { uid: r.u32()?, gid: r.u32()?, groups: r.list(Reader::u32)? })
    }
}

impl Value for ResourceLimit {
    fn write(&self, w: &mut Writer<'_>) {
        w.u32(self.resource);
        w.u64(self.soft);
        w.u64(self.hard);
    }

    fn read(r: &mut Reader) -> Read<Self> {
        Ok(Self { resource: r.u32()?, soft: r.u64()?, hard: r.u64()? })
    }
}

impl Value for CancelledBy {
    fn write(&self, w: &mut Writer<'_>) {
        w.u8(match self {
            CancelledBy::Client => 0,
            CancelledBy::Parent => 1,
            CancelledBy::Replaced => 2,
            CancelledBy::Expired => 3,
            CancelledBy::Shutdown => 4,
            CancelledBy::TaskRemoved => 5,
        });
    }

    fn read(r: &mut Reader) -> Read<Self> {
        Ok(match r.u8()? {
            0 => CancelledBy::Client,
            1 => CancelledBy::Parent,
            2 => CancelledBy::Replaced,
            3 => CancelledBy::Expired,
            4 => CancelledBy::Shutdown,
            5 => CancelledBy::TaskRemoved,
            _ => return Err(BadFrame::Body),
        })
    }
}

impl Value for Containment {
    fn write(&self, w: &mut Writer<'_>) {
        w.u8(match self {
            Containment::Cgroup => 0,
            Containment::Monitor => 1,
        });
    }

    fn read(r: &mut Reader) -> Read<Self> {
        match r.u8()? {
            0 => Ok(Containment::Cgroup),
            1 => Ok(Containment::Monitor),
            _ => Err(BadFrame::Body),
        }
    }
}

impl Value for Hello {
    fn write(&self, w: &mut Writer<'_>) {
        w.u32(self.version);
        w.u64(self.generation);
        w.fixed(&self.boot_id);
        w.u32(self.keeper_pid);
        self.containment.write(w);
        w.list(&self.listeners, |w, name| w.bytes(name));
        w.u32(self.held);
        w.flag(self.standby);
        w.flag(self.renew);
        w.flag(self.force);
        w.bytes(&self.cgroups);
        w.flag(self.settled);
        w.flag(self.managed);
    }

    fn read(r: &mut Reader) -> Read<Self> {
        Ok(Self {
            version: r.u32()?,
            generation: r.u64()?,
            boot_id: r.fixed()?,
            keeper_pid: r.u32()?,
            containment: Containment::read(r)?,
            listeners: r.list(Reader::bytes)?,
            held: r.u32()?,
            standby: r.flag()?,
            renew: r.flag()?,
            force: r.flag()?,
            cgroups: r.bytes()?,
            settled: r.flag()?,
            managed: r.flag()?,
        })
    }
}

impl Value for Started {
    fn write(&self, w: &mut Writer<'_>) {
        self.key.write(w);
        w.u32(self.pid);
        w.u64(self.start_ticks);
        w.i64(self.started_us);
        self.containment.write(w);
        w.bytes(&self.cookie);
    }

    fn read(r: &mut Reader) -> Read<Self> {
        Ok(Self {
            key: AttemptKey::read(r)?,
            pid: r.u32()?,
            start_ticks: r.u64()?,
            started_us: r.i64()?,
            containment: Containment::read(r)?,
            cookie: r.bytes()?,
        })
    }
}

impl Value for Shutdown {
    fn write(&self, w: &mut Writer<'_>) {
        w.flag(self.now);
        w.option(self.timeout.as_ref(), |w, timeout| w.u64(micros(*timeout)));
        w.flag(self.keep_jobs);
    }

    fn read(r: &mut Reader) -> Read<Self> {
        let (now, timeout) = (r.flag()?, r.option(Reader::u64)?.map(Duration::from_micros));
        Ok(Self { now, timeout, keep_jobs: r.flag()? })
    }
}

impl Value for Held {
    fn write(&self, w: &mut Writer<'_>) {
        self.key.write(w);
        w.flag(self.stdout);
        w.flag(self.stderr);
        w.bytes(&self.cgroup);
        w.i64(self.started_us);
        w.bytes(&self.cookie);
    }

    fn read(r: &mut Reader) -> Read<Self> {
        Ok(Self {
            key: AttemptKey::read(r)?,
            stdout: r.flag()?,
            stderr: r.flag()?,
            cgroup: r.bytes()?,
            started_us: r.i64()?,
            cookie: r.bytes()?,
        })
    }
}

impl Value for OutputNotice {
    fn write(&self, w: &mut Writer<'_>) {
        self.key.write(w);
        w.u64(self.stdout);
        w.u64(self.stderr);
    }

    fn read(r: &mut Reader) -> Read<Self> {
        Ok(Self { key: AttemptKey::read(r)?, stdout: r.u64()?, stderr: r.u64()? })
    }
}

impl Value for ExitRecord {
    fn write(&self, w: &mut Writer<'_>) {
        self.key.write(w);
        w.block(|w| self.ending.write(w));
        w.i64(self.started_us);
        w.i64(self.finished_us);
        w.u64(self.run_us);
        w.block(|w| self.usage.write(w));
        w.u32(self.leaked);
        w.block(|w| self.stdout.write(w));
        w.block(|w| self.stderr.write(w));
        self.containment.write(w);
        w.bytes(&self.cookie);
    }

    fn read(r: &mut Reader) -> Read<Self> {
        Ok(Self {
            key: AttemptKey::read(r)?,
            ending: Ending::read(&mut r.block()?)?,
            started_us: r.i64()?,
            finished_us: r.i64()?,
            run_us: r.u64()?,
            usage: Usage::read(&mut r.block()?)?,
            leaked: r.u32()?,
            stdout: StreamRecord::read(&mut r.block()?)?,
            stderr: StreamRecord::read(&mut r.block()?)?,
            containment: Containment::read(r)?,
            cookie: r.bytes()?,
        })
    }
}

impl Value for Ending {
    // "Vanished" is 0, what a missing ending reads as: an end is never made up.
    fn write(&self, w: &mut Writer<'_>) {
        match self {
            Ending::Vanished => w.u8(0),
            Ending::NotStarted { phase, errno, message } => {
                w.u8(1);
                w.u8(*phase as u8);
                w.i32(*errno);
                w.bytes(message.as_bytes());
            }
            Ending::Ended { wait_status, stopped } => {
                w.u8(2);
                w.i32(*wait_status);
                w.option(stopped.as_ref(), |w, cause| cause.write(w));
            }
        }
    }

    fn read(r: &mut Reader) -> Read<Self> {
        match r.u8()? {
            0 => Ok(Ending::Vanished),
            1 => Ok(Ending::NotStarted {
                phase: Phase::from_number(r.u8()?).ok_or(BadFrame::Body)?,
                errno: r.i32()?,
                message: String::from_utf8_lossy(&r.bytes()?).into_owned(),
            }),
            2 => Ok(Ending::Ended { wait_status: r.i32()?, stopped: r.option(StopCause::read)? }),
            _ => Err(BadFrame::Body),
        }
    }
}

impl Value for StopCause {
    fn write(&self, w: &mut Writer<'_>) {
        match self {
            StopCause::Deadline { limit_ms } => {
                w.u8(1);
                w.u64(*limit_ms);
            }
            StopCause::Cancelled { by } => {
                w.u8(2);
                by.write(w);
            }
        }
    }

    fn read(r: &mut Reader) -> Read<Self> {
        match r.u8()? {
            1 => Ok(StopCause::Deadline { limit_ms: r.u64()? }),
            2 => Ok(StopCause::Cancelled { by: CancelledBy::read(r)? }),
            _ => Err(BadFrame::Body),
        }
    }
}

impl Value for Usage {
    fn write(&self, w: &mut Writer<'_>) {
        w.u64(self.user_us);
        w.u64(self.system_us);
        w.u64(self.max_rss_bytes);
    }

    fn read(r: &mut Reader) -> Read<Self> {
        Ok(Self { user_us: r.u64()?, system_us: r.u64()?, max_rss_bytes: r.u64()? })
    }
}

impl Value for StreamRecord {
    fn write(&self, w: &mut Writer<'_>) {
        w.u64(self.total);
        w.u64(self.written);
        w.u8(match self.place {
            OutputPlace::Inline => 0,
            OutputPlace::File => 1,
        });
        w.bytes(&self.tail);
    }

    fn read(r: &mut Reader) -> Read<Self> {
        let (total, written) = (r.u64()?, r.u64()?);
        let place = match r.u8()? {
            0 => OutputPlace::Inline,
            1 => OutputPlace::File,
            _ => return Err(BadFrame::Body),
        };
        Ok(Self { total, written, place, tail: r.bytes()? })
    }
}

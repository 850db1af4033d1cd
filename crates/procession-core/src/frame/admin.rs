//! What the command line asks the keeper itself, on the socket `keeper/control` of the data
//! directory: things that must work whether or not a server answers HTTP.
//!
//! The same framing as between server and keeper. One question a connection, one answer; the
//! keeper then closes, but for [`Ask::Attach`], whose connection lasts as long as the keeper.

use bytes::Bytes;

use super::codec::{BadFrame, Message, frame};
use super::fields::{Reader, Writer};
use super::values::Value;
use super::{Shutdown, VERSION};

/// A question to the keeper.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ask {
    /// How are you?
    Status,
    /// End, as a signal would ask; answered before the end.
    Stop(Shutdown),
    /// Let another server take over, with the config as it is now.
    Reload {
        /// And the program as it is now: the keeper then executes it anew too.
        binary: bool,
        /// Unfinished jobs of tasks that left the config are cancelled.
        force: bool,
    },
    /// Serve again, on these listeners, which travel with the frame: for a keeper that was
    /// left alone with running jobs. Answered by DONE, and by ENDED when the keeper ends.
    Attach(Attach),
}

/// What a keeper that is alone needs to start a server.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Attach {
    /// Absolute path of the program.
    pub program: Bytes,
    /// Its arguments, without its name.
    pub args: Vec<Bytes>,
    /// `KEY=value`: the whole environment of servers from now on.
    pub env: Vec<Bytes>,
    /// What each listening socket is.
    pub listeners: Vec<Bytes>,
}

/// The keeper's answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// To STATUS.
    Status(Status),
    /// It is done, or under way.
    Done,
    /// It cannot be done; nothing was changed.
    Failed {
        /// Why, for people; may have several lines.
        message: String,
    },
    /// To who attached: the keeper ends with this exit status.
    Ended {
        /// The exit status.
        status: u8,
    },
}

/// What a keeper knows of itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Status {
    /// The keeper's protocol version.
    pub version: u32,
    /// The release of its program.
    pub release: String,
    /// Its process id.
    pub keeper_pid: u32,
    /// The server's process id; 0: there is none.
    pub server_pid: u32,
    /// The server has said READY.
    pub ready: bool,
    /// Which server it is, from 1; 0: there is none.
    pub generation: u64,
    /// Attempts that are not over.
    pub running: u32,
    /// Records that no server has committed yet.
    pub unrecorded: u32,
    /// It was asked to end.
    pub stopping: bool,
    /// It was left alone with running jobs and takes an ATTACH.
    pub alone: bool,
    /// Wall clock of the last reload or upgrade, Unix microseconds; 0: there was none.
    pub reloaded_us: i64,
    /// Why that was refused; empty: it was not.
    pub reload_error: String,
}

impl Message for Ask {
    fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Ask::Status => frame(out, 1, |w| w.u32(VERSION)),
            Ask::Stop(shutdown) => frame(out, 2, |w| shutdown.write(w)),
            Ask::Reload { binary, force } => frame(out, 3, |w| {
                w.flag(*binary);
                w.flag(*force);
            }),
            Ask::Attach(attach) => frame(out, 4, |w| attach.write(w)),
        }
    }

    fn decode(kind: u8, body: Bytes) -> Result<Option<Self>, BadFrame> {
        let r = &mut Reader::new(body);
        Ok(Some(match kind {
            1 => Ask::Status,
            2 => Ask::Stop(Shutdown::read(r)?),
            3 => Ask::Reload { binary: r.flag()?, force: r.flag()? },
            4 => Ask::Attach(Attach::read(r)?),
            _ => return Ok(None),
        }))
    }
}

impl Message for Answer {
    fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Answer::Status(status) => frame(out, 1, |w| status.write(w)),
            Answer::Done => frame(out, 2, |_| {}),
            Answer::Failed { message } => frame(out, 3, |w| w.bytes(message.as_bytes())),
            Answer::Ended { status } => frame(out, 4, |w| w.u8(*status)),
        }
    }

    fn decode(kind: u8, body: Bytes) -> Result<Option<Self>, BadFrame> {
        let r = &mut Reader::new(body);
        Ok(Some(match kind {
            1 => Answer::Status(Status::read(r)?),
            2 => Answer::Done,
            3 => Answer::Failed { message: text(r)? },
            4 => Answer::Ended { status: r.u8()? },
            _ => return Ok(None),
        }))
    }
}

fn text(r: &mut Reader) -> Result<String, BadFrame> {
    Ok(String::from_utf8_lossy(&r.bytes()?).into_owned())
}

impl Value for Attach {
    fn write(&self, w: &mut Writer<'_>) {
        w.bytes(&self.program);
        for list in [&self.args, &self.env, &self.listeners] {
            w.list(list, |w, item| w.bytes(item));
        }
    }

    fn read(r: &mut Reader) -> Result<Self, BadFrame> {
        Ok(Self {
            program: r.bytes()?,
            args: r.list(Reader::bytes)?,
            env: r.list(Reader::bytes)?,
            listeners: r.list(Reader::bytes)?,
        })
    }
}

impl Value for Status {
    fn write(&self, w: &mut Writer<'_>) {
        w.u32(self.version);
        w.bytes(self.release.as_bytes());
        w.u32(self.keeper_pid);
        w.u32(self.server_pid);
        w.flag(self.ready);
        w.u64(self.generation);
        w.u32(self.running);
        w.u32(self.unrecorded);
        w.flag(self.stopping);
        w.flag(self.alone);
        w.i64(self.reloaded_us);
        w.bytes(self.reload_error.as_bytes());
    }

    fn read(r: &mut Reader) -> Result<Self, BadFrame> {
        Ok(Self {
            version: r.u32()?,
            release: text(r)?,
            keeper_pid: r.u32()?,
            server_pid: r.u32()?,
            ready: r.flag()?,
            generation: r.u64()?,
            running: r.u32()?,
            unrecorded: r.u32()?,
            stopping: r.flag()?,
            alone: r.flag()?,
            reloaded_us: r.i64()?,
            reload_error: text(r)?,
        })
    }
}

//! What a service manager is told (`sd_notify`): ready, reloading, stopping, and that we are
//! well. Datagrams, never waited for; without `NOTIFY_SOCKET` nothing is said.

use std::os::fd::OwnedFd;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::time::Duration;

use procession_core::frame::ToServer;
use rustix::net::{AddressFamily, SendFlags, SocketAddrUnix, SocketFlags, SocketType, sendto, socket_with};
use rustix::process::Signal;
use rustix::time::{ClockId, clock_gettime};

use crate::keeper::Keeper;
use crate::world::Alarm;

/// Between service manager and keeper alone: neither servers nor jobs get these.
pub(crate) const VARIABLES: [&str; 6] =
    ["NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID", "LISTEN_FDS", "LISTEN_PID", "LISTEN_FDNAMES"];

/// A server that leaves so many PINGs unanswered is ended: that is one and a half times what the
/// service manager tolerates.
const MOST_UNANSWERED: u32 = 3;

/// See the module.
#[derive(Debug)]
pub(crate) struct Notify {
    socket: Option<(OwnedFd, SocketAddrUnix)>,
    /// How often it wants to hear that all is well: half of what it tolerates.
    pub(crate) watchdog: Option<Duration>,
    was_ready: bool,
    was_stopping: bool,
    /// So many PINGs were said since the last PONG.
    unanswered: u32,
}

impl Notify {
    /// From the environment, which is left as it is: a renewed keeper reads it again.
    pub(crate) fn from_environment() -> Self {
        let name = std::env::var_os("NOTIFY_SOCKET").map(OsStringExt::into_vec);
        let address = name.as_deref().and_then(address);
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let open = |address| {
            let socket = socket_with(AddressFamily::UNIX, SocketType::DGRAM, flags, None).ok()?;
            Some((socket, address))
        };
        let variable = |name| std::env::var(name).ok();
        let number = |name| variable(name).and_then(|text| text.parse::<u64>().ok());
        let ours = variable("WATCHDOG_PID").is_none_or(|pid| pid == std::process::id().to_string());
        let watchdog = number("WATCHDOG_USEC").filter(|usec| *usec > 0 && ours);
        Self {
            socket: address.and_then(open),
            watchdog: watchdog.map(|usec| Duration::from_micros(usec) / 2),
            was_ready: false,
            was_stopping: false,
            unanswered: 0,
        }
    }

    /// After a renewal: what was said before.
    pub(crate) fn resume(&mut self, was_ready: bool) {
        self.was_ready = was_ready;
    }

    /// A server answers; said once.
    pub(crate) fn ready(&mut self) {
        if !std::mem::replace(&mut self.was_ready, true) {
            self.say(&format!("READY=1\nMAINPID={}\nSTATUS=serving", std::process::id()));
        }
    }

    /// Another server is on its way.
    pub(crate) fn reloading(&mut self) {
        let now = clock_gettime(ClockId::Monotonic);
        let micros = now.tv_sec * 1_000_000 + now.tv_nsec / 1_000;
        self.say(&format!("RELOADING=1\nMONOTONIC_USEC={micros}\nSTATUS=reloading"));
    }

    /// It has taken over, or was refused with the first line of `error`.
    pub(crate) fn reloaded(&mut self, error: Option<&str>) {
        if !self.was_ready || self.was_stopping {
            return;
        }
        let why = error.and_then(|error| error.lines().next()).map(|line| format!("; not reloaded: {line}"));
        self.say(&format!("READY=1\nSTATUS=serving{}", why.unwrap_or_default()));
    }

    /// The end has begun; said once.
    pub(crate) fn stopping(&mut self) {
        if !std::mem::replace(&mut self.was_stopping, true) {
            self.say("STOPPING=1\nSTATUS=stopping");
        }
    }

    /// For people.
    pub(crate) fn status(&mut self, text: &str) {
        self.say(&format!("STATUS={text}"));
    }

    /// All is well.
    pub(crate) fn alive(&mut self) {
        self.say("WATCHDOG=1");
    }

    /// The server has answered a PING, or become ready.
    pub(crate) fn pong(&mut self) {
        self.unanswered = 0;
    }

    fn say(&self, message: &str) {
        if let Some((socket, address)) = &self.socket {
            let _ = sendto(socket, message.as_bytes(), SendFlags::NOSIGNAL | SendFlags::DONTWAIT, address);
        }
    }
}

impl Keeper {
    /// The alarm of that name: that we are here is the word that all is well, because whoever
    /// does not hear it ends what runs as well. A server that is ill is ours to end: one that was
    /// ready and answers nothing is followed by another.
    pub(crate) fn tend_watchdog(&mut self) {
        let Some(pause) = self.notify.watchdog else { return };
        self.world.timers.arm(Alarm::Watchdog, self.world.now.after(pause));
        self.notify.say("WATCHDOG=1");
        if !self.servers.is_ready() || self.servers.is_handing_over() {
            self.notify.unanswered = 0;
        } else if self.notify.unanswered >= MOST_UNANSWERED {
            self.notify.unanswered = 0;
            crate::complain(format_args!("the server answers nothing and is ended"));
            self.servers.signal_current(Signal::KILL);
        } else {
            self.notify.unanswered += 1;
            self.servers.say(&ToServer::Ping);
        }
    }
}

/// A path, or `@` and a name that stands in no folder.
fn address(name: &[u8]) -> Option<SocketAddrUnix> {
    match name {
        [b'/', ..] => SocketAddrUnix::new(std::ffi::OsStr::from_bytes(name)).ok(),
        [b'@', rest @ ..] => SocketAddrUnix::new_abstract_name(rest).ok(),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_kinds_of_names_and_no_other() {
        assert_eq!(address(b"/run/x").expect("a path").path_bytes(), Some(b"/run/x".as_slice()));
        assert_eq!(address(b"@x").expect("a name").abstract_name(), Some(b"x".as_slice()));
        for name in ["", "x", "vsock:2:1"] {
            assert!(address(name.as_bytes()).is_none(), "{name}");
        }
    }
}

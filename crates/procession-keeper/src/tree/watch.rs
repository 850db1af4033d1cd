//! The keeper's end of a monitor: what it is told and what it tells.
//!
//! Fixed small messages on a socket that keeps their borders. A monitor is forked and runs the
//! keeper's code of that day; the keeper may execute a newer program later: numbers are never
//! given to another meaning, and the size stays.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use procession_core::record::{Phase, Usage};
use rustix::io::Errno;
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, recv, send, socketpair};

/// From the keeper.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Order {
    /// TERM and CONT to the tree.
    Terminate,
    /// KILL to the tree.
    Kill,
    /// The leader has ended: end the rest.
    Sweep,
    /// The leader has ended: let the rest be.
    Leave,
    /// Where does the child hang?
    Locate,
}

const ORDERS: [Order; 5] = [Order::Terminate, Order::Kill, Order::Sweep, Order::Leave, Order::Locate];

/// From the monitor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Report {
    /// The leader became its program.
    Started { pid: u32, start_ticks: u64 },
    /// It could not.
    Failed { phase: Phase, errno: i32 },
    /// The step it is in.
    Located { phase: Phase },
    /// It is dead, not reaped; `unasked`: before any order could reach it.
    Ended { wait_status: i32, unasked: bool },
    /// Reaped; nothing of the tree lives, or what lives is left alone.
    Swept { wait_status: i32, usage: Usage, leaked: u32 },
}

/// The largest message: a number and five values.
const SIZE: usize = 48;

impl Report {
    fn to_bytes(self) -> [u8; SIZE] {
        let fields: [u64; 6] = match self {
            Report::Started { pid, start_ticks } => [1, pid.into(), start_ticks, 0, 0, 0],
            Report::Failed { phase, errno } => [2, phase as u64, bits(errno), 0, 0, 0],
            Report::Located { phase } => [3, phase as u64, 0, 0, 0, 0],
            Report::Ended { wait_status, unasked } => [4, bits(wait_status), unasked.into(), 0, 0, 0],
            Report::Swept { wait_status, usage, leaked } => {
                let Usage { user_us, system_us, max_rss_bytes } = usage;
                [5, bits(wait_status), leaked.into(), user_us, system_us, max_rss_bytes]
            }
        };
        let mut bytes = [0; SIZE];
        for (place, field) in bytes.chunks_exact_mut(8).zip(fields) {
            place.copy_from_slice(&field.to_ne_bytes());
        }
        bytes
    }

    fn from_bytes(bytes: &[u8; SIZE]) -> Option<Report> {
        let mut fields = [0u64; 6];
        for (field, place) in fields.iter_mut().zip(bytes.chunks_exact(8)) {
            *field = place.try_into().map(u64::from_ne_bytes).unwrap_or_default();
        }
        let [kind, a, b, user_us, system_us, max_rss_bytes] = fields;
        let phase = || Phase::from_number(a as u8);
        Some(match kind {
            1 => Report::Started { pid: a as u32, start_ticks: b },
            2 => Report::Failed { phase: phase()?, errno: b as i32 },
            3 => Report::Located { phase: phase()? },
            4 => Report::Ended { wait_status: a as i32, unasked: b != 0 },
            5 => {
                let usage = Usage { user_us, system_us, max_rss_bytes };
                Report::Swept { wait_status: a as i32, usage, leaked: b as u32 }
            }
            _ => return None,
        })
    }
}

fn bits(number: i32) -> u64 {
    u64::from(number.cast_unsigned())
}

/// One end of the socket between keeper and monitor.
#[derive(Debug)]
pub(crate) struct Wire {
    socket: OwnedFd,
}

/// Nothing was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Silence {
    /// Nothing yet.
    Quiet,
    /// The other end is gone.
    Gone,
}

/// The keeper's end, from the program before.
impl From<OwnedFd> for Wire {
    fn from(socket: OwnedFd) -> Self {
        Wire { socket }
    }
}

impl Wire {
    pub(crate) fn pair() -> Result<(Wire, Wire), Errno> {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let (a, b) = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)?;
        Ok((Wire { socket: a }, Wire { socket: b }))
    }

    pub(crate) fn descriptor(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    /// A monitor that is gone hears nothing; its death is seen elsewhere.
    pub(crate) fn order(&self, order: Order) {
        let _ = send(&self.socket, &[order as u8], SendFlags::NOSIGNAL);
    }

    pub(crate) fn report(&self, report: Report) {
        let _ = send(&self.socket, &report.to_bytes(), SendFlags::NOSIGNAL);
    }

    pub(crate) fn next_order(&self) -> Result<Order, Silence> {
        let mut byte = [0; 1];
        self.receive(&mut byte)?;
        ORDERS.get(usize::from(byte[0])).copied().ok_or(Silence::Quiet)
    }

    pub(crate) fn next_report(&self) -> Result<Report, Silence> {
        let mut bytes = [0; SIZE];
        self.receive(&mut bytes)?;
        Report::from_bytes(&bytes).ok_or(Silence::Quiet)
    }

    fn receive(&self, bytes: &mut [u8]) -> Result<(), Silence> {
        loop {
            match recv(&self.socket, &mut *bytes, RecvFlags::empty()) {
                Ok((length, _)) if length == bytes.len() => return Ok(()),
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => return Err(Silence::Quiet),
                Ok(_) | Err(_) => return Err(Silence::Gone),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn orders_and_reports_arrive_as_sent() {
        let (keeper, monitor) = Wire::pair().expect("a pair");
        for order in ORDERS {
            keeper.order(order);
            assert_eq!(monitor.next_order(), Ok(order));
        }
        let usage = Usage { user_us: 1, system_us: 2, max_rss_bytes: u64::MAX };
        for report in [
            Report::Started { pid: u32::MAX, start_ticks: 7 },
            Report::Failed { phase: Phase::Exec, errno: -2 },
            Report::Located { phase: Phase::Prepare },
            Report::Ended { wait_status: 0xff00, unasked: true },
            Report::Swept { wait_status: -1, usage, leaked: 3 },
        ] {
            monitor.report(report);
            assert_eq!(keeper.next_report(), Ok(report));
        }
        assert_eq!(keeper.next_report(), Err(Silence::Quiet));
        drop(monitor);
        assert_eq!(keeper.next_report(), Err(Silence::Gone));
    }
}

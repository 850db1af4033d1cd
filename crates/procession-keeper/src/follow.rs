//! A process that stands where a keeper would, in a terminal or under a service manager, while
//! the keeper is another: hands on signals, and ends as the keeper does. A service manager that
//! started it hears from it: the keeper speaks to the one that started the keeper.

use std::os::fd::OwnedFd;
use std::time::Duration;

use procession_core::frame::admin::Answer;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::process::Signal;

use crate::ask::Conversation;
use crate::identity::Handle;
use crate::notify::Notify;
use crate::sys::signals;

const HANDED_ON: [(i32, Signal); 6] = [
    (libc::SIGTERM, Signal::TERM),
    (libc::SIGINT, Signal::INT),
    (libc::SIGQUIT, Signal::QUIT),
    (libc::SIGHUP, Signal::HUP),
    (libc::SIGUSR1, Signal::USR1),
    (libc::SIGUSR2, Signal::USR2),
];

/// What a keeper that ends says last is read within this.
const LAST_WORD: Duration = Duration::from_millis(500);

/// How the keeper that was followed ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Followed {
    /// With this exit status.
    Ended(u8),
    /// Without a word: it was killed.
    Lost,
}

/// Follows `keeper`, to which `conversation` has attached. Changes what signals do in this
/// process for good.
pub fn follow(conversation: Conversation, keeper: &Handle) -> std::io::Result<Followed> {
    signals::take_over();
    let heard = signals::descriptor(&HANDED_ON.map(|(number, _)| number))?;
    let mut conversation = Some(conversation);
    let mut notify = Notify::from_environment();
    notify.ready();
    loop {
        notify.alive();
        let (said, ended) = wait(&heard, conversation.as_ref(), keeper, notify.watchdog)?;
        for number in signals::read(&heard) {
            if [libc::SIGTERM, libc::SIGINT, libc::SIGQUIT].contains(&number) {
                notify.stopping();
            }
            if let Some((_, signal)) = HANDED_ON.iter().find(|(handed, _)| *handed == number) {
                // One that has ended hears nothing; that it has is seen next.
                let _ = keeper.signal(*signal);
            }
        }
        if said && let Some(open) = &mut conversation {
            match open.next(LAST_WORD) {
                Ok(Answer::Ended { status }) => return Ok(Followed::Ended(status)),
                Ok(_) => {}
                // It was renewed, or is about to be seen dead.
                Err(_) => conversation = None,
            }
        } else if ended {
            return Ok(Followed::Lost);
        }
    }
}

/// Whether the keeper has said something; whether it has ended. Neither: a signal, or `bound`.
fn wait(
    heard: &OwnedFd,
    conversation: Option<&Conversation>,
    keeper: &Handle,
    bound: Option<Duration>,
) -> std::io::Result<(bool, bool)> {
    let bound = bound.and_then(|bound| Timespec::try_from(bound).ok());
    let mut fds =
        vec![PollFd::new(heard, PollFlags::IN), PollFd::from_borrowed_fd(keeper.as_fd(), PollFlags::IN)];
    fds.extend(conversation.map(|open| PollFd::from_borrowed_fd(open.as_fd(), PollFlags::IN)));
    match poll(&mut fds, bound.as_ref()) {
        Ok(_) | Err(Errno::INTR) => {}
        Err(errno) => return Err(errno.into()),
    }
    let woke = |at: usize| fds.get(at).is_some_and(|fd| !fd.revents().is_empty());
    Ok((woke(2), woke(1)))
}

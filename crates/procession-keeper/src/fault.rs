//! Named places in keeper and server where a test lets the process die, fail or wait.
//!
//! Armed by the environment, and only in debug builds: a release build has neither the table
//! nor the checks. `PROCESSION_FAULT="finish.before_commit=abort@3,ack.before_send=pause:200ms@1"`
//! ends the process the third time it comes to the first place, as `kill -9` would, and lets
//! it wait at the first coming to the second; `error` fails what is about to be done there.
//! With `PROCESSION_FAULT_ONCE=<folder>` the comings are counted over all processes, by files
//! made there, so that each fault happens once however often they are started again.

/// Every place, as `room.moment`. Those of the keeper come last.
pub const POINTS: [&str; 34] = [
    "submit.before_commit",
    "submit.after_commit",
    "claim.before_commit",
    "claim.after_commit",
    "spawn.before_send",
    "spawn.after_send",
    "link.before_write",
    "link.after_write",
    "cancel.before_commit",
    "cancel.after_commit",
    "finish.before_commit",
    "finish.after_commit",
    "ack.before_send",
    "ack.after_send",
    "deliver.before_send",
    "deliver.before_ack",
    "deliver.before_follow",
    "deliver.after_follow",
    "recover.between_rows",
    "ready.before_send",
    "standby.before_prepared",
    "standby.after_prepared",
    "standby.at_proceed",
    "retire.before_release",
    "retire.after_release",
    "supervise.after_clone",
    "journal.before_write",
    "journal.after_write",
    "keeper.at_ack",
    "keeper.at_server_start",
    "handover.before_retire",
    "handover.before_promote",
    "renew.before_exec",
    "renew.after_exec",
];

pub use armed::{boot_id, check, point};

/// What was asked for fails here because a test wants it to.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("a test lets {0} fail")]
pub struct Injected(pub &'static str);

#[cfg(not(debug_assertions))]
mod armed {
    use super::Injected;

    /// Nothing, in this build.
    #[inline(always)]
    pub fn point(_name: &'static str) {}

    /// Nothing, in this build.
    ///
    /// # Errors
    /// None.
    #[inline(always)]
    pub fn check(_name: &'static str) -> Result<(), Injected> {
        Ok(())
    }

    /// The kernel's, in this build.
    #[inline(always)]
    pub fn boot_id() -> Option<String> {
        None
    }
}

#[cfg(debug_assertions)]
mod armed {
    use std::fs::File;
    use std::path::PathBuf;
    use std::sync::OnceLock;
    use std::sync::atomic::{AtomicU32, Ordering};
    use std::time::Duration;

    use rustix::process::{Signal, getpid, kill_process};

    use super::{Injected, POINTS};

    /// What is to happen, and where.
    struct Fault {
        point: String,
        act: Act,
        /// At which coming, from 1.
        nth: u32,
        comings: AtomicU32,
    }

    #[derive(Clone, Copy)]
    enum Act {
        Abort,
        Error,
        Pause(Duration),
    }

    struct Plan {
        faults: Vec<Fault>,
        /// Where comings are counted over all processes.
        folder: Option<PathBuf>,
    }

    /// A place where nothing can be refused: dies or waits, if it is to.
    pub fn point(name: &'static str) {
        let _ = check(name);
    }

    /// A place where what follows may fail: dies or waits, if it is to.
    ///
    /// # Errors
    /// A test wants it to fail.
    pub fn check(name: &'static str) -> Result<(), Injected> {
        debug_assert!(POINTS.contains(&name), "{name} is not in the table of points");
        match plan().due(name) {
            Some(Act::Abort) => {
                // Nothing of ours may run after this, no handler and no flush.
                let _ = kill_process(getpid(), Signal::KILL);
                std::process::abort()
            }
            Some(Act::Pause(wait)) => {
                #[expect(clippy::disallowed_methods, reason = "a test widens the moment between two steps")]
                std::thread::sleep(wait);
                Ok(())
            }
            Some(Act::Error) => Err(Injected(name)),
            None => Ok(()),
        }
    }

    /// The boot that a test wants it to be, as the kernel would write it.
    pub fn boot_id() -> Option<String> {
        std::env::var("PROCESSION_BOOT_ID").ok()
    }

    fn plan() -> &'static Plan {
        static PLAN: OnceLock<Plan> = OnceLock::new();
        PLAN.get_or_init(|| {
            let text = std::env::var("PROCESSION_FAULT").unwrap_or_default();
            let folder = std::env::var_os("PROCESSION_FAULT_ONCE").map(PathBuf::from);
            Plan { faults: text.split(',').filter_map(parse).collect(), folder }
        })
    }

    impl Plan {
        /// What is to happen at this coming to `name`.
        fn due(&self, name: &str) -> Option<Act> {
            self.faults.iter().filter(|fault| fault.point == name).find(|f| self.is_due(f)).map(|f| f.act)
        }

        fn is_due(&self, fault: &Fault) -> bool {
            let Some(folder) = &self.folder else {
                return fault.comings.fetch_add(1, Ordering::Relaxed) + 1 == fault.nth;
            };
            // The first free number is this coming's: two processes never get the same.
            let free = |n: &u32| File::create_new(folder.join(format!("{}.{n}", fault.point))).is_ok();
            (1..=fault.nth).find(free) == Some(fault.nth)
        }
    }

    /// `room.moment=abort@3`; a plan that cannot be read arms nothing, and its test sees that.
    fn parse(text: &str) -> Option<Fault> {
        let (point, rest) = text.split_once('=')?;
        let (act, nth) = rest.split_once('@')?;
        let act = match act.split_once(':') {
            None if act == "abort" => Act::Abort,
            None if act == "error" => Act::Error,
            Some(("pause", wait)) => {
                Act::Pause(Duration::from_millis(wait.strip_suffix("ms")?.parse().ok()?))
            }
            _ => return None,
        };
        Some(Fault { point: point.into(), act, nth: nth.parse().ok()?, comings: AtomicU32::new(0) })
    }

    #[cfg(test)]
    mod tests {
        use super::*;

        fn plan(text: &str, folder: Option<PathBuf>) -> Plan {
            Plan { faults: text.split(',').filter_map(parse).collect(), folder }
        }

        #[test]
        fn the_nth_coming_and_no_other() {
            let plan = plan("a.b=abort@3,c.d=pause:20ms@1,junk,e.f=abort", None);
            assert_eq!(plan.faults.len(), 2);
            let due: Vec<bool> = (0..5).map(|_| plan.due("a.b").is_some()).collect();
            assert_eq!(due, [false, false, true, false, false]);
            assert!(matches!(plan.due("c.d"), Some(Act::Pause(wait)) if wait == Duration::from_millis(20)));
            assert!(plan.due("e.f").is_none());
        }

        #[test]
        fn counted_over_processes_it_happens_once() {
            let folder = tempfile::TempDir::new().expect("a folder");
            let one = || plan("a.b=error@2", Some(folder.path().into()));
            let (first, second) = (one(), one());
            assert!(first.due("a.b").is_none());
            assert!(second.due("a.b").is_some());
            assert!(first.due("a.b").is_none() && second.due("a.b").is_none());
        }
    }
}

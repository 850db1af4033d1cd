//! Lines on their way from whoever logs to the thread that writes them. Bounded: where the
//! writer cannot keep up, lines are dropped and counted, and nobody waits.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Bytes that may wait.
const MOST: usize = 4 << 20;

/// Between many who put and one who takes.
#[derive(Debug, Default)]
pub(super) struct Queue {
    waiting: Mutex<Waiting>,
    news: Condvar,
    written: Condvar,
}

#[derive(Debug, Default)]
struct Waiting {
    lines: Vec<u8>,
    lost: u64,
    reopen: bool,
    closed: bool,
    /// How often something was put in, and how much of that has been dealt with.
    put: u64,
    done: u64,
}

/// What was waiting.
#[derive(Debug, Default)]
pub(super) struct Taken {
    /// Whole lines.
    pub(super) lines: Vec<u8>,
    /// How many more there were no room for.
    pub(super) lost: u64,
    /// The file is to be opened anew first.
    pub(super) reopen: bool,
    upto: u64,
}

impl Queue {
    /// Adds a line, which ends with a line feed. Never waits for a disk.
    pub(super) fn put(&self, line: &[u8]) {
        let mut waiting = self.lock();
        if waiting.closed {
            return;
        }
        if waiting.lines.len() + line.len() > MOST {
            waiting.lost += 1;
        } else {
            waiting.lines.extend_from_slice(line);
        }
        waiting.put += 1;
        drop(waiting);
        self.news.notify_one();
    }

    /// Takes nothing more; what is in it is still written.
    pub(super) fn close(&self) {
        self.lock().closed = true;
    }

    /// Asks for the file to be opened anew.
    pub(super) fn reopen(&self) {
        let mut waiting = self.lock();
        waiting.reopen = true;
        waiting.put += 1;
        drop(waiting);
        self.news.notify_one();
    }

    /// All there is, once there is something; nothing after `patience`.
    pub(super) fn take(&self, patience: Duration) -> Taken {
        let idle = |waiting: &mut Waiting| waiting.put == waiting.done;
        let waiting = self.lock();
        let waited = self.news.wait_timeout_while(waiting, patience, idle);
        let mut waiting = waited.map_or_else(|poisoned| poisoned.into_inner().0, |(waiting, _)| waiting);
        Taken {
            lines: std::mem::take(&mut waiting.lines),
            lost: std::mem::take(&mut waiting.lost),
            reopen: std::mem::take(&mut waiting.reopen),
            upto: waiting.put,
        }
    }

    /// What was taken is written, or given up.
    pub(super) fn done(&self, taken: &Taken) {
        self.lock().done = taken.upto;
        self.written.notify_all();
    }

    /// Returns once all that was put in before is dealt with, or at `deadline`.
    pub(super) fn flush(&self, deadline: Instant) {
        let waiting = self.lock();
        let upto = waiting.put;
        let left = deadline.saturating_duration_since(Instant::now());
        drop(self.written.wait_timeout_while(waiting, left, |waiting| waiting.done < upto));
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_come_out_in_order_and_all_at_once() {
        let queue = Queue::default();
        queue.put(b"one\n");
        queue.put(b"two\n");
        let taken = queue.take(Duration::ZERO);
        assert_eq!((taken.lines.as_slice(), taken.lost, taken.reopen), (&b"one\ntwo\n"[..], 0, false));
        assert_eq!(queue.take(Duration::ZERO).lines, b"", "nothing comes twice");
    }

    #[test]
    fn what_was_put_before_the_end_comes_out_and_nothing_after() {
        let queue = Queue::default();
        queue.put(b"before\n");
        queue.close();
        queue.put(b"after\n");
        assert_eq!(queue.take(Duration::ZERO).lines, b"before\n");
    }

    #[test]
    fn f08_what_there_is_no_room_for_is_counted() {
        let queue = Queue::default();
        let line = [b'x'; MOST / 4];
        (0..7).for_each(|_| queue.put(&line));
        let taken = queue.take(Duration::ZERO);
        assert_eq!((taken.lines.len(), taken.lost), (MOST, 3));
        queue.put(b"room again\n");
        let taken = queue.take(Duration::ZERO);
        assert_eq!((taken.lines.as_slice(), taken.lost), (&b"room again\n"[..], 0));
    }

    #[test]
    fn whatever_many_put_at_once_is_taken_or_counted() {
        const EACH: usize = 20_000;
        let queue = Queue::default();
        let (mut lines, mut lost) = (Vec::new(), 0);
        std::thread::scope(|scope| {
            let put =
                |who: char| (0..EACH).for_each(|n| queue.put(format!("{who}{n}{:>400}\n", "").as_bytes()));
            let threads = ['a', 'b', 'c'].map(|who| scope.spawn(move || put(who)));
            while !threads.iter().all(std::thread::ScopedJoinHandle::is_finished) {
                let taken = queue.take(Duration::from_millis(1));
                lines.extend_from_slice(&taken.lines);
                lost += taken.lost;
                queue.done(&taken);
            }
            let last = queue.take(Duration::ZERO);
            lines.extend_from_slice(&last.lines);
            lost += last.lost;
        });
        let text = String::from_utf8(lines).expect("text");
        assert_eq!(text.lines().count() as u64 + lost, 3 * EACH as u64);
        for who in ['a', 'b', 'c'] {
            let own =
                text.lines().filter_map(|line| line.strip_prefix(who)?.trim_end().parse::<usize>().ok());
            assert!(own.is_sorted_by(|a, b| a < b), "each one's lines are in order");
        }
    }

    #[test]
    fn a_flush_waits_for_what_was_put_before_it_and_no_longer_than_it_may() {
        let queue = Queue::default();
        queue.put(b"a\n");
        let began = Instant::now();
        queue.flush(began + Duration::from_millis(50));
        assert!(began.elapsed() >= Duration::from_millis(50), "nobody has written it");
        let taken = queue.take(Duration::ZERO);
        std::thread::scope(|scope| {
            let flushed = scope.spawn(|| queue.flush(Instant::now() + Duration::from_secs(60)));
            queue.done(&taken);
            flushed.join().expect("it returns");
        });
        assert!(began.elapsed() < Duration::from_secs(30));
    }
}

//! What one keeper wrote the next reads, whichever of two neighbouring releases either is.

use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::id::{Fence, JobId};

/// Values from a seed, none of them a default by habit.
struct Dice(u64);

impl Dice {
    fn number(&mut self) -> u64 {
        // SplitMix64.
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let a = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let b = (a ^ (a >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        b ^ (b >> 31)
    }

    fn small(&mut self) -> u32 {
        self.number() as u32
    }

    fn flag(&mut self) -> bool {
        self.number() & 1 == 0
    }

    fn bytes(&mut self) -> Bytes {
        let length = self.number() % 9;
        (0..length).map(|_| self.small() as u8).collect()
    }

    fn at(&mut self) -> Instant {
        Instant(self.number())
    }

    fn fd(&mut self) -> Fd {
        Fd(self.small().cast_signed())
    }

    fn maybe<T>(&mut self, make: impl FnOnce(&mut Self) -> T) -> Option<T> {
        self.flag().then(|| make(self))
    }

    fn some<T>(&mut self, mut make: impl FnMut(&mut Self) -> T) -> Vec<T> {
        (0..self.number() % 4).map(|_| make(self)).collect()
    }

    fn process(&mut self) -> Process {
        Process { pid: self.small().cast_signed(), pidfd: self.fd() }
    }

    fn slot(&mut self) -> Slot {
        Slot {
            path: self.bytes(),
            number: self.number(),
            name: self.bytes(),
            folder: self.fd(),
            events: self.fd(),
            killed: self.flag(),
        }
    }

    fn reload(&mut self) -> Reload {
        Reload { binary: self.flag(), force: self.flag(), askers: vec![self.fd(), self.fd()] }
    }

    fn alarm(&mut self) -> Alarm {
        Alarm { kind: self.small() as u8, at: self.at() }
    }

    fn stream(&mut self) -> Stream {
        let sink = match self.number() % 3 {
            0 => Sink::Memory(self.bytes(), self.flag()),
            1 => Sink::File(self.fd(), self.flag()),
            _ => Sink::Full { file: self.maybe(Dice::fd), written: self.number(), tail: self.bytes() },
        };
        Stream {
            pipe: self.fd(),
            path: self.bytes(),
            limit: self.number(),
            total: self.number(),
            sink,
            patient: self.flag(),
        }
    }

    fn machine(&mut self) -> Machine {
        use MachineState::*;
        let state =
            [Starting, Running, Stopping, Ending, Sweeping, Draining, Over][self.number() as usize % 7];
        let verdict = match self.number() % 3 {
            0 => Verdict::Vanished,
            1 => Verdict::NotStarted { phase: Phase::ALL[self.number() as usize % 9], errno: -1 },
            _ => {
                Verdict::Ended { stopped: self.maybe(|dice| StopCause::Deadline { limit_ms: dice.number() }) }
            }
        };
        let bounds = Bounds {
            timeout: self.maybe(|dice| Duration::from_micros(dice.number())),
            grace: Duration::from_micros(self.number()),
            leave_children: self.flag(),
        };
        Machine { state, bounds, verdict }
    }

    fn attempt(&mut self) -> Attempt {
        let tree = match self.flag() {
            true => Tree::Cgroup(self.slot(), self.small()),
            false => Tree::Monitor(Watch {
                wire: self.fd(),
                wait_status: self.maybe(|dice| dice.small().cast_signed()),
                usage: Usage { user_us: self.number(), system_us: self.number(), max_rss_bytes: 3 },
                leaked: self.small(),
                left: self.flag(),
                swept: self.flag(),
            }),
        };
        let output = match self.flag() {
            true => Output::Pipes(self.stream(), self.maybe(Dice::stream)),
            false => Output::Files(self.fd(), self.fd()),
        };
        Attempt {
            key: AttemptKey { job: JobId::new(self.number() >> 17, [7; 10]), fence: Fence(self.number()) },
            cookie: self.bytes(),
            machine: self.machine(),
            process: self.process(),
            tree,
            output,
            open: (self.flag(), self.flag()),
            told: (self.number(), self.number()),
            pid: self.small(),
            start_ticks: self.number(),
            started_us: -1,
            started: self.at(),
            finished_us: i64::MIN,
            finished: self.at(),
            looks: (self.small(), self.small()),
            unasked: self.flag(),
            alarms: self.some(Dice::alarm),
            held: self.flag(),
        }
    }

    fn up(&mut self) -> Up {
        Up {
            id: self.small(),
            process: self.process(),
            socket: self.maybe(Dice::fd),
            unread: self.bytes(),
            unsent: self.bytes(),
            attached: self.some(|dice| Attached { at: dice.number(), fds: dice.some(Dice::fd) }),
            greeted: self.flag(),
            ready: self.flag(),
            since: self.at(),
        }
    }

    fn state(&mut self) -> State {
        State {
            boot_id: [self.small() as u8; 16],
            clone3: self.flag(),
            nofile: (self.number(), self.number()),
            niced: self.flag(),
            strangers: self.flag(),
            journal: self.fd(),
            journal_length: self.number(),
            left: self.some(|_| ExitRecord::for_testing()),
            own: self.some(|dice| dice.small().cast_signed()),
            spared: self.some(|dice| dice.small().cast_signed()),
            overdue: self.some(|dice| Overdue { until: dice.at(), process: dice.process() }),
            cgroups: self.maybe(|dice| Cgroups {
                name: dice.bytes(),
                joins_before_exec: dice.flag(),
                next: dice.number(),
                leaving: dice.some(Dice::slot),
            }),
            servers: Servers {
                generation: self.number(),
                pause_us: self.number(),
                ever_ready: self.flag(),
                settled: self.flag(),
                current: self.maybe(Dice::up),
                retired: self.some(Dice::up),
            },
            attempts: self.some(Dice::attempt),
            alarms: self.some(Dice::alarm),
            ending: Ending {
                asked: self.small() as u8,
                status: self.small() as u8,
                goodbye: self.maybe(|dice| dice.small() as u8),
                alone_until: self.maybe(Dice::at),
                attempts_ended: self.flag(),
                wish: Shutdown { now: self.flag(), keep_jobs: self.flag(), ..Shutdown::default() },
            },
            follower: self.maybe(Dice::fd),
            askers: self.maybe(Dice::fd),
            reload: self.maybe(Dice::reload),
            log: self.maybe(Dice::bytes),
            reloaded: self.maybe(|dice| Reloaded { at_us: -1, error: dice.bytes() }),
        }
    }

    fn image(&mut self) -> Image {
        let setup = Setup {
            listeners: self.some(|dice| Listener { fd: dice.fd(), name: dice.bytes() }),
            held: self.some(Dice::fd),
            state_dir: self.bytes(),
            program: self.bytes(),
            args: self.some(Dice::bytes),
            env: self.some(|dice| Variable { name: dice.bytes(), value: dice.bytes() }),
            monitor_only: self.flag(),
            label: self.bytes(),
        };
        Image { folder: self.bytes(), setup, state: self.maybe(Dice::state) }
    }
}

fn sealed(body: &[u8]) -> Bytes {
    [&MAGIC[..], &crc32fast::hash(body).to_le_bytes(), body].concat().into()
}

proptest! {
    #[test]
    fn f05_an_image_comes_back_as_it_was(seed in any::<u64>()) {
        let image = Dice(seed).image();
        let bytes = Bytes::from(image.to_bytes());
        prop_assert_eq!(folder_of(&bytes), Some(image.folder.clone()));
        prop_assert_eq!(Image::from_bytes(&bytes), Ok(image));
    }

    #[test]
    fn f05_a_torn_image_is_refused(seed in any::<u64>(), cut in any::<prop::sample::Index>(), flip in any::<bool>()) {
        let mut bytes = Dice(seed).image().to_bytes();
        let cut = cut.index(bytes.len());
        if flip { bytes[cut] ^= 0x10 } else { bytes.truncate(cut) }
        prop_assert_eq!(Image::from_bytes(&bytes.clone().into()), Err(BadImage::Torn));
        prop_assert_eq!(folder_of(&bytes.into()), None);
    }

    #[test]
    fn f05_whatever_a_whole_image_says_nothing_panics(seed in any::<u64>(), at in any::<prop::sample::Index>(), byte in any::<u8>()) {
        let mut body = Dice(seed).image().to_bytes().split_off(HEADER);
        let at = at.index(body.len());
        body[at] = byte;
        let _ = Image::from_bytes(&sealed(&body));
    }

    #[test]
    fn f05_a_newer_writers_fields_are_passed_over(seed in any::<u64>()) {
        let image = Dice(seed).image();
        let mut body = image.to_bytes().split_off(HEADER);
        body.extend_from_slice(&[3, 0, 0, 0, 1, 2, 3]);
        prop_assert_eq!(Image::from_bytes(&sealed(&body)), Ok(image));
    }
}

#[test]
fn f05_what_an_older_writer_did_not_know_reads_as_nothing() {
    let folder = [8, 0, 0, 0, 4, 0, 0, 0, b'f', b'o', b'l', b'd'];
    let expected = Image { folder: "fold".into(), ..Image::default() };
    assert_eq!(Image::from_bytes(&sealed(&folder)), Ok(expected));
    // A listener without the name it once had none for.
    let fields = [&folder[..], &[16, 0, 0, 0], &[12, 0, 0, 0, 1, 0, 0, 0, 4, 0, 0, 0][..4]].concat();
    assert_eq!(Image::from_bytes(&sealed(&fields)), Err(BadImage::Unknown), "it ends inside a field");
}

/// Byte for byte what the first release wrote for a keeper with nothing but a listener.
#[test]
fn f05_version_1_of_the_image_is_understood() {
    let listener = [
        &[16, 0, 0, 0][..], // the listener
        &[4, 0, 0, 0, 7, 0, 0, 0],
        &[4, 0, 0, 0, 0, 0, 0, 0],
    ]
    .concat();
    let listeners = [&[1, 0, 0, 0][..], &listener].concat();
    let setup = [&(listeners.len() as u32).to_le_bytes()[..], &listeners].concat();
    let body = [&[4, 0, 0, 0, 0, 0, 0, 0][..], &(setup.len() as u32).to_le_bytes(), &setup].concat();
    let setup = Setup { listeners: vec![Listener { fd: Fd(7), name: Bytes::new() }], ..Setup::default() };
    assert_eq!(Image::from_bytes(&sealed(&body)), Ok(Image { setup, ..Image::default() }));
}

//! Output and input: every byte where it belongs, however much or strange.

use std::fs;
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::process::Command;
use std::time::{Duration, Instant};

use procession_core::frame::{ToKeeper, ToServer};
use procession_core::launch::{Launch, OutputMode, Stdin};
use procession_core::limits::INLINE_OUTPUT;
use procession_core::outcome::CancelledBy;
use procession_core::output::Layout;
use procession_core::record::{Containment, Ending, OutputPlace, StreamRecord};
use sha2::{Digest, Sha256};

use crate::keeper::{Keeper, LEVELS, bytes, wait_for};

/// The kept bytes of a stream, read as a reader does.
pub(crate) fn kept(path: &[u8], limit: u64, record: &StreamRecord) -> Vec<u8> {
    if record.place == OutputPlace::Inline {
        return record.tail.to_vec();
    }
    let file = fs::File::open(std::str::from_utf8(path).expect("plain")).expect("there");
    let mut kept = vec![];
    for segment in Layout::new(limit).segments(record.written) {
        let mut part = vec![0; segment.len as usize];
        file.read_exact_at(&mut part, segment.at).expect("as long as it says");
        kept.extend_from_slice(&part);
    }
    kept
}

/// What `flood` wrote there.
pub(crate) fn flooded(ranges: &[(u64, u64)]) -> [u8; 32] {
    let mut sha = Sha256::new();
    for (from, to) in ranges {
        let part: Vec<u8> = (*from..*to).map(|offset| (offset % 251) as u8).collect();
        sha.update(part);
    }
    sha.finalize().into()
}

pub(crate) fn sha(bytes: &[u8]) -> [u8; 32] {
    Sha256::digest(bytes).into()
}

fn memory_kb(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("readable");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("there");
    line.trim().trim_end_matches(" kB").parse().expect("a number")
}

#[test]
fn p08_a_body_of_10_mb_that_is_not_read_holds_nobody_up() {
    for level in LEVELS {
        let (keeper, mut server) = Keeper::start(level);
        let body: Vec<u8> = (0..10_000_000u32).map(|n| n as u8).collect();
        fs::write(keeper.path("body"), &body).expect("writable");
        for args in [&["exit", "0"][..], &["close-stdin", "0"], &["cat"]] {
            let mut launch = keeper.launch(args);
            launch.stdin = Stdin::File(bytes(&keeper.path("body")));
            launch.output.limit = 20_000_000;
            let record = server.run(&launch);
            assert_eq!(record.ending, Ending::Ended { wait_status: 0, stopped: None }, "{level:?}");
            if args == ["cat"] {
                assert_eq!(sha(&kept(&launch.output.stdout, 20_000_000, &record.stdout)), sha(&body));
            }
        }
    }
}

#[test]
fn a_body_of_64_kib_fits_and_so_does_any_other() {
    let (keeper, mut server) = Keeper::start(Containment::Cgroup);
    for size in [0, 1, 4096, 65535, 65536, 65537, 300_000] {
        let body: Vec<u8> = (0..size as u32).map(|n| (n % 250) as u8).collect();
        let mut launch = keeper.launch(&["cat"]);
        launch.stdin = Stdin::Bytes(body.clone().into());
        let record = server.run(&launch);
        assert_eq!(sha(&kept(&launch.output.stdout, 1024 * 1024, &record.stdout)), sha(&body), "{size}");
    }
}

#[test]
fn p10_endless_output_in_constant_memory_exact_up_to_its_limit_heavy() {
    const TOTAL: u64 = 10 * 1024 * 1024 * 1024 + 17;
    const LIMIT: u64 = 1_000_001;
    for level in LEVELS {
        let (keeper, mut server) = Keeper::start(level);
        server.run(&keeper.launch(&["flood", "100000", "0"]));
        let before = memory_kb(keeper.pid());
        let mut launch = keeper.launch(&["flood", &TOTAL.to_string(), "9"]);
        launch.output.limit = LIMIT;
        server.spawn(&launch);
        let start = Instant::now();
        let record = server.exited(launch.key);
        println!("{level:?}: {} MiB/s", TOTAL / 1024 / 1024 * 1000 / start.elapsed().as_millis() as u64);
        assert_eq!(record.ending, Ending::Ended { wait_status: 9 << 8, stopped: None });
        assert_eq!((record.stdout.total, record.stdout.written), (TOTAL, TOTAL));
        assert_eq!(Layout::new(LIMIT).dropped(TOTAL), Some((LIMIT / 2, TOTAL - LIMIT)));
        let expected = flooded(&[(0, LIMIT / 2), (TOTAL - (LIMIT - LIMIT / 2), TOTAL)]);
        assert_eq!(sha(&kept(&launch.output.stdout, LIMIT, &record.stdout)), expected, "{level:?}");
        assert_eq!(sha(&record.stdout.tail), flooded(&[(TOTAL - INLINE_OUTPUT as u64, TOTAL)]));
        assert_eq!(record.stderr.tail, format!("flooded {TOTAL}\n"));
        let size =
            fs::metadata(std::str::from_utf8(&launch.output.stdout).expect("plain")).expect("there").len();
        assert_eq!(size, LIMIT);
        let after = memory_kb(keeper.pid());
        assert!(after < before + 1024, "{level:?} {before} KiB, then {after}");
    }
}

#[test]
fn p11_any_bytes_are_kept_as_they_are() {
    let (keeper, mut server) = Keeper::start(Containment::Cgroup);
    // No newline, no UTF-8, of every length around what stays in memory.
    for size in [1, 100, INLINE_OUTPUT - 1, INLINE_OUTPUT, INLINE_OUTPUT + 1, 70_000, 5_000_000] {
        for limit in [0, 1, 1000, 1 << 40] {
            let mut launch = keeper.launch(&["flood", &size.to_string(), "0"]);
            launch.output.limit = limit;
            let record = server.run(&launch);
            let (total, head) = (size as u64, limit / 2);
            assert_eq!((record.stdout.total, record.stdout.written), (total, total));
            let expected = match Layout::new(limit).dropped(total) {
                None => flooded(&[(0, total)]),
                Some(_) => flooded(&[(0, head), (total - (limit - head), total)]),
            };
            assert_eq!(
                sha(&kept(&launch.output.stdout, limit, &record.stdout)),
                expected,
                "{size} of {limit}"
            );
            if limit > total {
                let tail = total.min(INLINE_OUTPUT as u64);
                assert_eq!(sha(&record.stdout.tail), flooded(&[(total - tail, total)]));
            }
            let place = if total <= limit.min(INLINE_OUTPUT as u64) {
                OutputPlace::Inline
            } else {
                OutputPlace::File
            };
            assert_eq!(record.stdout.place, place, "{size} of {limit}");
        }
    }
}

#[test]
fn p12_order_is_exact_in_a_stream_and_between_merged_ones() {
    for level in LEVELS {
        let (keeper, mut server) = Keeper::start(level);
        let lines = |of: &mut dyn Iterator<Item = u32>| of.map(|n| format!("{n}\n")).collect::<String>();
        let launch = keeper.launch(&["two-streams", "5000"]);
        let record = server.run(&launch);
        let limit = launch.output.limit;
        assert_eq!(
            kept(&launch.output.stdout, limit, &record.stdout),
            lines(&mut (0..5000).step_by(2)).as_bytes()
        );
        assert_eq!(
            kept(&launch.output.stderr, limit, &record.stderr),
            lines(&mut (1..5000).step_by(2)).as_bytes()
        );

        let mut launch = keeper.launch(&["two-streams", "5000"]);
        launch.output.mode = OutputMode::Merged;
        let record = server.run(&launch);
        assert_eq!(kept(&launch.output.stdout, limit, &record.stdout), lines(&mut (0..5000)).as_bytes());
        assert_eq!(record.stderr, StreamRecord::default());
    }
}

#[test]
fn p13_closed_outputs_do_not_end_it_nor_keep_us_busy() {
    for level in LEVELS {
        let (keeper, mut server) = Keeper::start(level);
        let launch = keeper.launch(&["close-outputs", "7"]);
        server.spawn(&launch);
        let pid = server.started(launch.key).pid;
        wait_for("closed outputs", || {
            (!fs::exists(format!("/proc/{pid}/fd/1")).ok()?
                && !fs::exists(format!("/proc/{pid}/fd/2")).ok()?)
            .then_some(())
        });
        let before = keeper.processor_time();
        assert_eq!(server.list().0.len(), 1, "{level:?}: it runs on");
        let record = server.exited(launch.key);
        assert_eq!(record.ending, Ending::Ended { wait_status: 7 << 8, stopped: None });
        assert!(record.run_us > 290_000, "{}", record.run_us);
        let spent = keeper.processor_time() - before;
        assert!(spent <= Duration::from_millis(30), "{level:?} {spent:?}");
    }
}

#[test]
fn small_output_that_is_old_can_be_read_while_it_runs() {
    for level in LEVELS {
        let (keeper, mut server) = Keeper::start(level);
        let launch = keeper.launch(&["say-and-sleep", "hello"]);
        server.spawn(&launch);
        let notice = server.hear("OUTPUT", |message| match message {
            ToServer::Output(notice) if notice.key == launch.key => Some(*notice),
            _ => None,
        });
        assert_eq!((notice.stdout, notice.stderr), (6, 0));
        let path = std::str::from_utf8(&launch.output.stdout).expect("plain").to_owned();
        assert_eq!(fs::read(&path).expect("there"), b"hello\n");
        let mode = |path: &std::path::Path| fs::metadata(path).expect("there").permissions().mode() & 0o777;
        let path = std::path::Path::new(&path);
        assert_eq!((mode(path), mode(path.parent().expect("a folder"))), (0o600, 0o700));
        server.say(&ToKeeper::Stop { key: launch.key, by: CancelledBy::Client, now: true });
        let record = server.exited(launch.key);
        assert_eq!((record.stdout.place, &record.stdout.tail[..]), (OutputPlace::File, &b"hello\n"[..]));
    }
}

#[test]
fn straight_to_a_file_the_program_writes_it_itself() {
    for level in LEVELS {
        let (keeper, mut server) = Keeper::start(level);
        let mut launch = keeper.launch(&["flood", "3000000", "0"]);
        launch.output.mode = OutputMode::File;
        let record = server.run(&launch);
        let path = std::str::from_utf8(&launch.output.stdout).expect("plain");
        assert_eq!(sha(&fs::read(path).expect("there")), flooded(&[(0, 3_000_000)]));
        assert_eq!((record.stdout.total, record.stdout.place), (3_000_000, OutputPlace::File));
        assert_eq!(sha(&record.stdout.tail), flooded(&[(3_000_000 - INLINE_OUTPUT as u64, 3_000_000)]));
        assert_eq!(record.stderr.tail, "flooded 3000000\n");
    }
}

/// A filesystem of one MiB; gone with this value.
struct SmallDisk(std::path::PathBuf);

impl SmallDisk {
    fn mount(at: std::path::PathBuf) -> Option<SmallDisk> {
        fs::create_dir(&at).expect("new");
        let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", "size=1m", "small"]).arg(&at).status();
        mounted.is_ok_and(|status| status.success()).then_some(SmallDisk(at))
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

#[test]
fn p36_a_full_disk_stops_the_file_and_not_the_program() {
    for level in LEVELS {
        let (keeper, mut server) = Keeper::start(level);
        let Some(disk) = SmallDisk::mount(keeper.path("small")) else {
            eprintln!("skipped: only root may mount");
            return;
        };
        let on_disk = |launch: &mut Launch| {
            launch.output.stdout = bytes(&disk.0.join("stdout"));
            launch.output.stderr = bytes(&disk.0.join("stderr"));
            launch.output.limit = 1 << 40;
        };
        let total = 8_000_000;
        let mut launch = keeper.launch(&["flood", "8000000", "4"]);
        on_disk(&mut launch);
        let record = server.run(&launch);
        assert_eq!(record.ending, Ending::Ended { wait_status: 4 << 8, stopped: None }, "{level:?}");
        let written = record.stdout.written;
        assert_eq!(record.stdout.total, total);
        assert!((500_000..=1_048_576).contains(&written), "{level:?} {written}");
        assert_eq!(sha(&kept(&launch.output.stdout, 1 << 40, &record.stdout)), flooded(&[(0, written)]));
        assert_eq!(sha(&record.stdout.tail), flooded(&[(total - INLINE_OUTPUT as u64, total)]));

        // With no room from the start nothing is written, and still all is counted.
        let mut launch = keeper.launch(&["flood", "100000", "0"]);
        on_disk(&mut launch);
        launch.output.stdout = bytes(&disk.0.join("another"));
        let record = server.run(&launch);
        assert_eq!((record.stdout.total, record.stdout.written), (100_000, 0), "{level:?}");
        assert_eq!(record.stdout.place, OutputPlace::File);
    }
}

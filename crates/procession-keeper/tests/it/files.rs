//! Paths that a job can change: nothing that it puts there blocks the keeper, or is followed.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use procession_core::launch::{OutputMode, Stdin};
use procession_core::record::{Ending, OutputPlace, Phase};
use rustix::fs::{CWD, Mode, mkfifoat};

use crate::keeper::{Keeper, LEVELS, bytes};

fn text(path: &bytes::Bytes) -> &str {
    std::str::from_utf8(path).expect("plain")
}

#[test]
fn an_output_file_that_its_job_replaced_by_a_fifo_holds_nobody_up() {
    for level in LEVELS {
        let (keeper, mut server) = Keeper::start(level);
        let mut launch = keeper.launch(&[]);
        launch.output.mode = OutputMode::File;
        let stdout = text(&launch.output.stdout).to_owned();
        launch.argv = ["hostile", "replace-by-fifo", &stdout, "3"].map(|arg| arg.to_owned().into()).to_vec();
        let record = server.run(&launch);
        assert_eq!(record.ending, Ending::Ended { wait_status: 3 << 8, stopped: None }, "{level:?}");
        assert!(!fs::symlink_metadata(&stdout).expect("there").is_file(), "{level:?}: it is the fifo");
        // What it wrote before is known all the same.
        assert_eq!((record.stdout.total, &record.stdout.tail[..]), (6, &b"hello\n"[..]), "{level:?}");
        let next = server.run(&keeper.launch(&["exit", "5"]));
        assert_eq!(next.ending, Ending::Ended { wait_status: 5 << 8, stopped: None }, "{level:?}");
    }
}

#[test]
fn what_stands_at_the_path_of_an_output_is_neither_opened_nor_followed() {
    for level in LEVELS {
        let (keeper, mut server) = Keeper::start(level);
        let victim = keeper.path("victim");
        fs::write(&victim, "untouched").expect("writable");
        for mode in [OutputMode::Separate, OutputMode::Merged, OutputMode::File] {
            for way in ["link", "fifo", "an earlier try"] {
                let mut launch = keeper.launch(&["flood", "20000", "0"]);
                launch.output.mode = mode;
                let stdout = Path::new(text(&launch.output.stdout));
                fs::create_dir_all(stdout.parent().expect("a folder")).expect("new");
                match way {
                    "link" => symlink(&victim, stdout).expect("new"),
                    "fifo" => mkfifoat(CWD, stdout, Mode::from_raw_mode(0o600)).expect("new"),
                    _ => fs::write(stdout, vec![b'?'; 50_000]).expect("new"),
                }
                let record = server.run(&launch);
                assert_eq!(record.stdout.place, OutputPlace::File, "{level:?} {mode:?} {way}");
                let found = fs::read(stdout).expect("a file");
                let all = if mode == OutputMode::Merged { 20_014 } else { 20_000 };
                assert_eq!(
                    (record.stdout.total, found.len()),
                    (all, all as usize),
                    "{level:?} {mode:?} {way}"
                );
                assert_eq!(fs::read(&victim).expect("there"), b"untouched", "{level:?} {mode:?} {way}");
            }
        }
    }
}

#[test]
fn p02_a_stdin_that_is_no_file_is_refused_at_once() {
    for level in LEVELS {
        let (keeper, mut server) = Keeper::start(level);
        fs::write(keeper.path("body"), "x").expect("writable");
        symlink(keeper.path("body"), keeper.path("link")).expect("new");
        mkfifoat(CWD, keeper.path("fifo"), Mode::from_raw_mode(0o600)).expect("new");
        for (name, errno) in [("fifo", libc::EINVAL), ("link", libc::ELOOP), ("out", libc::EISDIR)] {
            fs::create_dir_all(keeper.path("out")).expect("ours");
            let mut launch = keeper.launch(&["cat"]);
            launch.stdin = Stdin::File(bytes(&keeper.path(name)));
            match server.run(&launch).ending {
                Ending::NotStarted { phase: Phase::Prepare, errno: found, .. } => assert_eq!(found, errno),
                other => panic!("{level:?} {name}: {other:?}"),
            }
        }
    }
}

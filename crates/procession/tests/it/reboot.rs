//! The machine was restarted, or its power cut: what ran is lost and said to be, what was
//! accepted is there, and no process number of the time before means anything. What the
//! keeper had half written is not believed.

use std::fs;
use std::process::{Command, Stdio};

use serde_json::{Value, json};

use crate::harness::{BOUND, Process, Server, Setup, command, signal, wait_for};
use rustix::process::Signal;

const TASKS: &str = r#"
[limits]
max_running = 3
[task.gate]
command = ["sh", "-c", 'echo "$PROCESSION_JOB_ID" >> ran; while [ ! -e go ]; do sleep 0.02; done; exit 7']
max_running = 2
[task.exit]
command = ["sh", "-c", 'echo "$PROCESSION_JOB_ID" >> ran; exit "$1"', "sh", "{{payload.code}}"]
"#;

const BOOTS: [&str; 2] = ["00000000-0000-4000-8000-000000000001", "00000000-0000-4000-8000-000000000002"];

/// Another boot can be played in debug builds only.
fn can_be_played() -> bool {
    if !cfg!(debug_assertions) {
        eprintln!("skipped: a release build has the kernel's boot id only");
    }
    cfg!(debug_assertions)
}

fn sleeper() -> Process {
    let mut sleep: Command = command("sleep");
    Process(sleep.arg("600").stdin(Stdio::null()).spawn().expect("it starts"))
}

fn times_ran(server: &Server, id: &str) -> usize {
    fs::read_to_string(server.path().join("ran")).unwrap_or_default().matches(id).count()
}

/// A server with a job whose end is in the keeper's journal and nowhere else; both are killed.
fn killed_with_an_end_in_the_journal(server: &mut Server, code: i32) -> String {
    let journal = server.data().join("keeper/journal");
    let _ = fs::remove_file(server.path().join("go"));
    server.run("exit", json!({"code": code}));
    let slow = server.running("gate", Value::Null);
    // That it is to run is written before it does.
    wait_for("it runs", BOUND, || times_ran(server, &slow) == 1);
    // Stopped, it cannot take the end.
    signal(server.server_pid(), Signal::STOP);
    let before = fs::metadata(&journal).expect("a journal").len();
    fs::write(server.path().join("go"), "").expect("written");
    wait_for("its end is in the journal", BOUND, || {
        fs::metadata(&journal).expect("a journal").len() > before
    });
    server.crash();
    slow
}

#[test]
fn f04_after_a_reboot_what_was_accepted_is_there_and_what_ran_is_lost() {
    if !can_be_played() {
        return;
    }
    for setup in [Setup::new(TASKS), Setup::new(TASKS).monitor()] {
        let mut server = setup.env("PROCESSION_BOOT_ID", BOOTS[0]).start();
        let over = server.run("exit", json!({"code": 5}));
        let running: Vec<String> = (0..2).map(|_| server.running("gate", Value::Null)).collect();
        let queued = server.submit("gate", Value::Null);
        server.crash();
        // In the boot to come these numbers are somebody else's.
        let stranger = sleeper();
        for name in ["pid", "server.pid", "LOCK"] {
            fs::write(server.data().join(name), format!("{}\n", stranger.0.id())).expect("written");
        }
        server.set_env("PROCESSION_BOOT_ID", BOOTS[1]);
        server.start_again();
        for id in &running {
            let job = server.over(id);
            assert_eq!(job["outcome"], json!({"kind": "lost", "reason": "reboot"}), "{job}");
            assert_eq!((&job["state"], &job["exit_code"]), (&json!("lost"), &Value::Null));
            assert_eq!(times_ran(&server, id), 1, "not run again");
        }
        assert_eq!(server.job(over["id"].as_str().expect("an id")), over);
        fs::write(server.path().join("go"), "").expect("written");
        assert_eq!(server.over(&queued)["exit_code"], 7);
        assert_eq!(server.stop().code(), Some(0));
        let mut stranger = stranger;
        assert!(stranger.0.try_wait().expect("ours").is_none(), "a number on a disk is nobody's to signal");
    }
}

#[test]
fn f04_an_end_of_another_boot_is_not_believed() {
    if !can_be_played() {
        return;
    }
    let mut server = Setup::new(TASKS).env("PROCESSION_BOOT_ID", BOOTS[0]).start();
    let id = killed_with_an_end_in_the_journal(&mut server, 0);
    server.set_env("PROCESSION_BOOT_ID", BOOTS[1]);
    server.start_again();
    assert_eq!(server.over(&id)["outcome"], json!({"kind": "lost", "reason": "reboot"}));
}

#[test]
fn f03_an_end_that_only_the_journal_knew_is_recorded_after_both_were_killed() {
    let mut server = Server::start(TASKS);
    let id = killed_with_an_end_in_the_journal(&mut server, 0);
    server.start_again();
    let job = server.over(&id);
    assert_eq!(
        (&job["outcome"], &job["attempt"]),
        (&json!({"kind": "exited", "code": 7}), &json!(1)),
        "{job}"
    );
    assert_eq!(times_ran(&server, &id), 1);
}

#[test]
fn f04_a_torn_or_damaged_record_is_ignored_and_nothing_is_invented() {
    for what in ["torn", "flipped"] {
        let mut server = Server::start(TASKS);
        let id = killed_with_an_end_in_the_journal(&mut server, 3);
        let path = server.data().join("keeper/journal");
        let mut bytes = fs::read(&path).expect("a journal");
        match what {
            "torn" => bytes.truncate(bytes.len() - 3),
            _ => *bytes.last_mut().expect("a record") ^= 1,
        }
        fs::write(&path, bytes).expect("written");
        server.start_again();
        let job = server.over(&id);
        assert_eq!(job["outcome"], json!({"kind": "lost", "reason": "keeper_died"}), "{what}: {job}");
        assert_eq!((times_ran(&server, &id), &job["exit_code"]), (1, &Value::Null), "{what}");
        // Later records are not hidden behind it.
        let next = killed_with_an_end_in_the_journal(&mut server, 9);
        server.start_again();
        assert_eq!(server.over(&next)["exit_code"], 7, "{what}");
    }
}

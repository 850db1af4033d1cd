//! F10 and F13, as a person meets them: `serve` that refuses, `doctor` that says what is
//! wrong, and what is saved of a damaged database.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::harness::{Ran, Server, Setup, command, procession};

const TASKS: &str = r#"
[task.t]
command = ["cat"]
[task.later]
command = ["cat"]
[task.large]
command = ["seq", "30000"]
"#;
const PAGE: usize = 4_096;

fn findings(server: &Server) -> (Option<i32>, Vec<Value>) {
    let ran = server.cli(&["doctor", "--output", "json"]);
    let said: Value = serde_json::from_str(&ran.stdout).unwrap_or_else(|error| panic!("{error}: {ran:?}"));
    let found = said["findings"].as_array().expect("findings").clone();
    assert_eq!(said["ok"], json!(found.is_empty()));
    for finding in &found {
        assert!(finding["remedy"].as_str().is_some_and(|text| !text.is_empty()), "{finding}");
    }
    (ran.code, found)
}

fn codes(server: &Server) -> Vec<String> {
    findings(server).1.iter().map(|finding| finding["code"].as_str().expect("a code").to_owned()).collect()
}

fn serve(server: &Server) -> Ran {
    Ran::of(procession().arg("serve").arg("--config").arg(server.config()))
}

#[test]
fn a_data_directory_in_use_is_healthy_and_looking_changes_nothing() {
    let server = Server::start(TASKS);
    server.run("large", Value::Null);
    let ran = server.cli(&["doctor"]);
    assert_eq!(ran.code, Some(0), "{ran:?}");
    assert!(ran.stdout.trim_end().ends_with("healthy"), "{ran:?}");
    assert_eq!(findings(&server), (Some(0), vec![]));
    assert_eq!(server.run("t", json!({}))["exit_code"], 0, "the server goes on");
}

#[test]
fn f10_a_damaged_store_is_refused_found_and_saved_into_a_new_file() {
    let mut server = Server::start(TASKS);
    server.post("/v1/tasks/later/pause").expect(200);
    let jobs: Vec<(String, String)> = (0..300)
        .map(|n| {
            let task = if n % 3 == 0 { "t" } else { "later" };
            (server.submit(task, json!({"n": n, "text": "z".repeat(300)})), task.to_owned())
        })
        .collect();
    for (id, _) in jobs.iter().filter(|(_, task)| task == "t") {
        server.over(id);
    }
    assert_eq!(server.stop().code(), Some(0));
    let database = server.data().join("procession.db");
    let whole = fs::read(&database).expect("read");
    let mut damaged = whole.clone();
    let middle = whole.len() / PAGE / 2;
    damaged[middle * PAGE..(middle + 2) * PAGE].fill(0x5a);
    fs::write(&database, &damaged).expect("written");

    let refused = serve(&server);
    assert_eq!(refused.code, Some(78), "{refused:?}");
    assert!(
        refused.stderr.contains("procession doctor") && refused.stderr.contains("procession.db"),
        "{refused:?}"
    );
    let (code, found) = findings(&server);
    assert_eq!((code, &found[0]["code"]), (Some(1), &json!("database_damaged")), "{found:?}");
    assert!(found[0]["remedy"].as_str().expect("text").contains("--repair"), "{found:?}");

    let saved = server.path().join("saved.db");
    let ran = server.cli(&["doctor", "--repair", saved.to_str().expect("text")]);
    assert_eq!(ran.code, Some(0), "{ran:?}");
    assert!(ran.stdout.contains("job: ") && ran.stdout.contains("mv "), "{ran:?}");
    assert_eq!(fs::read(&database).expect("read"), damaged, "the old one is as it was");
    use_instead(&saved, &database);
    server.start_again();
    let kept: Vec<Value> = jobs
        .iter()
        .filter_map(|(id, _)| {
            let answer = server.get(&format!("/v1/jobs/{id}"));
            (answer.status == 200).then(|| answer.json())
        })
        .collect();
    assert!(kept.len() > 250, "{} of 300: {}", kept.len(), ran.stdout);
    for job in &kept {
        let state = job["state"].as_str().expect("a state");
        let was = if job["task"] == "t" { "succeeded" } else { "queued" };
        assert!(state == was || state == "lost", "{job}");
    }
    server.post("/v1/tasks/later/resume").expect(200);
    let queued = kept.iter().find(|job| job["state"] == "queued").expect("one waits");
    assert_eq!(server.over(queued["id"].as_str().expect("an id"))["exit_code"], 0);
    assert_eq!(codes(&server), [""; 0]);
}

/// As `doctor --repair` tells people to.
fn use_instead(saved: &Path, database: &Path) {
    for suffix in ["", "-wal", "-shm"] {
        let mut old = database.as_os_str().to_owned();
        old.push(suffix);
        let old = PathBuf::from(old);
        if old.exists() {
            fs::rename(&old, old.with_extension(format!("old{suffix}"))).expect("moved");
        }
    }
    fs::rename(saved, database).expect("moved");
}

#[test]
fn f10_nothing_is_repaired_under_a_server_nor_over_a_file() {
    let mut server = Server::start(TASKS);
    server.run("t", json!({}));
    let saved = server.path().join("saved.db");
    let repair = |server: &Server| server.cli(&["doctor", "--repair", saved.to_str().expect("text")]);
    let held = repair(&server);
    assert_eq!(held.code, Some(1), "{held:?}");
    assert!(held.stderr.contains(&server.keeper_pid().to_string()), "{held:?}");
    assert!(!saved.exists());
    server.stop();
    fs::write(&saved, "precious").expect("written");
    assert_eq!(repair(&server).code, Some(1));
    assert_eq!(fs::read_to_string(&saved).expect("read"), "precious");
    fs::remove_file(&saved).expect("removed");
    assert_eq!(repair(&server).code, Some(0), "also a whole one");
}

#[test]
fn what_lies_beside_the_database_is_looked_at_too() {
    let mut server = Server::start(TASKS);
    let large = server.run("large", Value::Null);
    let body = server.run("t", json!({"text": "x".repeat(200_000)}));
    server.stop();
    let data = server.data();
    let jobs = data.join("jobs");
    let id = |job: &Value| job["id"].as_str().expect("an id").to_owned();
    fs::remove_file(jobs.join(id(&large)).join("1/stdout")).expect("a file");
    fs::write(jobs.join(id(&body)).join("payload"), "short").expect("written");
    let stray = jobs.join("0197f3c2-6d1e-7a31-9c55-51d29f3a1c2b");
    fs::create_dir(&stray).expect("made");
    let aged = Ran::of(command("touch").args(["-d", "2 hours ago"]).arg(&stray));
    assert_eq!(aged.code, Some(0), "{aged:?}");
    fs::set_permissions(data.join("token"), fs::Permissions::from_mode(0o644)).expect("set");
    fs::set_permissions(&data, fs::Permissions::from_mode(0o755)).expect("set");
    let journal = data.join("keeper/journal");
    let mut bytes = fs::read(&journal).expect("read");
    bytes.extend([7; 11]);
    fs::write(&journal, bytes).expect("written");
    let (code, found) = findings(&server);
    let all: Vec<&str> = found.iter().map(|finding| finding["code"].as_str().expect("a code")).collect();
    let expected = [
        "data_dir_permissions",
        "token_permissions",
        "payload_missing",
        "output_missing",
        "files_without_job",
        "journal_torn",
    ];
    assert_eq!((code, &all[..]), (Some(1), &expected[..]), "{found:#?}");
    let text = |code: &str| {
        let finding = found.iter().find(|finding| finding["code"] == code).expect("found");
        finding["message"].as_str().expect("text").to_owned()
    };
    assert!(text("journal_torn").contains("11 bytes"), "{found:#?}");
    assert!(text("output_missing").contains(&id(&large)), "{found:#?}");
    assert!(text("data_dir_permissions").contains("755"), "{found:#?}");
    let ran = server.cli(&["doctor"]);
    assert!(ran.stdout.contains("6 findings") && ran.stdout.contains("chmod 600"), "{ran:?}");
}

#[test]
fn f13_a_read_only_file_system_is_said_once_with_path_and_remedy() {
    let setup = Setup::new(TASKS);
    let data = setup.path().join("data");
    fs::create_dir(&data).expect("made");
    let mount = |args: &[&str]| Ran::of(command("mount").args(args).arg(&data)).code == Some(0);
    if !mount(&["-t", "tmpfs", "-o", "size=16m,mode=0700", "tmpfs"]) {
        eprintln!("not tested here: mounting a tmpfs takes root");
        return;
    }
    let mut server = setup.start();
    let job = server.run("t", json!({}));
    assert_eq!(server.stop().code(), Some(0));
    assert!(mount(&["-o", "remount,ro"]));
    let began = std::time::Instant::now();
    let refused = serve(&server);
    let found = findings(&server);
    let copy = server.path().join("copy");
    let copied = server.cli(&["backup", copy.to_str().expect("text")]);
    assert!(mount(&["-o", "remount,rw"]));
    server.start_again();
    let after = server.job(job["id"].as_str().expect("an id"));
    server.stop();
    let unmounted = Ran::of(command("umount").arg("-l").arg(&data));
    assert_eq!(unmounted.code, Some(0), "{unmounted:?}");
    assert_eq!(refused.code, Some(78), "{refused:?}");
    assert!(began.elapsed() < std::time::Duration::from_secs(30), "no loop of starts");
    let said = &refused.stderr;
    assert!(said.contains(&*data.to_string_lossy()) && said.contains("read-only"), "{said}");
    assert!(said.contains("mount it for writing"), "{said}");
    let codes: Vec<_> = found.1.iter().map(|finding| &finding["code"]).collect();
    assert_eq!((found.0, codes), (Some(1), vec![&json!("data_dir_unfit")]), "{found:?}");
    assert_eq!(copied.code, Some(0), "what is on a failing disk can be copied from it: {copied:?}");
    assert_eq!(after, job);
}

#[test]
fn what_cannot_be_looked_at_yet_or_now_is_said_with_what_to_do() {
    let setup = Setup::new("[task.t]\ncommand = ['true']\n");
    let config = setup.config();
    for verb in [&["doctor"][..], &["doctor", "--repair", "new"], &["backup", "copy"]] {
        let refused = Ran::of(procession().args(verb).arg("--config").arg(&config));
        assert_eq!(refused.code, Some(1), "{refused:?}");
        assert!(refused.stderr.contains("a server makes it at its first start"), "{refused:?}");
    }
    let server = setup.start();
    let refused = server.cli(&["doctor", "--repair", "new"]);
    assert_eq!(refused.code, Some(1), "{refused:?}");
    let named = format!("in use by process {}: `procession stop` ends it", server.keeper_pid());
    assert!(refused.stderr.contains(&named), "{refused:?}");
    // A config that is broken by now keeps nobody from data that may be broken too.
    server.configure("[task.t\ncomand = 1");
    server.cli(&["doctor"]).ok();
    let copy = server.path().join("copy");
    server.cli(&["backup", copy.to_str().expect("text")]).ok();
}

#[test]
fn who_has_no_config_is_told_so_and_how_to_get_one() {
    let nowhere = tempfile::tempdir().expect("a folder");
    for verb in ["status", "stop", "reload", "doctor"] {
        let refused = Ran::of(procession().arg(verb).current_dir(nowhere.path()));
        assert_eq!(refused.code, Some(1), "{refused:?}");
        for word in ["the data directory is not known", "`procession init`"] {
            assert!(refused.stderr.contains(word), "{word}: {refused:?}");
        }
    }
}

//! Seed 001, one request that becomes seven sub-tasks, ten of them at once: the example's own
//! config and programs, with nothing changed but the port; and the commands of its page.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::harness::{Request, Response, Server, Setup, Shell, at_once, blocks, compile};

fn example() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/fan-out")
}

fn read(name: &str) -> String {
    fs::read_to_string(example().join(name)).expect("a file of the example")
}

/// The example's config on a port of the kernel's choice.
fn config() -> String {
    let config = read("procession.toml").replace("127.0.0.1:8080", "127.0.0.1:0");
    config.replace("[server]", "[server]\ndata_dir = \"data\"\nstop_timeout = \"5s\"")
}

fn start(config: &str, sub_task: &str) -> Server {
    Setup::new(config).file("sub_task.py", sub_task).file("join.py", read("join.py")).start()
}

/// Sends ten requests at once; the answers, and how long the slowest took.
fn ten(server: &Server) -> (Vec<Response>, Duration) {
    let answers = at_once(10, |_| {
        let began = Instant::now();
        (server.stranger().get("/"), began.elapsed())
    });
    let slowest = answers.iter().map(|(_, took)| *took).max().expect("ten");
    (answers.into_iter().map(|(answer, _)| answer).collect(), slowest)
}

fn children(server: &Server, id: &str) -> Vec<Value> {
    let page = server.get(&format!("/v1/jobs/{id}/children")).expect(200).json();
    page["items"].as_array().expect("a list").clone()
}

#[test]
fn ten_requests_of_seven_sub_tasks_are_answered_at_once_heavy() {
    let server = start(&config(), &read("sub_task.py"));
    let (answers, slowest) = ten(&server);
    println!("10 x 7 x 100 ms of Python: the slowest request took {slowest:?}");
    for answer in &answers {
        assert_eq!((answer.status, answer.text()), (200, "Request processed successfully"), "{answer:?}");
        let job = server.job(&answer.job_id());
        assert_eq!(
            (&job["state"], &job["children"]),
            (&json!("succeeded"), &json!({"succeeded": 7})),
            "{job}"
        );
        let indices: Vec<&Value> = job["result"]["sub_tasks"]
            .as_array()
            .expect("a list")
            .iter()
            .map(|one| &one["sub_task"])
            .collect();
        assert_eq!(indices, [0, 1, 2, 3, 4, 5, 6], "each its own, in order");
        assert_eq!(children(&server, &answer.job_id()).len(), 7);
    }
    // One after the other the 70 are 7 s of sleep alone, and the requests' threads of it 700 ms.
    assert!(slowest < Duration::from_secs(5), "{slowest:?}");
    let task = server.get("/v1/tasks/sub-task").json();
    assert_eq!((&task["finished"], &task["failed"]), (&json!(70), &json!(0)), "{task}");
}

/// A program that starts in no time shows what the families themselves cost.
#[test]
fn ten_requests_of_seven_sleeps_take_little_longer_than_one_heavy() {
    let sleep = "#include <time.h>\nint main(void) { struct timespec t = {0, 100000000}; return nanosleep(&t, 0); }\n";
    let folder = tempfile::tempdir().expect("a folder");
    let Some(program) = compile(folder.path(), "sleep-100ms", sleep, &["-static"]) else { return };
    let config = config()
        .replace("[\"python3\", \"sub_task.py\"]", &json!([program.to_str().expect("text")]).to_string())
        .replace(", join = [\"python3\", \"join.py\"]", "")
        .replace("format = \"stdout\"", "format = \"job\"");
    let server = start(&config, "");
    let mut took: Vec<Duration> = Vec::new();
    for _ in 0..5 {
        let (answers, slowest) = ten(&server);
        for answer in answers {
            let job = answer.expect(200).json();
            assert_eq!(
                (&job["state"], &job["children"]),
                (&json!("succeeded"), &json!({"succeeded": 7})),
                "{job}"
            );
        }
        took.push(slowest);
    }
    took.sort();
    println!("10 x 7 x 100 ms of a small program: the slowest request took {took:?}");
    assert!(took[0] < Duration::from_secs(1), "{took:?}");
}

#[test]
fn a_sub_task_that_fails_is_told_where_the_threads_keep_silent() {
    let raises =
        read("sub_task.py").replace("    time.sleep(0.1)\n", "    time.sleep(0.1)\n    assert index != 3\n");
    let server = start(&config(), &raises);
    let answer = server.stranger().get("/").expect(500);
    assert_eq!(answer.text(), "Sub-tasks failed: [3]");
    let job = server.job(&answer.job_id());
    assert_eq!(job["outcome"], json!({"kind": "children_failed", "failed": 1}), "{job}");
    let failed = &children(&server, &answer.job_id())[3];
    let said = server.stderr(failed["id"].as_str().expect("an id"));
    assert!(String::from_utf8_lossy(&said).contains("assert index != 3"), "{failed}");
}

#[test]
fn a_sub_task_that_hangs_is_ended_in_time() {
    let hangs =
        read("sub_task.py").replace("    time.sleep(0.1)\n", "    time.sleep(600 if index == 6 else 0)\n");
    let server = start(&config().replace("timeout = \"10s\"", "timeout = \"500ms\""), &hangs);
    let answer = server.stranger().get("/").expect(500);
    assert_eq!(answer.text(), "Sub-tasks failed: [6]");
    assert_eq!(children(&server, &answer.job_id())[6]["state"], "timed_out");
}

#[test]
fn the_eleventh_request_waits_for_a_place() {
    let waits =
        read("sub_task.py").replace("time.sleep(0.1)", "while not os.path.exists(\"go\"): time.sleep(0.01)");
    let server = start(&config(), &waits);
    let submit = || server.send(&Request::post("/v1/tasks/request/jobs")).expect(202).job_id();
    let ids: Vec<String> = (0..11).map(|_| submit()).collect();
    ids[..10].iter().for_each(|id| drop(server.reaches(id, "waiting")));
    let why = server.get(&format!("/v1/jobs/{}/explain", ids[10])).expect(200).json();
    assert_eq!(why["waits_for"], "task_limit", "{why}");
    fs::write(server.path().join("go"), "").expect("written");
    ids.iter().for_each(|id| assert_eq!(server.over(id)["state"], "succeeded"));
}

#[test]
fn the_commands_of_its_page_do_what_it_says() {
    let server = start(&config(), &read("sub_task.py"));
    let page = blocks(&read("README.md"));
    let shown: Vec<_> = page.iter().filter(|block| block.kind == "toml").collect();
    for line in shown.iter().flat_map(|block| block.text.lines()) {
        assert!(read("procession.toml").lines().any(|own| own == line), "{line} is not in the config");
    }
    let mut shell = Shell::beside(&server);
    let typed: Vec<_> = page.iter().filter(|block| block.kind == "console").collect();
    assert!(!shown.is_empty() && !typed.is_empty());
    typed.into_iter().for_each(|block| shell.types(block));
}

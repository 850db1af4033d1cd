//! One request, many processes: children of a list or a count, their join, and what becomes of a
//! family when one of them fails, is cancelled, or takes too long.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::harness::{BOUND, Request, Server, Setup, at_once, memory_kib, wait_for};

const TASKS: &str = r#"
[limits]
max_running = 16
[task.look]
command = ["sh", "-c", '''
case "$1" in
  fail) exit 3 ;;
  sleep) exec sleep 600 ;;
  wait) while [ ! -e go ]; do sleep 0.01; done ;;
esac
printf '{"seen": %s, "index": %s}' "$(cat)" "$PROCESSION_INDEX" > "$PROCESSION_RESULT"
''', "sh", "{{payload.what:-nothing}}"]
allow_leading_dash = true
[task.train]
fan_out = { task = "look", over = "/images", join = ["sh", "-c", "cat > \"$PROCESSION_RESULT\""] }
[task.bare]
fan_out = { task = "look", over = "/images" }
[task.narrow]
fan_out = { task = "look", over = "/images", max_running = 2 }
[task.strict]
fan_out = { task = "look", over = "/images", on_failure = "stop", join = ["touch", "joined"] }
[task.lenient]
fan_out = { task = "look", over = "/images", join = ["true"], join_decides = true }
[task.counted]
fan_out = { task = "tell", count = 3 }
[task.tell]
command = ["sh", "-c", "cat \"$PROCESSION_PARENT_PAYLOAD\" > \"$PROCESSION_RESULT\""]
[task.hurried]
fan_out = { task = "look", over = "/images" }
timeout = "300ms"
[task.one]
fan_out = { task = "look", over = "/images" }
max_running = 1
max_queued = 1
[task.grand]
fan_out = { task = "bare", over = "/trains" }
"#;

fn images(what: &[&str]) -> Value {
    json!({"images": what.iter().map(|what| json!({"what": what})).collect::<Vec<_>>()})
}

fn children(server: &Server, id: &str) -> Vec<Value> {
    let page = server.get(&format!("/v1/jobs/{id}/children")).expect(200).json();
    page["items"].as_array().expect("a list").clone()
}

#[test]
fn each_element_is_a_child_and_the_join_reads_them_in_order() {
    let server = Server::start(TASKS);
    let job = server.run("train", images(&["a", "b", "c"]));
    assert_eq!(job["state"], "succeeded", "{job}");
    assert_eq!(job["children"], json!({"succeeded": 3}));
    let result = &job["result"];
    assert_eq!(result["payload"], images(&["a", "b", "c"]));
    let seen: Vec<&Value> = result["children"].as_array().expect("a list").iter().collect();
    for (index, (child, what)) in seen.iter().zip(["a", "b", "c"]).enumerate() {
        assert_eq!(child["index"], index);
        assert_eq!((&child["state"], &child["exit_code"]), (&json!("succeeded"), &json!(0)));
        assert_eq!(child["result"], json!({"seen": {"what": what}, "index": index}));
    }
    let id = job["id"].as_str().expect("an id");
    let listed = children(&server, id);
    assert_eq!(listed.len(), 3);
    assert!(listed.iter().all(|child| child["parent"] == id), "{listed:?}");
    let ids: Vec<&Value> = listed.iter().map(|child| &child["id"]).collect();
    assert_eq!(ids, seen.iter().map(|child| &child["id"]).collect::<Vec<_>>());
    let by_parent = server.get(&format!("/v1/jobs?parent={id}")).expect(200).json();
    assert_eq!(by_parent["items"].as_array().map(Vec::len), Some(3));
}

#[test]
fn without_a_join_the_result_is_the_list_of_the_childrens() {
    let server = Server::start(TASKS);
    let job = server.run("bare", images(&["a", "fail", "b"]));
    assert_eq!(job["outcome"], json!({"kind": "children_failed", "failed": 1}), "{job}");
    assert_eq!((&job["state"], &job["exit_code"]), (&json!("failed"), &Value::Null));
    let result = job["result"].as_array().expect("a list");
    assert_eq!((result.len(), &result[1], &result[2]["index"]), (3, &Value::Null, &json!(2)));
    let none = server.run("bare", images(&[]));
    assert_eq!((&none["state"], &none["result"]), (&json!("succeeded"), &json!([])), "{none}");
    assert_eq!(server.run("train", images(&[]))["result"]["children"], json!([]));
}

#[test]
fn children_of_a_count_have_their_parents_payload() {
    let server = Server::start(TASKS);
    let job = server.run("counted", json!({"n": 7}));
    assert_eq!(job["result"], json!([{"n": 7}, {"n": 7}, {"n": 7}]), "{job}");
}

#[test]
fn a_family_waits_without_a_slot_and_shows_how_far_it_is() {
    let server = Server::start(&TASKS.replace("max_running = 16", "max_running = 1"));
    let id = server.submit("train", images(&["a", "wait"]));
    wait_for("one child is over", BOUND, || server.job(&id)["children"]["succeeded"] == 1);
    let job = server.job(&id);
    assert_eq!(job["state"], "waiting", "{job}");
    assert_eq!(job["progress"], json!({"fraction": 0.5, "message": "1 of 2 children are over"}));
    let why = server.get(&format!("/v1/jobs/{id}/explain")).expect(200).json();
    assert_eq!(
        (&why["waits_for"], &why["summary"]),
        (&json!("children"), &json!("waits for its children: 1 of 2 are over"))
    );
    std::fs::write(server.path().join("go"), "").expect("written");
    assert_eq!(server.over(&id)["state"], "succeeded", "one slot is enough for all of it");
}

#[test]
fn as_many_children_run_at_once_as_the_family_may() {
    let server = Server::start(TASKS);
    let id = server.submit("narrow", images(&["wait"; 5]));
    wait_for("two run", BOUND, || server.job(&id)["children"]["running"] == 2);
    let queued = children(&server, &id).into_iter().find(|child| child["state"] == "queued").expect("one");
    let why = server.get(&format!("/v1/jobs/{}/explain", queued["id"].as_str().expect("an id"))).json();
    assert_eq!(why["waits_for"], "family_limit", "{why}");
    assert_eq!(server.job(&id)["children"], json!({"queued": 3, "running": 2}));
    std::fs::write(server.path().join("go"), "").expect("written");
    assert_eq!(server.over(&id)["children"], json!({"succeeded": 5}));
}

#[test]
fn one_that_fails_stops_the_others_where_the_config_says_so() {
    let server = Server::start(TASKS);
    let job = server.run("strict", images(&["sleep", "fail", "sleep"]));
    assert_eq!(job["outcome"], json!({"kind": "children_failed", "failed": 1}), "{job}");
    assert_eq!(job["children"], json!({"cancelled": 2, "failed": 1}));
    let listed = children(&server, job["id"].as_str().expect("an id"));
    assert_eq!(listed[0]["outcome"]["by"], "parent", "{listed:?}");
    assert!(!server.path().join("joined").exists(), "nothing was joined");
    let lenient = server.run("lenient", images(&["fail"]));
    assert_eq!((&lenient["state"], &lenient["exit_code"]), (&json!("succeeded"), &json!(0)), "{lenient}");
}

#[test]
fn f34_a_cancel_goes_down_and_is_one_end_for_each() {
    let server = Server::start(TASKS);
    let id = server.submit("grand", json!({"trains": [images(&["sleep", "sleep"]), images(&["sleep"])]}));
    wait_for("all run", BOUND, || server.processes().len() == 3);
    let answers = at_once(8, |_| server.post(&format!("/v1/jobs/{id}/cancel")).status);
    assert!(answers.iter().all(|status| [200, 202].contains(status)), "{answers:?}");
    let job = server.over(&id);
    assert_eq!(job["outcome"], json!({"kind": "cancelled", "by": "client"}), "{job}");
    for train in children(&server, &id) {
        assert_eq!(train["outcome"], json!({"kind": "cancelled", "by": "parent"}), "{train}");
        for image in children(&server, train["id"].as_str().expect("an id")) {
            assert_eq!((&image["state"], &image["outcome"]["by"]), (&json!("cancelled"), &json!("parent")));
        }
    }
    wait_for("no process is left", BOUND, || server.processes().is_empty());
    assert_eq!(server.post(&format!("/v1/jobs/{id}/cancel")).status, 200);
}

#[test]
fn f35_ten_thousand_children_are_taken_in_a_second_and_end_in_two_heavy() {
    let server = Server::start(TASKS);
    let many = images(&vec!["sleep"; 10_000]);
    let memory = || memory_kib(server.server_pid(), "RssAnon");
    server.run("bare", images(&["a"; 100]));
    let (before, began) = (memory(), Instant::now());
    let id = server.submit("bare", many);
    let submitted = began.elapsed();
    server.reaches(&id, "waiting");
    let per_child = memory().saturating_sub(before) * 1024 / 10_000;
    let began = Instant::now();
    server.post(&format!("/v1/jobs/{id}/cancel")).expect(202);
    let job = server.over(&id);
    let cancelled = began.elapsed();
    assert_eq!(job["children"], json!({"cancelled": 10_000}), "{job}");
    let task = server.get("/v1/tasks/look").json();
    assert_eq!((&task["queued"], &task["finished"]), (&json!(0), &json!(10_100)), "{task}");
    println!("submit {submitted:?}, cancel {cancelled:?}, {per_child} B of memory a child");
    // The store's pages among them; a build for debugging takes longer for everything.
    let slow = if cfg!(debug_assertions) { 4 } else { 1 };
    assert!(submitted < Duration::from_secs(slow), "{submitted:?}");
    assert!(cancelled < Duration::from_secs(2 * slow), "{cancelled:?}");
    assert!(per_child < 2_500, "{per_child} B of memory a child");
}

#[test]
fn a_family_that_takes_too_long_ends_with_all_below_it() {
    let server = Server::start(TASKS);
    let job = server.run("hurried", images(&["a", "sleep"]));
    assert_eq!(job["outcome"], json!({"kind": "timed_out", "limit_ms": 300}), "{job}");
    assert_eq!(job["children"], json!({"cancelled": 1, "succeeded": 1}));
    wait_for("no process is left", BOUND, || server.processes().is_empty());
}

#[test]
fn families_are_limited_and_admitted_as_jobs_are() {
    let server = Server::start(TASKS);
    let first = server.submit("one", images(&["wait"]));
    wait_for("it has begun", BOUND, || server.job(&first)["state"] == "waiting");
    let second = server.submit("one", images(&["a"]));
    let answer = server.send(&Request::submit("one", &images(&["a"])));
    assert_eq!(answer.status, 429, "{answer:?}");
    let why = server.get(&format!("/v1/jobs/{second}/explain")).json();
    assert_eq!(why["waits_for"], "task_limit", "{why}");
    let child = children(&server, &second)[0]["id"].as_str().expect("an id").to_owned();
    assert_eq!(server.get(&format!("/v1/jobs/{child}/explain")).json()["waits_for"], "family");
    std::fs::write(server.path().join("go"), "").expect("written");
    assert_eq!(server.over(&second)["state"], "succeeded");
}

#[test]
fn what_does_not_fit_is_refused_before_anything_is_taken() {
    let config = TASKS.replace("allow_leading_dash = true\n", "schema = \"look.json\"\n");
    let server = Setup::new(&config).file("look.json", r#"{"required": ["what"]}"#).start();
    let answer = server.send(&Request::submit("bare", &json!({"images": [{"what": "a"}, {}, 3]})));
    assert_eq!(answer.status, 422, "{answer:?}");
    let pointers: Vec<_> = answer.json()["errors"].as_array().expect("a list").clone();
    assert_eq!(pointers[0]["pointer"], "/images/1", "{pointers:?}");
    for bad in [json!({}), json!({"images": 7}), json!({"images": vec![json!({"what": "a"}); 10_001]})] {
        let answer = server.send(&Request::submit("bare", &bad));
        assert_eq!(
            (answer.status, &answer.json()["errors"][0]["pointer"]),
            (422, &json!("/images")),
            "{answer:?}"
        );
    }
    assert_eq!(server.get("/v1/jobs").json()["items"], json!([]));
}

#[test]
fn a_family_is_removed_as_a_whole() {
    let server = Server::start(TASKS);
    let job = server.run("bare", images(&["a", "b"]));
    let id = job["id"].as_str().expect("an id");
    let child = children(&server, id)[0]["id"].as_str().expect("an id").to_owned();
    let answer = server.send(&Request::new("DELETE", format!("/v1/jobs/{child}")));
    assert_eq!((answer.status, &answer.json()["code"]), (409, &json!("part_of_family")));
    server.send(&Request::new("DELETE", format!("/v1/jobs/{id}"))).expect(204);
    assert_eq!(server.get(&format!("/v1/jobs/{child}")).status, 404);
}

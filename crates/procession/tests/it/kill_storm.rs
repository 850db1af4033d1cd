//! SIGKILL again and again: to the server while jobs end and leave things, to keeper and
//! server together. Every end is the program's, everything it left is there, nothing else is.

use std::fs;

use serde_json::{Value, json};

use crate::harness::{BOUND, Request, Server, Setup, at_once, kill, sha256, wait_for};

const JOBS: usize = 200;
const KILLS: usize = 20;

/// Every third leaves a result too large for the store.
const TASKS: &str = r#"
[limits]
max_running = 6
[task.leaves]
command = ["sh", "-c", '''
cd "${PROCESSION_ARTIFACTS:?}"
printf %s "$1" > number
mkdir sub
head -c 70000 /dev/zero | tr "\\0" "$(($1 % 10))" > sub/many
sleep 0.15
if [ $(($1 % 3)) = 0 ]; then printf "\""; head -c 70000 /dev/zero | tr "\\0" 7; printf "\""; else printf "{\"n\":%s}" "$1"; fi > "$PROCESSION_RESULT"
echo "$PROCESSION_JOB_ID" >> "$OLDPWD/ran"
exit "$2"
''', "sh", "{{payload.n}}", "{{payload.code}}"]
result_required = true
result_schema = "result.schema.json"
[task.gate]
command = ["sh", "-c", '''
echo x > "${PROCESSION_ARTIFACTS:?}/half"
echo x > "$PROCESSION_DIR/half"
echo before
sleep 600 & wait
''']
max_running = 2
[task.quick]
command = ["sh", "-c", 'ls -A "$PROCESSION_DIR"']
"#;

fn setup() -> Setup {
    Setup::new(TASKS).file("result.schema.json", json!({"type": ["object", "string"]}).to_string())
}

/// The program's own code: nothing for every second.
fn code(n: usize) -> usize {
    if n.is_multiple_of(2) { 0 } else { n % 256 }
}

fn digits(n: usize) -> Vec<u8> {
    vec![b'0' + (n % 10) as u8; 70_000]
}

fn replace_server(server: &Server) {
    let before = server.server_pid();
    kill(before);
    wait_for("another server answers", BOUND, || {
        server.try_send(&Request::get("/readyz")).is_ok_and(|answer| answer.status == 200)
            && server.server_pid() != before
    });
}

#[track_caller]
fn is_whole(server: &Server, id: &str, n: usize) {
    let job = server.over(id);
    let expected = json!({"kind": "exited", "code": code(n)});
    assert_eq!((&job["outcome"], &job["attempt"]), (&expected, &json!(1)), "{n}: {job}");
    let get = |what: &str| server.get(&format!("/v1/jobs/{id}/{what}")).expect(200);
    let result = get("result").body;
    if n.is_multiple_of(3) {
        assert_eq!(sha256(&result), sha256(format!("\"{}\"", "7".repeat(70_000)).as_bytes()), "{n}");
    } else {
        assert_eq!(result, format!("{{\"n\":{n}}}").into_bytes(), "{n}");
    }
    let size = n.to_string().len();
    let listed = json!([{"name": "number", "size": size}, {"name": "sub/many", "size": 70_000}]);
    assert_eq!(get("artifacts").json()["items"], listed, "{n}");
    assert_eq!(get("artifacts/number").body, n.to_string().into_bytes());
    assert_eq!(sha256(&get("artifacts/sub/many").body), sha256(&digits(n)), "{n}");
}

#[test]
fn f29_what_jobs_leave_is_whole_however_often_the_server_is_killed_heavy() {
    let mut server = setup().start();
    let submit = |n: usize| server.submit("leaves", json!({"n": n, "code": code(n)}));
    let ids: Vec<(String, usize)> = (0..JOBS).map(|n| (submit(n), n)).collect();
    let mut among_ends = 0;
    for _ in 0..KILLS {
        let open = server.all_jobs("state=running").len();
        among_ends += usize::from(open > 0);
        replace_server(&server);
    }
    assert!(among_ends > KILLS / 2, "the jobs were over too soon: {among_ends}");
    for (id, n) in &ids {
        is_whole(&server, id, *n);
    }
    let ran = fs::read_to_string(server.path().join("ran")).expect("they ran");
    assert_eq!(ran.lines().count(), JOBS, "once each");
    assert_eq!(server.stop().code(), Some(0));
    server.start_again();
    for (id, n) in &ids {
        is_whole(&server, id, *n);
    }
}

#[test]
fn f03_after_both_are_killed_nothing_of_their_jobs_is_left_and_others_run() {
    let mut server = setup().start();
    let over = server.run("leaves", json!({"n": 6, "code": 0}));
    for round in 0..3 {
        let running: Vec<String> = at_once(2, |_| server.running("gate", Value::Null));
        let queued = server.submit("gate", Value::Null);
        for id in &running {
            wait_for("it has written", BOUND, || server.stdout(id) == b"before\n");
        }
        fs::write(server.data().join("incoming/0123456789abcdef"), "half a body").expect("written");
        server.crash();
        server.start_again();
        for id in &running {
            let job = server.over(id);
            let lost = json!({"kind": "lost", "reason": "keeper_died"});
            assert_eq!((&job["state"], &job["outcome"]), (&json!("lost"), &lost), "round {round}: {job}");
            assert_eq!((&job["exit_code"], &job["result"]), (&Value::Null, &Value::Null), "{job}");
            wait_for("no process of it is left", BOUND, || server.processes_of(id).is_empty());
        }
        assert_eq!(fs::read_dir(server.data().join("incoming")).expect("readable").count(), 0);
        assert_eq!(server.printed("quick", Value::Null), "artifacts\n", "a clean folder");
        server.reaches(&queued, "running");
        server.cancel(&queued).expect(202);
        server.over(&queued);
        is_whole(&server, over["id"].as_str().expect("an id"), 6);
    }
    assert_eq!(server.stop().code(), Some(0));
    assert_eq!(server.processes(), Vec::<u32>::new());
}

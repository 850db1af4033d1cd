//! `then`: a task that follows another one's end, once, whatever dies in between.

use serde_json::{Value, json};

use crate::harness::{BOUND, Request, Server, Setup, wait_for, wait_for_some};

const TASKS: &str = r#"
[task.first]
command = ["sh", "-c", 'echo out; exit "$1"', "sh", "{{payload.n}}"]
max_running = 4
then = [{ task = "after", on = ["unsuccessful"] }, { task = "strict", on = ["exit:4"] }]
[task.after]
command = ["sh", "-c", 'cat; echo "$PROCESSION_JOB_ID" >> ran']
max_running = 4
[task.strict]
command = ["true"]
max_running = 4
schema = "strict.json"
"#;

const STRICT: &str = r#"{"type": "object", "required": ["nothing has this"]}"#;

fn setup() -> Setup {
    Setup::new(TASKS).file("strict.json", STRICT)
}

/// The jobs that followed, once there are so many.
#[track_caller]
fn followers(server: &Server, many: usize) -> Vec<Value> {
    wait_for_some(&format!("{many} jobs followed"), BOUND, || {
        let page =
            server.try_send(&Request::get("/v1/jobs?task=after")).ok().filter(|page| page.status == 200)?;
        let jobs = page.json()["items"].as_array().expect("items").clone();
        (jobs.len() >= many).then_some(jobs)
    })
}

fn text(value: &Value) -> String {
    value.as_str().expect("text").to_owned()
}

fn of(server: &Server, job: &Value) -> Vec<Value> {
    let page = server.get(&format!("/v1/deliveries?job={}", text(&job["id"]))).expect(200).json();
    page["items"].as_array().expect("items").clone()
}

#[test]
fn the_finished_job_is_the_payload_of_the_one_that_follows() {
    let server = setup().start();
    let quiet = server.run("first", json!({"n": 0}));
    let job = server.run("first", json!({"n": 3}));
    let follower = followers(&server, 1).remove(0);
    let follower = server.over(&text(&follower["id"]));
    assert_eq!(follower["submitted_by"], "then:first");
    let payload: Value = serde_json::from_slice(&server.stdout(&text(&follower["id"]))).expect("JSON");
    assert_eq!(payload, job);
    let told = wait_for_some("it is recorded", BOUND, || {
        of(&server, &job).into_iter().find(|one| one["state"] == "delivered")
    });
    assert_eq!((&told["kind"], &told["then"], &told["url"]), (&json!("then"), &json!("after"), &Value::Null));
    assert_eq!(told["then_job"], follower["id"]);
    assert_eq!(of(&server, &quiet), Vec::<Value>::new());
    assert_eq!(followers(&server, 1).len(), 1);

    // Once more is another job.
    server.post(&format!("/v1/deliveries/{}/repeat", text(&told["id"]))).expect(202);
    assert_eq!(followers(&server, 2).len(), 2);
}

#[test]
fn what_does_not_fit_the_task_that_follows_is_given_up_and_can_be_repeated() {
    let server = setup().start();
    let job = server.run("first", json!({"n": 4}));
    let given_up = wait_for_some("it is given up", BOUND, || {
        of(&server, &job).into_iter().find(|one| one["state"] == "given_up")
    });
    let why = text(&given_up["last_error"]);
    assert!(why.contains("does not fit") && why.contains("nothing has this"), "{why}");
    assert_eq!(followers(&server, 1).len(), 1, "the other one follows all the same");
    std::fs::write(server.path().join("strict.json"), "{}").expect("written");
    server.reload();
    server.post(&format!("/v1/deliveries/{}/repeat", text(&given_up["id"]))).expect(202);
    wait_for("it followed", BOUND, || !server.all_jobs("task=strict").is_empty());
}

#[test]
fn f37_one_job_follows_whenever_the_server_dies() {
    for point in ["deliver.before_follow", "deliver.after_follow", "finish.after_commit"] {
        let setup = setup();
        let comings = setup.path().join("comings");
        std::fs::create_dir(&comings).expect("made");
        let server = setup
            .env("PROCESSION_FAULT", &format!("{point}=abort@1"))
            .env("PROCESSION_FAULT_ONCE", comings.to_str().expect("text"))
            .start();
        server.submit("first", json!({"n": 3}));
        let follower = followers(&server, 1).remove(0);
        wait_for("it is over", BOUND, || {
            let asked = server.try_send(&Request::get(format!("/v1/jobs/{}", text(&follower["id"]))));
            asked.is_ok_and(|job| job.status == 200 && job.json()["state"] == "succeeded")
        });
        wait_for("it is recorded", BOUND, || {
            server.get("/v1/deliveries?state=delivered").json()["items"]
                .as_array()
                .is_some_and(|all| all.len() == 1)
        });
        assert_eq!(followers(&server, 1).len(), 1, "{point}");
        let ran = std::fs::read_to_string(server.path().join("ran")).expect("it ran");
        assert_eq!(ran.lines().count(), 1, "{point}: {ran}");
        let died = std::fs::read_dir(&comings).expect("readable").count();
        assert!(died > 0 || !cfg!(debug_assertions), "{point} was never reached");
    }
}

//! Jobs, as most tests use them.

use serde_json::{Value, json};

use super::client::Client;
use super::request::Request;
use super::response::Response;
use super::wait::{BOUND, wait_for, wait_for_some};

impl Client {
    /// A new job's id.
    #[track_caller]
    pub fn submit(&self, task: &str, payload: Value) -> String {
        self.send(&Request::submit(task, &payload)).expect(202).job_id()
    }

    /// A new job, over.
    #[track_caller]
    pub fn run(&self, task: &str, payload: Value) -> Value {
        self.over(&self.submit(task, payload))
    }

    /// A new job with a body of any kind, over.
    #[track_caller]
    pub fn run_bytes(&self, task: &str, content_type: &str, body: impl Into<Vec<u8>>) -> Value {
        let request = Request::post(format!("/v1/tasks/{task}/jobs")).body(content_type, body);
        self.over(&self.send(&request).expect(202).job_id())
    }

    /// The job as it stands.
    #[track_caller]
    pub fn job(&self, id: &str) -> Value {
        self.get(&format!("/v1/jobs/{id}")).expect(200).json()
    }

    /// The job once it is over.
    #[track_caller]
    pub fn over(&self, id: &str) -> Value {
        wait_for_some("a job is over", BOUND, || {
            let job = self.get(&format!("/v1/jobs/{id}?wait=20")).expect(200).json();
            is_over(&job).then_some(job)
        })
    }

    /// The job once it is in this state.
    #[track_caller]
    pub fn reaches(&self, id: &str, state: &str) -> Value {
        wait_for_some(&format!("job {id} is {state}"), BOUND, || {
            let job = self.job(id);
            assert!(job["state"] == state || !is_over(&job), "{id} is to be {state}, and is {job}");
            (job["state"] == state).then_some(job)
        })
    }

    /// A new job whose program runs; it is `running` as soon as it is claimed.
    #[track_caller]
    pub fn running(&self, task: &str, payload: Value) -> String {
        let id = self.submit(task, payload);
        wait_for(&format!("the program of {id} runs"), BOUND, || {
            self.reaches(&id, "running")["started_at"].is_string()
        });
        id
    }

    /// Asks for a job's end.
    #[track_caller]
    pub fn cancel(&self, id: &str) -> Response {
        self.post(&format!("/v1/jobs/{id}/cancel"))
    }

    /// All a program wrote to stdout.
    #[track_caller]
    pub fn stdout(&self, id: &str) -> Vec<u8> {
        self.get(&format!("/v1/jobs/{id}/stdout")).expect(200).body
    }

    /// All a program wrote to stderr.
    #[track_caller]
    pub fn stderr(&self, id: &str) -> Vec<u8> {
        self.get(&format!("/v1/jobs/{id}/stderr")).expect(200).body
    }

    /// What a new job with this payload prints.
    #[track_caller]
    pub fn printed(&self, task: &str, payload: Value) -> String {
        let job = self.run(task, payload);
        assert_eq!(job["outcome"], json!({"kind": "exited", "code": 0}), "{job}");
        String::from_utf8(self.stdout(job["id"].as_str().expect("an id"))).expect("text")
    }

    /// All jobs that fit a query, page by page.
    #[track_caller]
    pub fn all_jobs(&self, query: &str) -> Vec<Value> {
        let mut jobs = Vec::new();
        let mut cursor = String::new();
        loop {
            let page = self.get(&format!("/v1/jobs?{query}{cursor}")).expect(200).json();
            jobs.extend(page["items"].as_array().expect("items").iter().cloned());
            match page["next_cursor"].as_str() {
                Some(next) => cursor = format!("&cursor={next}"),
                None => return jobs,
            }
        }
    }
}

fn is_over(job: &Value) -> bool {
    let state = job["state"].as_str().unwrap_or_else(|| panic!("no job: {job}"));
    !matches!(state, "scheduled" | "queued" | "running" | "waiting")
}

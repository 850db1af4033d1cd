//! The contract's own example, key by key; the defaults; where paths lead; what changes
//! the revision; the example folder.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use jiff::tz::TimeZone;
use procession_core::condition::Condition;
use procession_core::cron::Cron;
use procession_core::job::{FollowUp, What};
use procession_core::launch::OutputMode;
use procession_core::limits::{Limit, TaskLimits};
use procession_core::placeholder::Template;
use procession_core::schedule::{CatchUp, Overlap, Schedule};
use procession_core::state::JobState;
use procession_core::target::HostPattern;
use procession_core::task::{
    Body, Callback, Channel, Input, Method, Output, Reply, ReplyFormat, ResultRule, ResultSource, Route, Task,
};
use procession_core::validate::Schema;
use serde_json::json;

use super::super::limits::Limits;
use super::super::log::Logging;
use super::super::retention::Retention;
use super::super::server::Server;
use super::super::{Auth, Config, Listen, LoadOptions, load};
use super::Scratch;

/// The Config chapter's example, without what this version does not have.
pub(super) const EXAMPLE: &str = r#"
[server]
listen   = ["127.0.0.1:8080", "unix:procession.sock"]
socket_mode = "0660"
socket_group = "www-data"
data_dir = "procession-data"
store    = "sqlite"
auth     = "token"
hosts    = ["jobs.example.org"]
callback_hosts = ["hooks.example.org", "*.example.net"]
stop_timeout = "80s"
[limits]
max_running = 8
[retention]
finished = "7d"
output = "10GiB"
min_free = "1GiB"
[log]
level = "warn,procession::scheduler=debug"
max_size = "1MiB"
max_age = "12h"
keep = 3
expire = "none"
compress = false

[task.full-report]
description = "One train pass"
route       = "POST /internal/v1/subway-images/full-report"
command     = ["python3", "process.py", "--data", "{{payload}}"]
payload     = "argv"
schema      = "full-report.schema.json"
directory   = "."
max_running = 10
max_queued  = 0
timeout     = "10m"
grace       = "10s"
queue_timeout = "none"
output_limit  = "100MiB"
env         = { MODEL = "v2" }
env_inherit = ["CUDA_*", "HTTPS_PROXY"]
secrets     = { DB = { file = "db.secret" } }
reply       = { format = "envelope", always_200 = true }
auth        = "none"
labels      = { request = "{{payload.requestId}}" }
idempotency_key = "{{payload.requestId}}"
then = { task = "convert", on = ["unsuccessful"] }
callback = { url = "http://127.0.0.1:9000/done", secret_file = "hook.secret", on = ["finished"] }

[task.convert]
command = ["true", "{{payload_file}}", "{{query.mode:-fast}}"]
route = "GET /convert"
reply = { format = "text", template = "Return code: {{exit_code}}\n", wait = "30s", status = { timed_out = 504, failed = 500 } }
body = "bytes"
payload = "file"
content_types = ["image/jpeg", "image/*"]
max_body = "2GiB"
max_running = 2
timeout = "none"
queue_timeout = "1h30m"
output = "merged"
result = "stdout"
result_required = true
result_schema = "good.json"
leave_children = true
allow_leading_dash = true
then = [{ task = "tidy" }, { task = "tidy", on = "exit:75" }]
callback = { url = "https://hooks.example.org/{{query.mode:-fast}}", secret_file = "hook.secret", on = ["failed", "lost"] }

[task.tidy]
command = ["true"]
max_running = 1

[schedule.nightly]
task = "full-report"
cron = "0 3 * * *"
timezone = "Asia/Shanghai"
overlap = "queue"
catch_up = "one"
payload = { requestId = "night", depth = [0x10, 2.5, true, "x"], more = { a = {} } }

[schedule.hourly]
task = "convert"
cron = "@hourly"
"#;

fn template(text: &str) -> Template {
    Template::parse(text).expect("a template")
}

fn schema(value: serde_json::Value) -> Option<Schema> {
    Some(Schema::compile(value).expect("a schema"))
}

fn follow(task: &str, on: Condition) -> FollowUp {
    FollowUp { on: vec![on], what: What::Then(task.parse().expect("a name")) }
}

fn callback_hosts() -> Vec<HostPattern> {
    ["hooks.example.org", "*.example.net"].map(|host| host.parse().expect("a host")).to_vec()
}

fn full_report(folder: &Path) -> Task {
    let command = ["python3", "process.py", "--data", "{{payload}}"].map(template).to_vec();
    Task {
        description: Some("One train pass".into()),
        route: Some(Route {
            method: Method::Post,
            path: "/internal/v1/subway-images/full-report".into(),
            reply: Reply { format: ReplyFormat::Envelope, always_200: true, wait: None, status: Vec::new() },
            anonymous: true,
        }),
        input: Input {
            body: Body::Json,
            channel: Channel::Argv,
            content_types: Vec::new(),
            max_body: 1 << 20,
            schema: schema(json!({"type": "object", "required": ["requestId"]})),
        },
        limits: TaskLimits { max_running: Limit::AtMost(10), per_lane: Limit::Unlimited, max_queued: 0 },
        timeout: Some(Duration::from_secs(600)),
        grace: Duration::from_secs(10),
        queue_timeout: None,
        output: Output { mode: OutputMode::Separate, limit: 100 << 20 },
        result: ResultRule { source: ResultSource::File, required: false, schema: None },
        leave_children: false,
        env: [("MODEL".to_owned(), template("v2"))].into(),
        env_inherit: vec!["CUDA_*".into(), "HTTPS_PROXY".into()],
        secrets: [("DB".to_owned(), folder.join("db.secret"))].into(),
        labels: [("request".to_owned(), template("{{payload.requestId}}"))].into(),
        idempotency_key: Some(template("{{payload.requestId}}")),
        then: vec![follow("convert", Condition::Unsuccessful)],
        callback: Some(Callback {
            url: template("http://127.0.0.1:9000/done"),
            secret_file: Some(folder.join("hook.secret")),
            on: vec![Condition::Finished],
            hosts: callback_hosts(),
        }),
        ..Task::new("full-report".parse().expect("a name"), command, folder.into())
    }
}

fn convert(folder: &Path) -> Task {
    let command = ["true", "{{payload_file}}", "{{query.mode:-fast}}"].map(template).to_vec();
    let mut task = Task::new("convert".parse().expect("a name"), command, folder.into());
    task.route = Some(Route {
        method: Method::Get,
        path: "/convert".into(),
        reply: Reply {
            format: ReplyFormat::Text { template: "Return code: {{exit_code}}\n".into() },
            always_200: false,
            wait: Some(Duration::from_secs(30)),
            status: vec![(JobState::Failed, 500), (JobState::TimedOut, 504)],
        },
        anonymous: false,
    });
    task.input = Input {
        body: Body::Bytes,
        channel: Channel::File,
        content_types: vec!["image/jpeg".into(), "image/*".into()],
        max_body: 2 << 30,
        schema: None,
    };
    task.limits.max_running = Limit::AtMost(2);
    task.timeout = None;
    task.queue_timeout = Some(Duration::from_secs(5400));
    task.output.mode = OutputMode::Merged;
    task.result = ResultRule {
        source: ResultSource::Stdout,
        required: true,
        schema: schema(json!({"type": "object"})),
    };
    task.leave_children = true;
    task.allow_leading_dash = true;
    task.then = vec![follow("tidy", Condition::Finished), follow("tidy", Condition::Exit(75))];
    task.callback = Some(Callback {
        url: template("https://hooks.example.org/{{query.mode:-fast}}"),
        secret_file: Some(folder.join("hook.secret")),
        on: vec![Condition::State(JobState::Failed), Condition::State(JobState::Lost)],
        hosts: callback_hosts(),
    });
    task
}

fn tidy(folder: &Path) -> Task {
    let mut task = Task::new("tidy".parse().expect("a name"), vec![template("true")], folder.into());
    task.limits.max_running = Limit::AtMost(1);
    task
}

#[test]
fn the_contracts_example_means_what_it_says() {
    let scratch = Scratch::new();
    let folder = scratch.path();
    let config = scratch.parse(EXAMPLE).expect("a config");
    let server = Server {
        listen: vec![
            Listen::Tcp(([127, 0, 0, 1], 8080).into()),
            Listen::Unix {
                path: folder.join("procession.sock"),
                mode: 0o660,
                group: Some("www-data".into()),
            },
        ],
        data_dir: folder.join("procession-data"),
        auth: Auth::Token,
        hosts: vec!["jobs.example.org".into()],
        callback_hosts: callback_hosts(),
        stop_timeout: Duration::from_secs(80),
    };
    assert_eq!(config.server, server);
    assert_eq!(config.limits, Limits { max_running: 8 });
    let week = Duration::from_secs(7 * 86_400);
    let retention = Retention { finished: Some(week), output: Some(10 << 30), min_free: Some(1 << 30) };
    assert_eq!(config.retention, retention);
    let log = Logging {
        level: "warn,procession::scheduler=debug".into(),
        max_size: Some(1 << 20),
        max_age: Some(Duration::from_secs(12 * 3600)),
        keep: Some(3),
        expire: None,
        compress: false,
    };
    assert_eq!(config.log, log);
    assert_eq!(config.path, folder.join("procession.toml"));
    assert_eq!(config.folder, folder);
    let tasks: Vec<&Arc<Task>> = config.tasks.values().collect();
    assert_eq!(tasks, [convert(folder), full_report(folder), tidy(folder)].map(Arc::new).each_ref());
    let zone = |name: &str| TimeZone::get(name).expect("a zone");
    let hourly = Schedule {
        name: "hourly".parse().expect("a name"),
        task: "convert".parse().expect("a name"),
        cron: Cron::parse("@hourly", zone("UTC")).expect("an expression"),
        overlap: Overlap::Skip,
        catch_up: CatchUp::None,
        payload: Bytes::new(),
    };
    let payload = r#"{"depth":[16,2.5,true,"x"],"more":{"a":{}},"requestId":"night"}"#;
    let nightly = Schedule {
        name: "nightly".parse().expect("a name"),
        task: "full-report".parse().expect("a name"),
        cron: Cron::parse("0 3 * * *", zone("Asia/Shanghai")).expect("an expression"),
        overlap: Overlap::Queue,
        catch_up: CatchUp::One,
        payload: Bytes::from_static(payload.as_bytes()),
    };
    let schedules: Vec<&Arc<Schedule>> = config.schedules.values().collect();
    assert_eq!(schedules, [&Arc::new(hourly), &Arc::new(nightly)]);
    let warnings: Vec<&str> = config.warnings.iter().map(|warning| warning.message.as_str()).collect();
    assert_eq!(warnings, ["a payload in the arguments is visible in `ps` to every user of this machine"]);
}

#[test]
fn what_is_left_out_has_its_default() {
    let scratch = Scratch::new();
    let config = scratch.parse("[task.t]\ncommand = [\"true\"]\n").expect("a config");
    let server = Server { data_dir: scratch.path().join("procession-data"), ..Server::default() };
    assert_eq!(config.server, server);
    assert_eq!(config.limits, Limits::for_cores(2));
    assert_eq!(config.retention, Retention::default());
    assert_eq!(config.log, Logging::default());
    let mut task = Task::for_testing("t", &["true"]);
    task.directory = scratch.path().into();
    assert_eq!(config.tasks.values().map(|task| &**task).collect::<Vec<_>>(), [&task]);
    let windows = "\u{feff}[task.t]\r\ncommand = [\"true\"]\r\n";
    assert_eq!(scratch.parse(windows).expect("a config from elsewhere").tasks, config.tasks);
    let empty = scratch.parse("").expect("a config without tasks");
    assert!(empty.tasks.is_empty() && empty.warnings.is_empty());
    assert_eq!(empty.revision, Config::default().revision);
}

#[test]
fn a_config_made_by_hand_is_like_one_that_was_read() {
    let scratch = Scratch::new();
    let read = scratch.parse("[task.t]\ncommand = [\"true\"]\n").expect("a config");
    let tasks = read.tasks.values().map(|task| Task::clone(task)).collect();
    let made = Config::for_testing(scratch.path(), tasks);
    assert_eq!(made.tasks, read.tasks);
    assert_eq!((made.path, made.folder), (read.path, read.folder));
}

#[test]
fn the_flag_opens_listeners_and_nothing_else() {
    let scratch = Scratch::new();
    let write = |text: &str| {
        scratch.write("procession.toml", text);
        scratch.path().join("procession.toml")
    };
    let insecure = LoadOptions { insecure: true, ..scratch.options() };
    let path = write("[server]\nlisten = \"0.0.0.0:0\"\n");
    assert!(load(&path, &scratch.options()).is_err());
    let config = load(&path, &insecure).expect("the flag is given");
    assert_eq!(config.server.listen, [Listen::Tcp(([0, 0, 0, 0], 0).into())]);
    let path = write("[server]\nlisten = \"0.0.0.0:0\"\nauth = \"none\"\n");
    let refused = load(&path, &insecure).expect_err("no token and not local");
    assert_eq!(refused.errors(), 1, "{refused}");
}

#[test]
fn the_revision_follows_the_file_and_its_schemas() {
    let scratch = Scratch::new();
    let text = "[task.t]\ncommand = [\"true\"]\nschema = \"good.json\"\n";
    let revision = |text: &str| scratch.parse(text).expect("a config").revision;
    let first = revision(text);
    assert!(first.len() == 12 && first.bytes().all(|c| c.is_ascii_hexdigit()), "{first}");
    assert_eq!(revision(text), first);
    assert_ne!(revision(&format!("{text}\n")), first);
    scratch.write("good.json", "{}");
    assert_ne!(revision(text), first);
}

#[test]
fn files_that_are_no_config_are_refused_with_a_remedy() {
    let scratch = Scratch::new();
    let missing = load(&scratch.path().join("none.toml"), &scratch.options()).expect_err("no file");
    assert!(missing.to_string().contains("cannot read "), "{missing}");
    assert!(load(scratch.path(), &scratch.options()).is_err(), "a folder");
    assert!(load(Path::new("/dev/zero"), &scratch.options()).is_err(), "endless");
    let path = scratch.path().join("latin1.toml");
    std::fs::write(&path, b"[server]\n# caf\xe9\n").expect("a file");
    let not_text = load(&path, &scratch.options()).expect_err("not UTF-8").to_string();
    assert!(not_text.contains("latin1.toml:2:6\n"), "{not_text}");
}

#[test]
fn the_example_folder_loads() {
    let path =
        PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../examples/subway-inspection/procession.toml");
    let config = load(&path, &LoadOptions::default()).unwrap_or_else(|complaints| panic!("{complaints}"));
    assert!(config.tasks.contains_key("full-report"));
}

//! `callback` and `deliveries`: who is told of a job's end, however often it takes, and who is
//! not. What follows by `then` is next door.

use std::time::{Duration, Instant};

use procession_core::webhook::Secret;
use serde_json::{Value, json};

use crate::harness::{
    BOUND, Call, Receiver, Request, Says, Server, Setup, at_once, command, wait_for, wait_for_some,
};

const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

const COMMAND: &str = r#"command = ["sh", "-c", 'exit "$1"', "sh", "{{payload.n:-0}}"]"#;

/// A server with a task `t` whose ends are told at this URL.
fn setup(url: &str, more: &str) -> Setup {
    Setup::new(&config(url, more)).file("hook.secret", SECRET)
}

fn config(url: &str, more: &str) -> String {
    format!(
        "[task.t]\n{COMMAND}\nmax_running = 8\n\
         callback = {{ url = \"{url}\", secret_file = \"hook.secret\", on = [\"finished\"] }}\n{more}\n"
    )
}

fn deliveries(server: &Server, query: &str) -> Vec<Value> {
    let page = server.get(&format!("/v1/deliveries?{query}")).expect(200).json();
    page["items"].as_array().expect("items").clone()
}

/// What follows the end of this job, once it is in this state.
#[track_caller]
fn delivery(server: &Server, job: &str, state: &str) -> Value {
    wait_for_some(&format!("the delivery of {job} is {state}"), BOUND, || {
        deliveries(server, &format!("job={job}")).into_iter().find(|one| one["state"] == state)
    })
}

fn id(job: &Value) -> String {
    job["id"].as_str().expect("an id").to_owned()
}

/// Signed with this secret, by what the receiver got alone.
#[track_caller]
fn assert_signed(call: &Call, secret: &str) {
    let timestamp = call.header("webhook-timestamp").parse().expect("a number");
    let expected = Secret::parse(secret.as_bytes()).expect("a secret").sign(
        call.header("webhook-id"),
        timestamp,
        &call.body,
    );
    assert_eq!(call.header("webhook-signature"), expected);
}

#[test]
fn f37_the_end_of_a_job_is_told_once_signed_and_as_the_api_shows_it() {
    let receiver = Receiver::start();
    let server = setup(&receiver.url("/done?key=hidden"), "").start();
    let job = server.run("t", json!({"n": 3}));
    let call = receiver.heard(1).remove(0);
    assert_eq!(call.path, "/done?key=hidden");
    assert_eq!(call.header("content-type"), "application/json");
    assert_eq!(call.header("host"), receiver.address.to_string());
    assert_eq!(call.header("webhook-id"), format!("msg_{}_0", id(&job)));
    assert_signed(&call, SECRET);
    let signed: i64 = call.header("webhook-timestamp").parse().expect("a number");
    let now =
        std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("after 1970").as_secs();
    assert!((now as i64 - signed).abs() < 30, "{signed}");
    assert_eq!(call.json(), json!({"type": "job.finished", "timestamp": job["finished_at"], "data": job}));

    let told = delivery(&server, &id(&job), "delivered");
    let expected = json!({
        "id": format!("{}_0", id(&job)), "job": job["id"], "task": "t", "kind": "callback",
        "url": receiver.url("/done?…"), "then": null, "then_job": null, "state": "delivered", "tries": 1,
        "next_try_at": null, "last_status": 204, "last_error": null, "created_at": job["finished_at"],
    });
    assert_eq!(told, expected);
    let shown = server.get("/v1/deliveries").expect(200).text().to_owned();
    assert!(!shown.contains("hidden"), "{shown}");
    let said = format!("{shown}{}", server.log());
    assert!(!said.contains(&SECRET[6..]), "{said}");
    assert_eq!(receiver.calls().len(), 1);
}

#[test]
fn f37_a_receiver_that_is_down_is_told_when_it_is_there() {
    let address = Receiver::nobody();
    let server = setup(&format!("http://{address}/"), "").start();
    let job = id(&server.run("t", json!({})));
    wait_for("it was tried twice", BOUND, || delivery(&server, &job, "pending")["tries"].as_u64() >= Some(2));
    let waits = delivery(&server, &job, "pending");
    assert!(waits["last_error"].as_str().is_some_and(|why| why.contains("no connection")), "{waits}");
    assert!(waits["next_try_at"].is_string() && waits["last_status"].is_null(), "{waits}");
    let receiver = Receiver::at(address);
    let call = receiver.heard(1).remove(0);
    assert_eq!(call.job(), job);
    assert_signed(&call, SECRET);
    assert!(delivery(&server, &job, "delivered")["tries"].as_u64() >= Some(3));
}

#[test]
fn f37_what_fails_is_tried_again_after_a_second_or_when_the_receiver_says() {
    let script = [Says::Status(500, ""), Says::HangsUp, Says::Status(429, "Retry-After: 3\r\n")];
    let receiver = Receiver::start().says(&script);
    let server = setup(&receiver.url("/"), "").start();
    let job = id(&server.run("t", json!({})));
    let calls = receiver.heard(4);
    let waits: Vec<Duration> = calls.windows(2).map(|pair| pair[1].at - pair[0].at).collect();
    assert!(waits[0] >= Duration::from_millis(500) && waits[0] < Duration::from_secs(4), "{waits:?}");
    assert!(waits[2] >= Duration::from_secs(3), "{waits:?}");
    for call in &calls {
        assert_eq!(call.header("webhook-id"), format!("msg_{job}_0"), "the same each time");
        assert_eq!(call.body, calls[0].body);
        assert_signed(call, SECRET);
    }
    assert_eq!(delivery(&server, &job, "delivered")["tries"], 4);
    assert_eq!(receiver.calls().len(), 4);
}

#[test]
fn f37_a_slow_receiver_holds_up_nobody_else() {
    let (slow, quick) = (Receiver::start(), Receiver::start());
    slow.always(Says::Nothing);
    let task = format!("[task.u]\n{COMMAND}\nmax_running = 8\ncallback = {{ url = \"{}\" }}", quick.url("/"));
    let server = setup(&slow.url("/"), &task).start();
    at_once(10, |_| server.run("t", json!({})));
    slow.heard(4);
    let began = Instant::now();
    let job = server.run("u", json!({}));
    assert_eq!(quick.heard(1)[0].job(), id(&job));
    // A try has 10 s: none of the others was waited for.
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    delivery(&server, &id(&job), "delivered");
    assert_eq!(slow.calls().len(), 4, "few at once");
    assert_eq!(deliveries(&server, "state=pending").len(), 10);
    let unsigned = quick.heard(1).remove(0);
    assert!(!unsigned.headers.iter().any(|(name, _)| name == "webhook-signature"), "{unsigned:?}");
}

#[test]
fn f37_a_receiver_that_answers_410_is_asked_no_more_until_somebody_wants_it() {
    let receiver = Receiver::start().says(&[Says::Status(410, "")]);
    let server = setup(&receiver.url("/"), "").start();
    let first = id(&server.run("t", json!({})));
    assert_eq!(delivery(&server, &first, "gone")["last_status"], 410);
    let second = id(&server.run("t", json!({})));
    let untried = delivery(&server, &second, "gone");
    assert_eq!((&untried["tries"], &untried["last_status"]), (&json!(0), &Value::Null), "{untried}");
    assert_eq!(receiver.calls().len(), 1);

    // By hand, on the command line, by the end of the job's id.
    let said = server.cli(&["deliveries", "repeat", &second[28..]]).ok();
    assert!(said.contains("is due now"), "{said}");
    assert_eq!(receiver.heard(2)[1].job(), second);
    delivery(&server, &second, "delivered");
    let third = id(&server.run("t", json!({})));
    delivery(&server, &third, "delivered");
    assert_eq!(deliveries(&server, "state=gone").len(), 1);
    let table = server.cli(&["deliveries"]).ok();
    assert!(table.lines().count() == 4 && table.contains("gone"), "{table}");
    assert_eq!(server.cli(&["deliveries", "--state", "gone,given_up"]).ok().lines().count(), 2);
    let json: Value =
        serde_json::from_str(&server.cli(&["deliveries", "--output", "json"]).ok()).expect("JSON");
    assert_eq!(json["items"].as_array().map(Vec::len), Some(3));
}

#[test]
fn f37_a_redirect_is_not_followed() {
    let elsewhere = Receiver::start();
    // Leaked: the script lives as long as the test anyway.
    let lead = format!("Location: {}\r\n", elsewhere.url("/")).leak();
    let metadata = "Location: http://169.254.169.254/latest/meta-data/\r\n";
    let receiver = Receiver::start().says(&[Says::Status(302, metadata), Says::Status(307, lead)]);
    let server = setup(&receiver.url("/"), "").start();
    let job = id(&server.run("t", json!({})));
    receiver.heard(2);
    let redirected = wait_for_some("it was redirected", BOUND, || {
        let seen = deliveries(&server, &format!("job={job}")).remove(0);
        (seen["tries"] == 1 || seen["tries"] == 2).then_some(seen)
    });
    let why = redirected["last_error"].as_str().expect("a reason");
    assert!(why.contains("redirects are not followed"), "{why}");
    delivery(&server, &job, "delivered");
    assert_eq!((receiver.calls().len(), elsewhere.calls().len()), (3, 0));
}

/// A server whose clients choose where their jobs' ends are told.
fn with_a_clients_url() -> Server {
    Setup::new(&clients_config("{{payload.url}}")).file("hook.secret", SECRET).start()
}

fn clients_config(url: &str) -> String {
    let hosts = r#"["127.0.0.1", "localhost", "2130706433", "0x7f000001", "0x7f.1", "017700000001", "127.1",
        "::ffff:127.0.0.1", "::1", "0.0.0.0", "169.254.169.254", "10.0.0.1", "*.invalid"]"#;
    let head =
        format!("[server]\nlisten = [\"127.0.0.1:0\"]\ndata_dir = \"data\"\ncallback_hosts = {hosts}\n");
    format!("{head}{}", config(url, ""))
}

#[test]
fn f37_a_client_cannot_have_this_machine_or_its_networks_called() {
    let receiver = Receiver::start();
    let server = with_a_clients_url();
    let port = receiver.address.port();
    for host in [
        "127.0.0.1",
        "localhost",
        "2130706433",
        "0x7f000001",
        "0x7f.1",
        "017700000001",
        "127.1",
        "[::ffff:127.0.0.1]",
        "[::ffff:7f00:1]",
        "[::1]",
        "0.0.0.0",
        "169.254.169.254",
        "10.0.0.1",
    ] {
        let job = id(&server.run("t", json!({"url": format!("http://{host}:{port}/")})));
        let outcome = wait_for_some("it was judged", BOUND, || {
            let seen = deliveries(&server, &format!("job={job}")).remove(0);
            (seen["tries"] != 0).then_some(seen)
        });
        let why = outcome["last_error"].as_str().expect("a reason");
        // A resolver may not know such a form of an address.
        let unknown = why.contains("cannot be resolved") && host.parse::<std::net::IpAddr>().is_err();
        assert!(
            why.contains("only public addresses") && outcome["state"] == "given_up" || unknown,
            "{outcome}"
        );
    }
    assert_eq!(receiver.calls().len(), 0);
}

#[test]
fn f37_a_client_can_only_choose_among_the_hosts_of_the_config() {
    let server = with_a_clients_url();
    for url in [
        "https://evil.example/",
        "https://evil.example/?http://127.0.0.1/",
        "https://127.0.0.1@evil.example/",
        "http://user:password@127.0.0.1/",
        "http://invalid/",
        "http://x.invalid.evil.example/",
        "file:///etc/passwd",
        "gopher://127.0.0.1/",
        "not a url",
        "",
    ] {
        let refused = server.send(&Request::submit("t", &json!({"url": url})));
        assert_eq!(refused.problem(), (422, "invalid_argument".into()), "{url}");
        assert_eq!(refused.json()["errors"][0]["pointer"], "/url", "{url}");
    }
    let refused = server.send(&Request::submit("t", &json!({})));
    assert_eq!(refused.problem(), (422, "invalid_argument".into()));
    assert_eq!(server.all_jobs("").len(), 0);
}

#[test]
fn f37_a_host_that_left_the_list_and_a_task_that_is_gone_are_called_no_more() {
    let server = with_a_clients_url();
    let job = id(&server.run("t", json!({"url": "http://x.invalid/"})));
    let says = |what: &str| {
        wait_for(&format!("it says {what}"), BOUND, || {
            server.post(&format!("/v1/deliveries/{job}_0/repeat")).expect(202);
            wait_for("it was tried", BOUND, || delivery(&server, &job, "pending")["tries"] != 0);
            let seen = delivery(&server, &job, "pending")["last_error"].clone();
            seen.as_str().is_some_and(|why| why.contains(what))
        });
    };
    says("x.invalid");
    let before = clients_config("{{payload.url}}");
    server.configure(&before.replace(", \"*.invalid\"", ""));
    server.reload();
    says("not among `callback_hosts`");
    server.configure(&before.replace("[task.t]", "[task.u]"));
    server.reload();
    says("names no callback for the task `t` any more");
}

/// A server that dies the first time it comes to this point.
fn dies_once(setup: Setup, point: &str) -> Setup {
    let comings = setup.path().join("comings");
    std::fs::create_dir(&comings).expect("made");
    let setup = setup.env("PROCESSION_FAULT", &format!("{point}=abort@1"));
    setup.env("PROCESSION_FAULT_ONCE", comings.to_str().expect("text"))
}

#[test]
fn f37_a_server_that_dies_before_or_after_a_callback_leaves_it_to_the_next() {
    for (point, times) in [("deliver.before_send", 1), ("deliver.before_ack", 2)] {
        let receiver = Receiver::start();
        let server = dies_once(setup(&receiver.url("/"), ""), point).start();
        if !cfg!(debug_assertions) {
            // A release build has no such points.
            return;
        }
        let job = server.submit("t", json!({}));
        let calls = receiver.heard(times);
        for call in &calls {
            assert_eq!((call.job(), call.header("webhook-id")), (job.clone(), &*format!("msg_{job}_0")));
            assert_eq!(call.body, calls[0].body);
            assert_signed(call, SECRET);
        }
        wait_for("the next server has recorded it", BOUND, || {
            let asked = server.try_send(&Request::get(format!("/v1/deliveries?job={job}")));
            asked.is_ok_and(|page| page.status == 200 && page.json()["items"][0]["state"] == "delivered")
        });
        assert_eq!(receiver.calls().len(), times, "{point}: at least once, and no oftener than it takes");
    }
}

#[test]
fn f37_what_nobody_took_yet_survives_the_death_of_keeper_and_server() {
    let address = Receiver::nobody();
    let mut server = setup(&format!("http://{address}/"), "").start();
    let job = id(&server.run("t", json!({"n": 7})));
    wait_for("it was tried", BOUND, || delivery(&server, &job, "pending")["tries"] != 0);
    server.crash();
    let receiver = Receiver::at(address);
    server.start_again();
    let call = receiver.heard(1).remove(0);
    assert_eq!(call.header("webhook-id"), format!("msg_{job}_0"));
    assert_eq!(call.json()["data"]["exit_code"], 7);
    delivery(&server, &job, "delivered");
}

#[test]
fn f37_a_reload_loses_no_callback() {
    let receiver = Receiver::start();
    receiver.always(Says::Status(503, ""));
    let server = setup(&receiver.url("/"), "").start();
    let jobs: Vec<String> = (0..6).map(|_| id(&server.run("t", json!({})))).collect();
    receiver.heard(6);
    server.reload();
    receiver.always(Says::Status(200, ""));
    for job in &jobs {
        delivery(&server, job, "delivered");
    }
}

#[test]
fn f37_however_a_job_ends_somebody_is_told() {
    let receiver = Receiver::start();
    let tasks = format!(
        "[task.waits]\ncommand = [\"sleep\", \"600\"]\nmax_running = 1\nqueue_timeout = \"1s\"\n\
         callback = {{ url = \"{}\", on = [\"unsuccessful\"] }}\n\
         [task.missing]\ncommand = [\"no-such-program\"]\nmax_running = 1\n\
         callback = {{ url = \"{0}\", on = [\"spawn_failed\"] }}\n\
         [task.late]\ncommand = [\"sleep\", \"600\"]\nmax_running = 1\ntimeout = \"200ms\"\n\
         callback = {{ url = \"{0}\", on = [\"timed_out\", \"succeeded\"] }}\n\
         [task.fine]\n{COMMAND}\nmax_running = 1\ncallback = {{ url = \"{0}\", on = [\"unsuccessful\"] }}",
        receiver.url("/")
    );
    let server = setup(&receiver.url("/t"), &tasks).start();
    let runs = server.running("waits", Value::Null);
    let expires = server.submit("waits", Value::Null);
    let expired = server.over(&expires);
    assert_eq!(expired["outcome"], json!({"kind": "cancelled", "by": "expired"}));
    server.cancel(&runs);
    server.over(&runs);
    let missing = id(&server.run("missing", Value::Null));
    let late = id(&server.run("late", Value::Null));
    let mut told: Vec<String> = receiver.heard(4).iter().map(Call::job).collect();
    told.sort();
    let mut expected = vec![runs, expires, missing, late];
    expected.sort();
    assert_eq!(told, expected);
    // What its config does not ask for.
    let fine = id(&server.run("fine", json!({})));
    assert_eq!(deliveries(&server, &format!("job={fine}")), Vec::<Value>::new());
}

#[test]
fn keys_can_be_exchanged_at_any_time() {
    let receiver = Receiver::start();
    let server = setup(&receiver.url("/"), "").start();
    let write = |text: &str| std::fs::write(server.path().join("hook.secret"), text).expect("written");
    server.run("t", json!({}));
    assert_signed(&receiver.heard(1)[0], SECRET);
    let both = format!("{SECRET}\na newer one\n");
    write(&both);
    server.run("t", json!({}));
    let call = receiver.heard(2).remove(1);
    assert_signed(&call, &both);
    assert_eq!(call.header("webhook-signature").split(' ').count(), 2);
    // Without one nothing is sent unsigned: it waits until there is one.
    std::fs::remove_file(server.path().join("hook.secret")).expect("there");
    let job = id(&server.run("t", json!({})));
    wait_for("it was tried", BOUND, || delivery(&server, &job, "pending")["tries"] != 0);
    assert!(
        delivery(&server, &job, "pending")["last_error"]
            .as_str()
            .is_some_and(|why| why.contains("no secret"))
    );
    write("a newer one\n");
    let call = receiver.heard(3).remove(2);
    assert_signed(&call, "a newer one");
}

#[test]
fn over_tls_a_receiver_must_prove_its_name() {
    let receiver = Receiver::with_tls();
    let port = receiver.address.port();
    let ca = format!("{}/tests/fixture/tls/ca.pem", env!("CARGO_MANIFEST_DIR"));
    let other =
        format!("[task.u]\n{COMMAND}\nmax_running = 1\ncallback = {{ url = \"https://127.0.0.1:{port}/\" }}");
    let server = setup(&format!("https://localhost:{port}/done"), &other).env("SSL_CERT_FILE", &ca).start();
    let job = id(&server.run("t", json!({})));
    let call = receiver.heard(1).remove(0);
    assert_eq!((call.job(), call.path.as_str()), (job.clone(), "/done"));
    assert_signed(&call, SECRET);
    delivery(&server, &job, "delivered");
    // Its certificate names no address.
    let job = id(&server.run("u", json!({})));
    wait_for("it was tried", BOUND, || delivery(&server, &job, "pending")["tries"] != 0);
    let why = delivery(&server, &job, "pending")["last_error"].clone();
    assert!(why.as_str().is_some_and(|why| why.contains("no TLS with 127.0.0.1")), "{why}");
    assert_eq!(receiver.calls().len(), 1);
}

/// The block of this language in the page about callbacks that holds this text.
fn documented(language: &str, text: &str) -> String {
    let path = format!("{}/../../docs/callbacks.md", env!("CARGO_MANIFEST_DIR"));
    let page = std::fs::read_to_string(path).expect("docs/callbacks.md");
    let mut blocks = page.split("```").skip(1).step_by(2).filter_map(|block| block.strip_prefix(language));
    blocks.find(|block| block.contains(text)).expect("the block").to_owned()
}

#[test]
fn the_documented_config_and_receiver_agree() {
    let receiver = Receiver::start();
    let config = documented("toml", "[task.report]");
    let server = Setup::new(&config.replace("127.0.0.1:9000", &receiver.address.to_string()))
        .file("hook.secret", SECRET)
        .start();
    let job = id(&server.run("report", json!({"code": 3})));
    let call = receiver.heard(1).remove(0);
    assert_eq!(call.job(), job);
    let told = wait_for_some("it was followed", BOUND, || {
        deliveries(&server, &format!("job={job}")).into_iter().find(|one| !one["then_job"].is_null())
    });
    let followed = server.over(told["then_job"].as_str().expect("an id"));
    assert_eq!(followed["result"]["id"], job);

    let script = format!(
        "{}\nimport json, sys\nsecret, headers = sys.argv[1], json.loads(sys.argv[2])\n\
         body = sys.stdin.buffer.read()\n\
         print(is_ours(secret, headers, body), is_ours(secret, headers, body + b' '))",
        documented("python", "def is_ours")
    );
    let headers: std::collections::BTreeMap<_, _> = call.headers.iter().cloned().collect();
    let mut python = command("python3");
    python.args(["-c", &script, SECRET, &json!(headers).to_string()]);
    python.stdin(std::process::Stdio::piped()).stdout(std::process::Stdio::piped());
    let mut python = python.spawn().expect("python3");
    std::io::Write::write_all(&mut python.stdin.take().expect("a pipe"), &call.body).expect("it reads");
    let said = python.wait_with_output().expect("it ends");
    assert_eq!(String::from_utf8_lossy(&said.stdout), "True False\n");
}

#[test]
fn pages_and_refusals_of_deliveries() {
    let receiver = Receiver::start();
    let server = setup(&receiver.url("/"), "").start();
    let mut jobs: Vec<String> = (0..5).map(|_| id(&server.run("t", json!({})))).collect();
    jobs.reverse();
    let mut seen = Vec::new();
    let mut cursor = String::new();
    loop {
        let page = server.get(&format!("/v1/deliveries?limit=2{cursor}")).expect(200).json();
        seen.extend(page["items"].as_array().expect("items").iter().map(|one| one["job"].clone()));
        match page["next_cursor"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => break,
        }
    }
    assert_eq!(seen, jobs);
    for (target, code) in [
        ("/v1/deliveries?state=lost", "invalid_query"),
        ("/v1/deliveries?job=x", "invalid_query"),
        ("/v1/deliveries?limit=0", "invalid_query"),
        ("/v1/deliveries?cursor=x", "invalid_cursor"),
    ] {
        assert_eq!(server.get(target).problem(), (400, code.into()), "{target}");
    }
    for unknown in ["x", &jobs[0], &format!("{}_1", jobs[0]), "00000000-0000-7000-8000-000000000000_0"] {
        let answer = server.post(&format!("/v1/deliveries/{unknown}/repeat"));
        assert_eq!(answer.problem(), (404, "unknown_delivery".into()), "{unknown}");
    }
    // What was delivered may be wanted once more, under the same id.
    let repeated = server.post(&format!("/v1/deliveries/{}_0/repeat", jobs[0])).expect(202).json();
    assert_eq!((&repeated["state"], &repeated["tries"]), (&json!("pending"), &json!(0)));
    let calls = receiver.heard(6);
    let of_it: Vec<&str> =
        calls.iter().filter(|call| call.job() == jobs[0]).map(|call| call.header("webhook-id")).collect();
    let name = format!("msg_{}_0", jobs[0]);
    assert_eq!(of_it, [&name, &name]);
    // A job that is removed takes what is to follow along.
    server.send(&Request::new("DELETE", format!("/v1/jobs/{}", jobs[0]))).expect(204);
    assert_eq!(deliveries(&server, "").len(), 4);
}

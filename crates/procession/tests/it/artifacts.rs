//! Files a job leaves: listed, read whole or in part, and never a way to other files.

use std::fs;

use serde_json::{Value, json};

use crate::harness::{Request, Server, sha256};

const TASKS: &str = r#"
[task.t]
command = ["sh", "-c", '''
cd "$PROCESSION_ARTIFACTS"
printf 0123456789 > digits.txt
printf '<script>alert(1)</script>' > page.html
mkdir -p sub/deeper
head -c 300000 /dev/zero | tr "\\0" x > sub/deeper/large.bin
printf a > 'a b é.txt'
''']
[task.tricks]
command = ["sh", "-c", '''
cd "$PROCESSION_ARTIFACTS"
ln -s /etc/passwd link
ln -s "$PROCESSION_DIR/../../token" token
ln -s / root
mkfifo pipe
ln /etc/hostname hard 2>/dev/null || true
printf fine > fine
''']
[task.none]
command = ["true"]
[task.fails]
command = ["sh", "-c", 'echo kept > "$PROCESSION_ARTIFACTS/log"; exit 9']
"#;

fn listed(server: &Server, id: &str) -> Vec<(String, u64)> {
    let list = server.get(&format!("/v1/jobs/{id}/artifacts")).expect(200).json();
    let one = |item: &Value| {
        (item["name"].as_str().expect("a name").into(), item["size"].as_u64().expect("a size"))
    };
    let mut items: Vec<(String, u64)> = list["items"].as_array().expect("items").iter().map(one).collect();
    items.sort();
    items
}

#[test]
fn files_in_folders_are_listed_and_read() {
    let server = Server::start(TASKS);
    let job = server.run("t", Value::Null);
    let id = job["id"].as_str().expect("an id");
    let expected =
        [("a b é.txt", 1), ("digits.txt", 10), ("page.html", 25), ("sub/deeper/large.bin", 300_000)];
    assert_eq!(listed(&server, id), expected.map(|(name, size)| (name.to_owned(), size)));
    let get = |name: &str| server.get(&format!("/v1/jobs/{id}/artifacts/{name}")).expect(200);
    assert_eq!(get("digits.txt").body, b"0123456789");
    assert_eq!(sha256(&get("sub/deeper/large.bin").body), sha256(&[b'x'; 300_000]));
    assert_eq!(get("a%20b%20%C3%A9.txt").body, b"a");
    let page = get("page.html");
    assert!(page.header("content-disposition").is_some_and(|value| value.starts_with("attachment")));
    assert!(page.header("content-security-policy").is_some_and(|value| value.starts_with("sandbox")));
    assert!(!server.data().join("scratch/0/artifacts/digits.txt").exists(), "moved, not left behind");
}

#[test]
fn a_part_of_a_file_can_be_read() {
    let server = Server::start(TASKS);
    let job = server.run("t", Value::Null);
    let path = format!("/v1/jobs/{}/artifacts/digits.txt", job["id"].as_str().expect("an id"));
    let ask = |range: &str| server.send(&Request::get(path.as_str()).header("Range", range));
    let part = ask("bytes=2-4").expect(206);
    assert_eq!((part.text(), part.header("content-range")), ("234", Some("bytes 2-4/10")));
    assert_eq!(ask("bytes=-3").expect(206).text(), "789");
    assert_eq!(ask("bytes=10-").problem(), (416, "range_not_satisfiable".into()));
}

#[test]
fn links_and_pipes_are_no_artifacts() {
    let server = Server::start(TASKS);
    let job = server.run("tricks", Value::Null);
    let id = job["id"].as_str().expect("an id");
    assert_eq!(listed(&server, id), [("fine".to_owned(), 4)]);
    for name in ["link", "token", "root/etc/passwd", "pipe", "hard", "../stdout", "sub", ""] {
        let answer = server.get(&format!("/v1/jobs/{id}/artifacts/{name}"));
        assert_eq!(answer.problem().0, 404, "{name}");
    }
}

#[test]
fn a_file_that_became_a_link_later_is_not_followed() {
    let server = Server::start(TASKS);
    let job = server.run("t", Value::Null);
    let id = job["id"].as_str().expect("an id");
    let file = server.data().join("jobs").join(id).join("1/artifacts/digits.txt");
    fs::remove_file(&file).expect("there");
    std::os::unix::fs::symlink("/etc/passwd", &file).expect("made");
    assert_eq!(server.get(&format!("/v1/jobs/{id}/artifacts/digits.txt")).problem().0, 404);
}

#[test]
fn a_job_may_leave_none_and_a_failed_one_some() {
    let server = Server::start(TASKS);
    let none = server.run("none", Value::Null);
    assert!(listed(&server, none["id"].as_str().expect("an id")).is_empty());
    let failed = server.run("fails", Value::Null);
    assert_eq!(failed["exit_code"], json!(9));
    let id = failed["id"].as_str().expect("an id");
    assert_eq!(server.get(&format!("/v1/jobs/{id}/artifacts/log")).expect(200).body, b"kept\n");
}

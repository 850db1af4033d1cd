//! Commands and what a client could make of them.

use super::*;

fn judge(argv: &[&str], dashes: bool) -> Option<Exposed> {
    let templates: Vec<Template> =
        argv.iter().map(|text| Template::parse(text).expect("a template")).collect();
    exposed(&templates.iter().collect::<Vec<_>>(), dashes)
}

fn kind(exposed: Option<Exposed>) -> (&'static str, usize) {
    match exposed {
        None => ("fine", 0),
        Some(Exposed::Program(element)) => ("program", element),
        Some(Exposed::Variable { element, .. }) => ("variable", element),
        Some(Exposed::Script { element, .. }) => ("script", element),
        Some(Exposed::File { element, .. }) => ("file", element),
        Some(Exposed::Option { element, .. }) => ("option", element),
        Some(Exposed::Stdin { element, .. }) => ("stdin", element),
    }
}

const X: &str = "{{payload.x}}";

#[test]
fn a_clients_text_in_a_script_is_seen() {
    let cases: &[(&[&str], usize)] = &[
        (&["sh", "-c", "echo {{payload.x}}"], 2),
        (&["/bin/bash", "-c", X], 2),
        (&["bash", "-ec", X], 2),
        (&["bash", "-cX", X], 2),
        (&["bash", "-c", "-e", X], 3),
        (&["bash", "-euo", "pipefail", "-c", X], 4),
        (&["bash", "-ceuo", "pipefail", X], 3),
        (&["bash", "+x", "--rcfile", "f", "--norc", "-c", X], 6),
        (&["sh", "-c", "--", X], 3),
        (&["sh", "-c", "-", X], 3),
        (&["zsh", "-o", "nomatch", "-c", X], 4),
        (&["dash", "-c", "{{header.x}}"], 2),
        (&["sh", "-c", "echo {{query.x:-fast}}", "sh"], 2),
        (&["sh", "-c", X, "sh", X], 2),
        (&["python3", "-c", X], 2),
        (&["python3.12", "-c{{payload.x}}"], 1),
        (&["/opt/venv/bin/python", "-I", "-W", "ignore", "-uc", X], 5),
        (&["python", "-Werror", "-X", "dev", "-c", X], 5),
        (&["python3", "-m", X], 2),
        (&["pypy3", "-c", X], 2),
        (&["perl", "-e", X], 2),
        (&["perl", "-lane", X], 2),
        (&["perl", "-0777", "-i.bak", "-MData::Dumper", "-pe", X], 5),
        (&["perl", "-e", "1;", "-e", X], 4),
        (&["perl5.36", "-E", X], 2),
        (&["ruby", "-ne", X], 2),
        (&["ruby", "-r", "json", "-e", X], 4),
        (&["node", "-e", X], 2),
        (&["node", "-pe", X], 2),
        (&["node", "--eval", X], 2),
        (&["node", "--eval={{payload.x}}"], 1),
        (&["node", "--require", "./a.js", "--print", X], 4),
        (&["nodejs", "--no-warnings", "-p", X], 3),
        (&["php", "-r", X], 2),
        (&["lua5.4", "-e", X], 2),
        (&["env", "sh", "-c", X], 3),
        (&["/usr/bin/env", "-i", "A=b", "-u", "HOME", "sh", "-c", X], 7),
        (&["env", "-S", "sh -c", X], 3),
        (&["env", "-S", "sh -c {{payload.x}}"], 2),
        (&["env", "--split-string=sh -ec", X], 2),
        (&["env", "-vS", "python3 -c", X], 3),
        (&["nice", "-n", "10", "timeout", "-k", "5s", "10s", "sh", "-c", X], 9),
        (&["stdbuf", "-oL", "env", "A={{query.a}}", "sh", "-c", X], 6),
        (&["env", "-uSHELL", "sh", "-c", X], 4),
        (&["busybox", "sh", "-c", X], 3),
        (&["docker", "run", "--rm", "image", "bash", "-lc", X], 6),
        (&["ssh", "host", "python3", "-c", X], 4),
    ];
    for (argv, element) in cases {
        assert_eq!(kind(judge(argv, false)), ("script", *element), "{argv:?}");
    }
}

#[test]
fn other_ways_to_choose_what_runs_are_seen() {
    let cases: &[(&[&str], &str, usize)] = &[
        (&["sh", X], "file", 1),
        (&["sh", "-e", "/opt/{{payload.x}}.sh"], "file", 2),
        (&["python3", "{{payload_file}}"], "file", 1),
        (&["python3", "{{query.script:-a.py}}"], "file", 1),
        (&["node", "--trace-warnings", "--", X], "file", 3),
        (&["node", "-r", X, "app.js"], "option", 2),
        (&["node", "--require={{payload.x}}", "app.js"], "option", 1),
        (&["python3", "-W", X, "app.py"], "option", 2),
        (&["perl", "-M{{payload.x}}", "app.pl"], "option", 1),
        (&["sh"], "stdin", 0),
        (&["sh", "-s"], "stdin", 0),
        (&["bash", "-ex"], "stdin", 0),
        (&["python3", "-u", "-"], "stdin", 2),
        (&["python3", "/dev/stdin"], "stdin", 1),
        (&["env", "python3"], "stdin", 1),
        (&["env", X], "program", 1),
        (&["env", "A=b", X, "sh"], "program", 2),
        (&["nice", "-n", "5", X], "program", 3),
        (&["setsid", "-w", X], "program", 2),
        (&["{{payload.x}}", "a"], "program", 0),
        (&["env", "{{payload_file}}"], "program", 1),
        (&["env", "LD_PRELOAD={{payload.x}}", "prog"], "variable", 1),
        (&["timeout", "10s", "/opt/{{payload.x}}"], "program", 2),
    ];
    for (argv, expected, element) in cases {
        assert_eq!(kind(judge(argv, false)), (*expected, *element), "{argv:?}");
    }
}

#[test]
fn what_a_client_cannot_run_is_fine() {
    let cases: &[&[&str]] = &[
        &[],
        &["true", X],
        &["sh", "-c", "exit \"$1\"", "sh", X],
        &["sh", "-c", "cat {{payload_file}} > {{job.result}}"],
        &["bash", "-ec", "exec \"$@\" --flag", "bash", "prog", X],
        &["bash", "script.sh", "-c", X],
        &["python3", "process.py", "--data", X],
        &["python3", "process.py", "-c", X],
        &["python3", "-m", "package.tool", "-c", X],
        &["python3", "-c", "import sys; print(sys.argv)", X, "-c", X],
        &["python3", "--version"],
        &["python3", "-V"],
        &["perl", "-e", "print @ARGV", "--", X],
        &["perl", "-MData::Dumper", "script.pl", "-e", X],
        &["perl", "-i.e", "script.pl", X],
        &["node", "-e", "console.log(process.argv)", X],
        &["node", "app.js", "--eval", X],
        &["env", "A={{payload.x}}", "python3", "process.py", X],
        &["env", "-S", "python3 -u", "process.py", X],
        &["timeout", "{{query.seconds:-5}}", "prog", "-c", "x"],
        &["nice", "-n", X, "prog", X],
        &["sudo", "-u", "nobody", "A={{payload.x}}", "prog", X],
        &["docker", "run", "--rm", "image", "process.py", "-c", X],
        &["grep", "sh", "-c", X],
        &["ffmpeg", "-i", X],
        &["{{job.dir}}/prog", "-c", X],
    ];
    for argv in cases {
        assert_eq!(kind(judge(argv, false)), ("fine", 0), "{argv:?}");
    }
}

#[test]
fn where_a_value_may_begin_with_a_dash_it_may_be_an_option() {
    let cases: &[(&[&str], &str, usize)] = &[
        (&["sh", X, "a"], "option", 1),
        (&["perl", "-e", "print @ARGV", X], "option", 3),
        (&["perl", "-e", "print @ARGV", "--", X], "fine", 0),
        (&["node", "-e", "1", X], "option", 3),
        (&["python3", "-c", "import sys", X], "fine", 0),
        (&["python3", "process.py", X], "fine", 0),
        (&["sh", "-c", "exit \"$1\"", "sh", X], "fine", 0),
    ];
    for (argv, expected, element) in cases {
        assert_eq!(kind(judge(argv, true)), (*expected, *element), "{argv:?}");
    }
}

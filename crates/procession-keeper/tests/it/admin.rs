//! The control socket: what the operator asks the keeper itself, whoever else knocks, and a
//! keeper that is left alone with its jobs.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::time::{Duration, Instant};

use procession_core::frame::admin::{Answer, Ask, Attach, Status};
use procession_core::frame::{Decoder, Message, Shutdown, ToKeeper, ToServer, VERSION};
use procession_core::launch::Launch;
use procession_core::outcome::{CancelledBy, WaitStatus};
use procession_core::record::{Containment, Ending, ExitRecord};
use procession_keeper::{AskError, Conversation, ask};
use rustix::process::Signal;

use crate::keeper::{BOUND, Keeper, LEVELS, Server, wait_for};
use crate::renew::execution;

fn asked(keeper: &Keeper, question: &Ask) -> Answer {
    ask(&keeper.path(""), question, BOUND).expect("an answer")
}

fn status(keeper: &Keeper) -> Status {
    match asked(keeper, &Ask::Status) {
        Answer::Status(status) => status,
        other => panic!("{other:?}"),
    }
}

fn knock(keeper: &Keeper) -> UnixStream {
    UnixStream::connect(keeper.path("control")).expect("somebody listens")
}

fn address(server: &Server) -> String {
    String::from_utf8(server.hello.listeners[0].to_vec()).expect("text")
}

#[test]
fn it_says_how_it_is() {
    let (mut keeper, mut server) = Keeper::start(Containment::Cgroup);
    let launch = keeper.launch(&["sleep"]);
    server.spawn(&launch);
    server.started(launch.key);
    let over = keeper.launch(&["exit", "3"]);
    server.spawn(&over);
    server.exited(over.key);
    let said = status(&keeper);
    assert_eq!((said.keeper_pid, said.server_pid), (keeper.pid(), server.pid));
    assert_eq!((said.running, said.unrecorded, said.generation), (1, 1, 1));
    assert!(said.ready && !said.stopping && !said.alone, "{said:?}");
    server.kill();
    let link = keeper.next_link();
    let said = status(&keeper);
    assert!(!said.ready, "{said:?}");
    assert_eq!((said.running, said.unrecorded, said.generation), (1, 1, 2));
    link.kill();
}

#[test]
fn f45_who_never_asks_asks_garbage_or_comes_a_thousand_times_holds_up_nobody() {
    let (keeper, mut server) = Keeper::start(Containment::Cgroup);
    let silent: Vec<UnixStream> = (0..40).map(|_| knock(&keeper)).collect();
    for garbage in [&b"GET / HTTP/1.1\r\n\r\n"[..], &[0xff; 4096], &[0; 64], &[9, 0, 0, 0, 4, 1, 2]] {
        let mut asker = knock(&keeper);
        // It may hang up before all is written.
        let _ = asker.write_all(garbage);
        let began = Instant::now();
        let launch = keeper.launch(&["exit", "4"]);
        assert!(matches!(server.run(&launch).ending, Ending::Ended { .. }));
        assert!(began.elapsed() < Duration::from_secs(3), "{:?}", began.elapsed());
    }
    for round in 0..1000 {
        drop(knock(&keeper));
        if round % 100 == 0 {
            assert_eq!(status(&keeper).keeper_pid, keeper.pid());
        }
    }
    // Those who were silent made room for who came later.
    let gone = silent.iter().filter(|stream| {
        stream.set_nonblocking(true).expect("set");
        matches!((&mut &**stream).read(&mut [0; 1]), Ok(0))
    });
    assert!(gone.count() >= 24, "at most 16 at once");
    let used = keeper.processor_time();
    assert!(used < Duration::from_secs(5), "{used:?}");
}

#[test]
fn f45_who_never_asks_is_sent_away() {
    let (keeper, _server) = Keeper::start(Containment::Monitor);
    let mut silent = knock(&keeper);
    silent.set_read_timeout(Some(BOUND)).expect("set");
    let began = Instant::now();
    assert_eq!(silent.read(&mut [0; 1]).expect("a hang-up"), 0);
    assert!(began.elapsed() > Duration::from_secs(4), "{:?}", began.elapsed());
}

#[test]
fn f45_another_user_is_not_heard() {
    let (keeper, _server) = Keeper::start(Containment::Monitor);
    keeper.open_to_all();
    let path = keeper.path("control");
    assert_eq!(path.metadata().expect("there").permissions().mode() & 0o777, 0o600);
    std::fs::set_permissions(&path, PermissionsExt::from_mode(0o666)).expect("ours");
    let knock = |uid: u32| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_hostile"));
        let said = command.args(["ask-status"]).arg(&path).uid(uid).output().expect("it runs");
        assert!(said.status.success(), "{said:?}");
        String::from_utf8(said.stdout).expect("a number").trim().parse::<usize>().expect("a number")
    };
    assert_eq!(knock(65534), 0, "closed, and nothing said");
    assert!(knock(0) > 20, "root is heard");
}

#[test]
fn f45_a_socket_that_a_killed_keeper_left_behind_is_replaced() {
    let (keeper, server) = Keeper::start(Containment::Cgroup);
    keeper.signal(Signal::KILL);
    server.kill();
    wait_for("nobody listens", || {
        matches!(ask(&keeper.path(""), &Ask::Status, BOUND), Err(AskError::Nobody)).then_some(())
    });
    assert!(keeper.path("control").exists());
    let (keeper, _server) = keeper.successor();
    assert_eq!(status(&keeper).keeper_pid, keeper.pid());
}

#[test]
fn a_stop_says_how_and_however_often_it_is_asked_for_it_is_one() {
    let (mut keeper, mut server) = Keeper::start(Containment::Cgroup);
    let wish = Shutdown { now: false, timeout: Some(Duration::from_secs(7)), keep_jobs: false };
    for _ in 0..2 {
        assert_eq!(asked(&keeper, &Ask::Stop(wish)), Answer::Done);
        let heard = server.hear("SHUTDOWN", |message| match message {
            ToServer::Shutdown(shutdown) => Some(*shutdown),
            _ => None,
        });
        assert_eq!(heard, wish);
    }
    let now = Shutdown { now: true, ..wish };
    assert_eq!(asked(&keeper, &Ask::Stop(now)), Answer::Done);
    server.hear("SHUTDOWN now", |message| (*message == ToServer::Shutdown(now)).then_some(()));
    assert!(status(&keeper).stopping);
    server.goodbye(4);
    assert_eq!(keeper.wait().code(), Some(4));
    assert!(!keeper.path("control").exists(), "nobody waits for a keeper that has ended");
}

/// Asks for a reload; returns once that is heard.
fn ask_reload(keeper: &Keeper, binary: bool, force: bool) -> UnixStream {
    let mut stream = knock(keeper);
    let mut question = vec![];
    Ask::Reload { binary, force }.encode(&mut question);
    stream.write_all(&question).expect("somebody listens");
    // Whoever asks later is not answered sooner, but may be in the same turn.
    status(keeper);
    status(keeper);
    stream
}

/// What is said to that in the end.
fn told(mut stream: UnixStream) -> Answer {
    stream.set_read_timeout(Some(BOUND)).expect("set");
    let mut bytes = vec![];
    stream.read_to_end(&mut bytes).expect("an answer");
    let mut decoder = Decoder::<Answer>::default();
    decoder.feed(&bytes);
    decoder.next().expect("well formed").expect("whole")
}

/// Takes over from the server that serves; the keeper is executed anew if that was wished for.
fn take_over(old: &mut Server, mut standby: Server) -> Server {
    standby.say(&ToKeeper::Prepared);
    old.hear("RETIRE", |message| (*message == ToServer::Retire).then_some(()));
    old.say(&ToKeeper::Retired);
    standby.hear("PROCEED", |message| (*message == ToServer::Proceed).then_some(()));
    standby.say(&ToKeeper::Ready { version: VERSION });
    if standby.hello.renew {
        standby.say(&ToKeeper::Renew);
    }
    standby
}

#[test]
fn f38_reloads_asked_for_during_another_are_one_afterwards_across_a_renewal_too() {
    let (mut keeper, mut old) = Keeper::start(Containment::Monitor);
    let first = ask_reload(&keeper, true, false);
    let standby = keeper.next_standby();
    let others = [ask_reload(&keeper, false, true), ask_reload(&keeper, false, false)];
    let mut second = take_over(&mut old, standby);
    assert_eq!(told(first), Answer::Done);
    let third = keeper.next_standby();
    assert!(third.hello.force && !third.hello.renew, "what any of them asked for");
    take_over(&mut second, third).run(&keeper.launch(&["exit", "0"]));
    for other in others {
        assert_eq!(told(other), Answer::Done);
    }
    assert!(keeper.no_server_waits(), "both were the same one");
}

#[test]
fn f40_who_waits_for_a_reload_that_an_end_overtakes_is_told() {
    let (mut keeper, mut server) = Keeper::start(Containment::Monitor);
    let first = ask_reload(&keeper, false, false);
    let standby = keeper.next_standby();
    let other = ask_reload(&keeper, false, false);
    keeper.signal(Signal::TERM);
    for asked in [first, other] {
        assert!(matches!(told(asked), Answer::Failed { .. }));
    }
    server.hear("SHUTDOWN", |message| matches!(message, ToServer::Shutdown(_)).then_some(()));
    server.goodbye(0);
    assert_eq!(keeper.wait().code(), Some(0));
    drop(standby);
}

/// Left alone by its server with a job that sleeps.
fn alone(level: Containment) -> (Keeper, procession_core::launch::Launch) {
    let (keeper, mut server) = Keeper::start(level);
    let launch = keeper.launch(&["say-and-sleep", "here"]);
    server.spawn(&launch);
    server.started(launch.key);
    let before = address(&server);
    assert!(TcpStream::connect(&before).is_ok());
    let keep = Shutdown { keep_jobs: true, ..Shutdown::default() };
    assert_eq!(asked(&keeper, &Ask::Stop(keep)), Answer::Done);
    drop(std::mem::take(&mut server.listeners));
    server.goodbye(0);
    wait_for("it is alone", || status(&keeper).alone.then_some(()));
    assert!(TcpStream::connect(&before).is_err(), "the doors are closed");
    (keeper, launch)
}

/// Brings a server with these arguments; its answer comes once that is ready.
fn attach(keeper: &Keeper, args: &[&str]) -> std::thread::JoinHandle<(Conversation, Answer, String)> {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let name = listener.local_addr().expect("bound").to_string();
    let rendezvous = keeper.path("rendezvous").display().to_string();
    let args = args.iter().map(|arg| if *arg == "RENDEZVOUS" { &rendezvous } else { *arg });
    let attach = Attach {
        program: env!("CARGO_BIN_EXE_keeper-host").into(),
        args: args.map(|arg| arg.to_owned().into()).collect(),
        env: vec!["BROUGHT=1".into()],
        listeners: vec![name.clone().into()],
    };
    let folder = keeper.path("");
    std::thread::spawn(move || {
        let listeners = [OwnedFd::from(listener)];
        let (stdout, stderr) = (std::io::stdout(), std::io::stderr());
        let output = [stdout.as_fd(), stderr.as_fd()];
        let (conversation, answer) =
            Conversation::attach(&folder, attach, &listeners, output, BOUND).expect("an answer");
        (conversation, answer, name)
    })
}

/// Ends what runs, then the server; who brought it is told.
#[track_caller]
fn end(mut server: Server, launch: &Launch, conversation: &mut Conversation) -> ExitRecord {
    server.say(&ToKeeper::Stop { key: launch.key, by: CancelledBy::Client, now: false });
    let record = server.exited(launch.key);
    server.say(&ToKeeper::Ack { key: launch.key });
    server.goodbye(9);
    assert_eq!(conversation.next(BOUND).expect("a last word"), Answer::Ended { status: 9 });
    record
}

#[test]
fn a_keeper_left_alone_keeps_what_runs_and_takes_a_server_again() {
    for level in LEVELS {
        let (mut keeper, launch) = alone(level);
        let attached = attach(&keeper, &["server", "RENDEZVOUS"]);
        let mut server = keeper.next_server();
        let (mut conversation, answer, name) = attached.join().expect("no panic");
        assert_eq!(answer, Answer::Done);
        assert_eq!((server.hello.generation, address(&server)), (2, name.clone()));
        assert!(TcpStream::connect(name).is_ok());
        let environment = std::fs::read(format!("/proc/{}/environ", server.pid)).expect("readable");
        let variables: Vec<_> = environment.split(|byte| *byte == 0).filter(|v| !v.is_empty()).collect();
        assert_eq!(variables, [&b"BROUGHT=1"[..], b"PROCESSION_CONTROL_FD=3"]);
        let (running, over) = server.list();
        assert_eq!((running.len(), over.len()), (1, 0));
        assert_eq!(running[0].key, launch.key);
        assert!(!status(&keeper).alone);
        let record = end(server, &launch, &mut conversation);
        assert_eq!(&record.stdout.tail[..], b"here\n");
        assert_eq!(keeper.wait().code(), Some(9));
    }
}

#[test]
fn f05_who_brings_a_server_is_told_when_it_is_ready_however_early_it_asked_for_a_renewal() {
    let (mut keeper, launch) = alone(Containment::Cgroup);
    let attached = attach(&keeper, &["server", "RENDEZVOUS"]);
    let mut server = keeper.next_standby();
    let before = execution(&keeper);
    server.say(&ToKeeper::Renew);
    // Answered behind what the server said before.
    assert!(!status(&keeper).ready);
    server.say(&ToKeeper::Ready { version: VERSION });
    let (mut conversation, answer, _) = attached.join().expect("no panic");
    assert_eq!(answer, Answer::Done);
    server.list();
    assert_ne!(execution(&keeper), before, "it is the old program still");
    end(server, &launch, &mut conversation);
}

#[test]
fn f06_a_brought_server_that_dies_before_it_is_ready_renews_nothing() {
    let (mut keeper, launch) = alone(Containment::Cgroup);
    let attached = attach(&keeper, &["server", "RENDEZVOUS"]);
    let mut server = keeper.next_standby();
    let before = execution(&keeper);
    server.say(&ToKeeper::Renew);
    assert!(!status(&keeper).ready);
    server.kill();
    let (_, answer, _) = attached.join().expect("no panic");
    assert!(matches!(answer, Answer::Failed { .. }), "{answer:?}");
    assert!(status(&keeper).alone);
    assert_eq!(execution(&keeper), before);
    let attached = attach(&keeper, &["server", "RENDEZVOUS"]);
    let mut server = keeper.next_server();
    assert_eq!(attached.join().expect("no panic").1, Answer::Done);
    assert_eq!(server.list().0[0].key, launch.key);
}

#[test]
fn a_server_that_dies_at_its_start_leaves_the_keeper_as_it_was() {
    let (mut keeper, launch) = alone(Containment::Cgroup);
    for _ in 0..2 {
        let (_, answer, _) = attach(&keeper, &["die", "5"]).join().expect("no panic");
        let Answer::Failed { message } = answer else { panic!("{answer:?}") };
        assert!(message.contains("exited with 5"), "{message}");
        let said = status(&keeper);
        assert!(said.alone, "{said:?}");
        assert_eq!(said.running, 1);
    }
    // What ends while it is alone is in the journal for the next keeper.
    keeper.signal(Signal::TERM);
    assert_eq!(keeper.wait().code(), Some(0));
    let (_keeper, mut server) = keeper.successor();
    let (_, over) = server.list();
    assert_eq!(over.len(), 1);
    assert_eq!(over[0].key, launch.key);
    let Ending::Ended { wait_status, .. } = over[0].ending else { panic!("{:?}", over[0]) };
    assert_eq!(WaitStatus(wait_status).signal(), Some(15));
}

#[test]
fn who_is_not_alone_takes_no_server() {
    let (keeper, _server) = Keeper::start(Containment::Monitor);
    let (_, answer, _) = attach(&keeper, &["die", "5"]).join().expect("no panic");
    assert!(matches!(answer, Answer::Failed { .. }), "{answer:?}");
    assert!(status(&keeper).ready);
}

#[test]
fn jobs_are_kept_also_where_no_server_is_there_to_be_asked() {
    let (mut keeper, mut server) = Keeper::start(Containment::Cgroup);
    let launch = keeper.launch(&["sleep"]);
    server.spawn(&launch);
    server.started(launch.key);
    server.kill();
    let _link = keeper.next_link();
    let keep = Shutdown { keep_jobs: true, ..Shutdown::default() };
    assert_eq!(asked(&keeper, &Ask::Stop(keep)), Answer::Done);
    wait_for("it is alone", || status(&keeper).alone.then_some(()));
    assert_eq!(status(&keeper).running, 1);
}

//! What was written is read; what was not is refused, never feared.

use std::time::Duration;

use bytes::Bytes;
use proptest::prelude::*;

use super::admin::{Answer, Ask, Attach, Status};
use super::journal::{Entry, read};
use super::*;
use crate::id::{Fence, JobId};
use crate::launch::{Credentials, OutputMode, OutputPlan, ResourceLimit, Stdin};
use crate::record::{Ending, OutputPlace, Phase, StopCause, StreamRecord, Usage};
use crate::recovery::Claimant;

fn bytes() -> impl Strategy<Value = Bytes> {
    prop::collection::vec(any::<u8>(), 0..20).prop_map(Bytes::from)
}

fn key() -> impl Strategy<Value = AttemptKey> {
    (any::<[u8; 16]>(), any::<u64>())
        .prop_map(|(job, fence)| AttemptKey { job: JobId::from_bytes(job), fence: Fence(fence) })
}

fn containment() -> impl Strategy<Value = Containment> {
    prop_oneof![Just(Containment::Cgroup), Just(Containment::Monitor)]
}

fn by() -> impl Strategy<Value = CancelledBy> {
    use CancelledBy::*;
    prop::sample::select(vec![Client, Parent, Replaced, Expired, Shutdown, TaskRemoved])
}

fn started() -> impl Strategy<Value = Started> {
    (key(), any::<(u32, u64, i64)>(), containment(), bytes()).prop_map(
        |(key, (pid, start_ticks, started_us), containment, cookie)| Started {
            key,
            pid,
            start_ticks,
            started_us,
            containment,
            cookie,
        },
    )
}

fn ending() -> impl Strategy<Value = Ending> {
    let cause = prop_oneof![
        any::<u64>().prop_map(|limit_ms| StopCause::Deadline { limit_ms }),
        by().prop_map(|by| StopCause::Cancelled { by }),
    ];
    prop_oneof![
        Just(Ending::Vanished),
        (prop::sample::select(Phase::ALL.to_vec()), any::<i32>(), ".*")
            .prop_map(|(phase, errno, message)| Ending::NotStarted { phase, errno, message }),
        (any::<i32>(), prop::option::of(cause))
            .prop_map(|(wait_status, stopped)| Ending::Ended { wait_status, stopped }),
    ]
}

fn stream() -> impl Strategy<Value = StreamRecord> {
    let place = prop_oneof![Just(OutputPlace::Inline), Just(OutputPlace::File)];
    (any::<(u64, u64)>(), place, bytes()).prop_map(|((total, written), place, tail)| StreamRecord {
        total,
        written,
        place,
        tail,
    })
}

fn record() -> impl Strategy<Value = ExitRecord> {
    let numbers = any::<(i64, i64, u64, u32, [u64; 3])>();
    (key(), ending(), numbers, stream(), stream(), containment(), bytes()).prop_map(
        |(
            key,
            ending,
            (started_us, finished_us, run_us, leaked, used),
            stdout,
            stderr,
            containment,
            cookie,
        )| {
            let [user_us, system_us, max_rss_bytes] = used;
            let usage = Usage { user_us, system_us, max_rss_bytes };
            ExitRecord {
                key,
                ending,
                started_us,
                finished_us,
                run_us,
                usage,
                leaked,
                stdout,
                stderr,
                containment,
                cookie,
            }
        },
    )
}

fn launch() -> impl Strategy<Value = Launch> {
    let stdin =
        prop_oneof![Just(Stdin::Null), bytes().prop_map(Stdin::Bytes), bytes().prop_map(Stdin::File),];
    let mode = prop::sample::select(vec![OutputMode::Separate, OutputMode::Merged, OutputMode::File]);
    let output = (mode, any::<u64>(), bytes(), bytes())
        .prop_map(|(mode, limit, stdout, stderr)| OutputPlan { mode, limit, stdout, stderr });
    let credentials = (any::<(u32, u32)>(), prop::collection::vec(any::<u32>(), 0..4))
        .prop_map(|((uid, gid), groups)| Credentials { uid, gid, groups });
    let limit =
        any::<(u32, u64, u64)>().prop_map(|(resource, soft, hard)| ResourceLimit { resource, soft, hard });
    let micros = any::<u64>().prop_map(Duration::from_micros);
    let texts = || prop::collection::vec(bytes(), 0..5);
    (
        (key(), bytes(), texts(), texts(), bytes(), stdin, output),
        (prop::option::of(micros.clone()), micros, any::<bool>(), prop::option::of(credentials)),
        (prop::collection::vec(limit, 0..3), bytes()),
    )
        .prop_map(
            |(
                (key, program, argv, env, directory, stdin, output),
                (timeout, grace, leave_children, credentials),
                (rlimits, cookie),
            )| Launch {
                key,
                program,
                argv,
                env,
                directory,
                stdin,
                output,
                timeout,
                grace,
                leave_children,
                credentials,
                rlimits,
                cookie,
            },
        )
}

fn to_server() -> impl Strategy<Value = ToServer> {
    let numbers = any::<(u32, u64, [u8; 16], u32)>();
    let ways = any::<(u32, bool, bool, bool, bool, bool)>();
    let hello = (numbers, containment(), prop::collection::vec(bytes(), 0..3), ways, bytes()).prop_map(
        |((version, generation, boot_id, keeper_pid), containment, listeners, ways, cgroups)| {
            let (held, standby, renew, force, settled, managed) = ways;
            Hello {
                version,
                generation,
                boot_id,
                keeper_pid,
                containment,
                listeners,
                held,
                standby,
                renew,
                force,
                cgroups,
                settled,
                managed,
            }
        },
    );
    let held = (key(), any::<(bool, bool, i64)>(), bytes(), bytes()).prop_map(
        |(key, (stdout, stderr, started_us), cgroup, cookie)| Held {
            key,
            stdout,
            stderr,
            cgroup,
            started_us,
            cookie,
        },
    );
    let notice =
        (key(), any::<(u64, u64)>()).prop_map(|(key, (stdout, stderr))| OutputNotice { key, stdout, stderr });
    let lists =
        (prop::collection::vec(started(), 0..3), prop::collection::vec(record(), 0..3), any::<bool>());
    prop_oneof![
        hello.prop_map(ToServer::Hello),
        started().prop_map(ToServer::Started),
        notice.prop_map(ToServer::Output),
        record().prop_map(ToServer::Exited),
        lists.prop_map(|(running, over, more)| ToServer::Attempts { running, over, more }),
        shutdown().prop_map(ToServer::Shutdown),
        held.prop_map(ToServer::Held),
        prop::sample::select(vec![ToServer::Proceed, ToServer::Retire, ToServer::Ping, ToServer::ReopenLog]),
    ]
}

fn shutdown() -> impl Strategy<Value = Shutdown> {
    (any::<bool>(), prop::option::of(any::<u64>().prop_map(Duration::from_micros)), any::<bool>())
        .prop_map(|(now, timeout, keep_jobs)| Shutdown { now, timeout, keep_jobs })
}

fn to_keeper() -> impl Strategy<Value = ToKeeper> {
    prop_oneof![
        any::<u32>().prop_map(|version| ToKeeper::Ready { version }),
        launch().prop_map(|launch| ToKeeper::Spawn(Box::new(launch))),
        (key(), by(), any::<bool>()).prop_map(|(key, by, now)| ToKeeper::Stop { key, by, now }),
        key().prop_map(|key| ToKeeper::Ack { key }),
        Just(ToKeeper::List),
        any::<u8>().prop_map(|status| ToKeeper::Goodbye { status }),
        ".*".prop_map(|message| ToKeeper::Refused { message }),
        prop::sample::select(vec![
            ToKeeper::Prepared,
            ToKeeper::Retired,
            ToKeeper::Pong,
            ToKeeper::Renew,
            ToKeeper::Settled
        ]),
    ]
}

fn ask() -> impl Strategy<Value = Ask> {
    let texts = || prop::collection::vec(bytes(), 0..3);
    let attach = (bytes(), texts(), texts(), texts()).prop_map(|(program, args, env, listeners)| Attach {
        program,
        args,
        env,
        listeners,
    });
    prop_oneof![
        Just(Ask::Status),
        shutdown().prop_map(Ask::Stop),
        any::<(bool, bool)>().prop_map(|(binary, force)| Ask::Reload { binary, force }),
        attach.prop_map(Ask::Attach),
    ]
}

fn answer() -> impl Strategy<Value = Answer> {
    let numbers = any::<([u32; 5], u64, i64)>();
    let status =
        (numbers, any::<[bool; 3]>(), ".*", ".*").prop_map(|(numbers, flags, release, reload_error)| {
            let ([version, keeper_pid, server_pid, running, unrecorded], generation, reloaded_us) = numbers;
            let [ready, stopping, alone] = flags;
            Status {
                version,
                release,
                keeper_pid,
                server_pid,
                ready,
                generation,
                running,
                unrecorded,
                stopping,
                alone,
                reloaded_us,
                reload_error,
            }
        });
    prop_oneof![
        status.prop_map(Answer::Status),
        Just(Answer::Done),
        ".*".prop_map(|message| Answer::Failed { message }),
        any::<u8>().prop_map(|status| Answer::Ended { status }),
    ]
}

/// Every message of `bytes`, fed `step` bytes at a time.
fn decode<M: Message>(bytes: &[u8], step: usize) -> Result<Vec<M>, BadFrame> {
    let mut decoder = Decoder::default();
    let mut messages = vec![];
    for part in bytes.chunks(step) {
        decoder.feed(part);
        while let Some(message) = decoder.next()? {
            messages.push(message);
        }
    }
    Ok(messages)
}

fn encode<M: Message>(messages: &[M]) -> Vec<u8> {
    let mut out = vec![];
    messages.iter().for_each(|message| message.encode(&mut out));
    out
}

proptest! {
    #[test]
    fn what_the_keeper_says_arrives(messages in prop::collection::vec(to_server(), 0..5), step in 1usize..300) {
        prop_assert_eq!(decode(&encode(&messages), step), Ok(messages));
    }

    #[test]
    fn what_the_server_says_arrives(messages in prop::collection::vec(to_keeper(), 0..5), step in 1usize..300) {
        prop_assert_eq!(decode(&encode(&messages), step), Ok(messages));
    }

    #[test]
    fn what_the_command_line_asks_and_hears_arrives(asked in ask(), told in answer(), step in 1usize..300) {
        prop_assert_eq!(decode(&encode(std::slice::from_ref(&asked)), step), Ok(vec![asked]));
        prop_assert_eq!(decode(&encode(std::slice::from_ref(&told)), step), Ok(vec![told]));
    }

    /// Version N+1 appends a field to a body: N reads the rest.
    #[test]
    fn appended_fields_are_skipped(message in to_server(), more in bytes()) {
        let mut body = encode(std::slice::from_ref(&message)).split_off(4);
        body.extend_from_slice(&more);
        let kind = body.remove(0);
        prop_assert_eq!(ToServer::decode(kind, body.into()), Ok(Some(message)));
    }

    /// Version N-1 does not send the last field: N reads its default.
    #[test]
    fn missing_fields_are_defaults(started in started()) {
        let whole = encode(&[ToServer::Started(started.clone())]);
        let cookie = 4 + started.cookie.len();
        let body = Bytes::from(whole).slice(5..).to_vec();
        let body = Bytes::from(body[..body.len() - cookie].to_vec());
        let expected = Started { cookie: Bytes::new(), ..started };
        prop_assert_eq!(ToServer::decode(2, body), Ok(Some(ToServer::Started(expected))));
    }

    #[test]
    fn no_bytes_make_it_panic(noise in prop::collection::vec(any::<u8>(), 0..400), step in 1usize..50) {
        let _ = decode::<ToServer>(&noise, step);
        let _ = decode::<ToKeeper>(&noise, step);
        for kind in 0..14 {
            let _ = ToServer::decode(kind, noise.clone().into());
            let _ = ToKeeper::decode(kind, noise.clone().into());
            let _ = Ask::decode(kind, noise.clone().into());
            let _ = Answer::decode(kind, noise.clone().into());
        }
        let _ = read(noise.into());
    }

    #[test]
    fn one_flipped_byte_does_not_panic(message in to_keeper(), at: prop::sample::Index, with: u8) {
        let mut bytes = encode(&[message]);
        let at = at.index(bytes.len());
        bytes[at] = with;
        let _ = decode::<ToKeeper>(&bytes, 7);
    }

    #[test]
    fn a_journal_is_read_up_to_where_it_was_torn(
        records in prop::collection::vec(record(), 1..4), cut: prop::sample::Index, flip: bool,
    ) {
        let mut bytes = vec![];
        let mut ends = vec![];
        for record in &records {
            Entry::Record(Box::new(record.clone())).encode(&mut bytes);
            Entry::Ack(record.key).encode(&mut bytes);
            ends.push(bytes.len());
        }
        let (entries, length) = read(bytes.clone().into());
        prop_assert_eq!((entries.len(), length), (2 * records.len(), bytes.len()));
        prop_assert_eq!(&entries[0], &Entry::Record(Box::new(records[0].clone())));
        let cut = cut.index(bytes.len());
        if flip { bytes[cut] ^= 0x40 } else { bytes.truncate(cut) }
        let (entries, length) = read(bytes.into());
        prop_assert!(length <= cut);
        prop_assert!(entries.len() >= 2 * ends.iter().filter(|end| **end <= cut).count());
    }
}

#[test]
fn a_type_of_a_newer_version_is_passed_over() {
    let mut bytes = vec![3, 0, 0, 0, 200, 1, 2];
    ToServer::Proceed.encode(&mut bytes);
    assert_eq!(decode(&bytes, 1), Ok(vec![ToServer::Proceed]));
}

#[test]
fn a_frame_beyond_the_bound_is_refused_before_it_is_read() {
    let length = u32::try_from(MAX_FRAME + 1).expect("fits");
    assert_eq!(decode::<ToKeeper>(&length.to_le_bytes(), 4), Err(BadFrame::TooLong));
}

#[test]
fn behind_a_malformed_frame_reading_goes_on() {
    let mut decoder = Decoder::<ToKeeper>::default();
    decoder.feed(&[2, 0, 0, 0, 1, 9, 0, 0, 0, 0]);
    decoder.feed(&encode(&[ToKeeper::List]));
    assert_eq!(decoder.next(), Err(BadFrame::Body));
    assert_eq!(decoder.next(), Err(BadFrame::Body));
    assert_eq!(decoder.next(), Ok(Some(ToKeeper::List)));
    assert_eq!(decoder.next(), Ok(None));
}

/// What version 1 said, byte for byte, is what version 2 reads; and what 2 adds reads as
/// nothing there.
#[test]
fn f05_version_1_is_understood() {
    let body = [
        &[1, 1, 0, 0, 0, 7, 0, 0, 0, 0, 0, 0, 0][..],
        &[9; 16],
        &[42, 0, 0, 0, 0, 1, 0, 0, 0, 14, 0, 0, 0],
        b"127.0.0.1:8080",
    ]
    .concat();
    let hello = [&(body.len() as u32).to_le_bytes()[..], &body].concat();
    let expected = Hello {
        version: 1,
        generation: 7,
        boot_id: [9; 16],
        keeper_pid: 42,
        containment: Containment::Cgroup,
        listeners: vec!["127.0.0.1:8080".into()],
        held: 0,
        standby: false,
        renew: false,
        force: false,
        cgroups: Bytes::new(),
        settled: false,
        managed: false,
    };
    assert_eq!(expected.claimant([9; 16]), Claimant::OurKeepers, "it said so by its number");
    assert_eq!(Hello { generation: 1, ..expected.clone() }.claimant([9; 16]), Claimant::KeeperBefore);
    assert_eq!(decode(&hello, 3), Ok(vec![ToServer::Hello(expected)]));
    let shutdown = Shutdown { now: true, ..Shutdown::default() };
    assert_eq!(decode(&[2, 0, 0, 0, 6, 1], 1), Ok(vec![ToServer::Shutdown(shutdown)]));
    assert_eq!(decode(&[5, 0, 0, 0, 1, 1, 0, 0, 0], 1), Ok(vec![ToKeeper::Ready { version: 1 }]));
}

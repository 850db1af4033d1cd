//! What each mode of the hostile child must yield, at every containment level.

use procession_core::launch::Stdin;
use procession_core::record::Ending;

/// How the wait status must read.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Status {
    Exit(u8),
    Signal(u8),
}

impl Status {
    pub(crate) fn ending(self) -> Ending {
        let wait_status = match self {
            Status::Exit(code) => i32::from(code) << 8,
            Status::Signal(signal) => signal.into(),
        };
        Ending::Ended { wait_status, stopped: None }
    }
}

/// A mode, and what a record of it says.
#[derive(Debug)]
pub(crate) struct Case {
    /// Of the edge-case table.
    pub(crate) id: &'static str,
    pub(crate) args: &'static [&'static str],
    pub(crate) stdin: Stdin,
    pub(crate) status: Status,
    /// How many processes it leaves behind.
    pub(crate) leaked: u32,
    /// The whole of its stdout, if the case is about it.
    pub(crate) stdout: Option<&'static str>,
}

fn case(id: &'static str, args: &'static [&'static str], status: Status) -> Case {
    Case { id, args, stdin: Stdin::Null, status, leaked: 0, stdout: None }
}

/// The modes that end by themselves.
pub(crate) fn cases() -> Vec<Case> {
    use Status::*;
    vec![
        case("exit", &["exit", "0"], Exit(0)),
        case("P22 a code is not a signal", &["exit", "137"], Exit(137)),
        case("P22 a signal is not a code", &["signal", "9"], Signal(9)),
        case("P22 a signal that ends nobody", &["signal", "17"], Exit(98)),
        case("P08 stdin is never read", &["exit", "0"], Exit(0))
            .stdin(Stdin::Bytes(vec![b'x'; 60_000].into())),
        case("P08 stdin is closed", &["close-stdin", "4"], Exit(4))
            .stdin(Stdin::Bytes(vec![b'x'; 60_000].into())),
        case("P13 outputs are closed", &["close-outputs", "7"], Exit(7)),
        case("stdin arrives", &["cat"], Exit(0)).stdin(Stdin::Bytes("hello\0\n".into())).stdout("hello\0\n"),
        case("no stdin is an empty one", &["cat"], Exit(0)).stdout(""),
        case("P14 a sleeper holds the pipes", &["leave-sleeper", "3"], Exit(3)).leaked(1),
        case("P15 double fork and setsid", &["double-fork-setsid", "0"], Exit(0)).leaked(1),
    ]
}

impl Case {
    fn stdin(self, stdin: Stdin) -> Self {
        Self { stdin, ..self }
    }

    fn leaked(self, leaked: u32) -> Self {
        Self { leaked, ..self }
    }

    fn stdout(self, stdout: &'static str) -> Self {
        Self { stdout: Some(stdout), ..self }
    }
}

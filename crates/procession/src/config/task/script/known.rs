//! The interpreters and wrappers a command may begin with, and how each reads its options.
//! Tables; what follows from them is decided one file up.

/// How one kind of interpreter reads its options.
pub(super) struct Family {
    pub(super) names: &'static [&'static str],
    /// Letters whose argument is a script or names one.
    pub(super) code: &'static str,
    pub(super) code_long: &'static [&'static str],
    /// Letters that take an argument, in the same element or the next.
    pub(super) argument: &'static str,
    pub(super) argument_long: &'static [&'static str],
    /// Letters that end a cluster: the rest of it is theirs.
    pub(super) rest: &'static str,
    /// Letters with which it runs nothing.
    pub(super) idle: &'static str,
    pub(super) style: Style,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Style {
    /// The script is the first operand, wherever the `c` stood.
    Shell,
    /// The script follows its letter at once, in the same element or the next.
    Attached,
    /// The same, and it ends the options.
    AttachedLast,
    /// The script is always the next element.
    Next,
}

const FAMILIES: [Family; 7] = [
    Family {
        names: &["sh", "bash", "dash", "zsh", "ash", "ksh", "mksh"],
        code: "c",
        code_long: &[],
        argument: "oO",
        argument_long: &["--rcfile", "--init-file"],
        rest: "",
        idle: "",
        style: Style::Shell,
    },
    Family {
        names: &["python", "pypy"],
        code: "cm",
        code_long: &[],
        argument: "WX",
        argument_long: &["--check-hash-based-pycs"],
        rest: "",
        idle: "Vh?",
        style: Style::AttachedLast,
    },
    Family {
        names: &["perl"],
        code: "eE",
        code_long: &[],
        argument: "I",
        argument_long: &[],
        rest: "MmiFxCDdV",
        idle: "vhV",
        style: Style::Attached,
    },
    Family {
        names: &["ruby"],
        code: "e",
        code_long: &[],
        argument: "ICrE",
        argument_long: &["--encoding", "--external-encoding", "--internal-encoding"],
        rest: "FKTWix",
        idle: "vh",
        style: Style::Attached,
    },
    Family {
        names: &["node", "nodejs", "bun"],
        code: "ep",
        code_long: &["--eval", "--print"],
        argument: "rC",
        argument_long: &[
            "--require",
            "--import",
            "--loader",
            "--experimental-loader",
            "--conditions",
            "--input-type",
            "--preload",
            "--title",
        ],
        rest: "",
        idle: "vh",
        style: Style::Next,
    },
    Family {
        names: &["php"],
        code: "rBRE",
        code_long: &["--run", "--process-begin", "--process-code", "--process-end"],
        argument: "cdfFStz",
        argument_long: &["--define", "--file", "--docroot", "--server"],
        rest: "",
        idle: "vhim",
        style: Style::Attached,
    },
    Family {
        names: &["lua", "luajit"],
        code: "e",
        code_long: &[],
        argument: "lj",
        argument_long: &[],
        rest: "",
        idle: "v",
        style: Style::Attached,
    },
];

/// A program that runs the program among its arguments.
pub(super) struct Wrapper {
    pub(super) name: &'static str,
    /// Letters that take an argument, in the same element or the next.
    pub(super) argument: &'static str,
    pub(super) argument_long: &'static [&'static str],
    /// How many operands stand before the program.
    pub(super) operands: usize,
    /// `NAME=value` may stand before the program.
    pub(super) assigns: bool,
}

const fn wrapper(name: &'static str, argument: &'static str, operands: usize) -> Wrapper {
    Wrapper { name, argument, argument_long: &[], operands, assigns: false }
}

pub(super) const WRAPPERS: [Wrapper; 13] = [
    Wrapper { argument_long: &["--unset", "--chdir"], assigns: true, ..wrapper("env", "uC", 0) },
    Wrapper { argument_long: &["--user", "--group"], assigns: true, ..wrapper("sudo", "ugCDhpRrtTU", 0) },
    Wrapper { argument_long: &["--kill-after", "--signal"], ..wrapper("timeout", "ks", 1) },
    Wrapper { argument_long: &["--adjustment"], ..wrapper("nice", "n", 0) },
    Wrapper { argument_long: &["--input", "--output", "--error"], ..wrapper("stdbuf", "ioe", 0) },
    Wrapper { argument_long: &["--format", "--output"], ..wrapper("time", "fo", 0) },
    Wrapper { argument_long: &["--class", "--classdata"], ..wrapper("ionice", "cn", 0) },
    wrapper("doas", "uC", 0),
    wrapper("chrt", "TPD", 1),
    wrapper("taskset", "", 1),
    wrapper("nohup", "", 0),
    wrapper("setsid", "", 0),
    wrapper("busybox", "", 0),
];

/// Programs whose own options are not known here, and that exist to run another: the
/// interpreter among their arguments is the program they run.
pub(super) const CARRIERS: [&str; 16] = [
    "chroot",
    "docker",
    "podman",
    "kubectl",
    "nsenter",
    "unshare",
    "bwrap",
    "firejail",
    "flock",
    "xargs",
    "strace",
    "systemd-run",
    "runuser",
    "su",
    "ssh",
    "prlimit",
];

impl Wrapper {
    /// Whether the argument of the option `text` is the next element.
    pub(super) fn takes_next(&self, text: &str) -> bool {
        if text.starts_with("--") {
            return self.argument_long.contains(&text);
        }
        let letter = text.char_indices().skip(1).find(|(_, letter)| self.argument.contains(*letter));
        letter.is_some_and(|(at, letter)| at + letter.len_utf8() == text.len())
    }
}

pub(super) fn stem(program: &str) -> &str {
    let name = program.rsplit('/').next().unwrap_or(program);
    // python3.12, perl5.36, ruby3.1, lua5.4
    name.trim_end_matches(|c: char| c.is_ascii_digit() || c == '.' || c == '-')
}

pub(super) fn find_family(program: &str) -> Option<&'static Family> {
    FAMILIES.iter().find(|family| family.names.contains(&stem(program)))
}

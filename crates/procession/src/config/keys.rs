//! Every key a config can have, by section, in the order of the documentation. Keys of
//! later versions stand here too, so that a config made for one is told so instead of
//! being half obeyed.

/// What one section may hold.
#[derive(Debug)]
pub(super) struct Keys {
    /// How messages call the section: `[server]`.
    pub(super) section: &'static str,
    /// What this version knows.
    pub(super) known: &'static [&'static str],
    /// What a later version will know.
    pub(super) later: &'static [&'static str],
}

pub(super) static TOP: Keys = Keys {
    section: "the config",
    known: &["server", "limits", "retention", "log", "task", "schedule"],
    later: &[],
};

pub(super) static SERVER: Keys = Keys {
    section: "[server]",
    known: &[
        "listen",
        "socket_mode",
        "socket_group",
        "data_dir",
        "store",
        "auth",
        "hosts",
        "callback_hosts",
        "stop_timeout",
    ],
    later: &["tls"],
};

pub(super) static LIMITS: Keys = Keys { section: "[limits]", known: &["max_running"], later: &[] };

pub(super) static RETENTION: Keys =
    Keys { section: "[retention]", known: &["finished", "output", "min_free"], later: &[] };

pub(super) static LOG: Keys = Keys {
    section: "[log]",
    known: &["level", "max_size", "max_age", "keep", "expire", "compress"],
    later: &[],
};

pub(super) static TASK: Keys = Keys {
    section: "[task.NAME]",
    known: &[
        "description",
        "route",
        "reply",
        "auth",
        "command",
        "directory",
        "body",
        "payload",
        "content_types",
        "max_body",
        "schema",
        "allow_leading_dash",
        "env",
        "env_inherit",
        "secrets",
        "max_running",
        "max_queued",
        "queue_timeout",
        "timeout",
        "grace",
        "leave_children",
        "output",
        "output_limit",
        "result",
        "result_required",
        "result_schema",
        "labels",
        "idempotency_key",
        "fan_out",
        "retry",
        "lane",
        "max_running_per_lane",
        "unique",
        "on_duplicate",
        "rate",
        "then",
        "callback",
    ],
    later: &["may_submit", "mode", "fork", "pool", "sandbox"],
};

pub(super) static REPLY: Keys =
    Keys { section: "reply", known: &["format", "template", "always_200", "wait", "status"], later: &[] };

pub(super) static SECRET: Keys = Keys { section: "secrets.NAME", known: &["file"], later: &[] };

pub(super) static THEN: Keys = Keys { section: "then", known: &["task", "on"], later: &[] };

pub(super) static CALLBACK: Keys =
    Keys { section: "callback", known: &["url", "secret_file", "on"], later: &[] };

pub(super) static SCHEDULE: Keys = Keys {
    section: "[schedule.NAME]",
    known: &["task", "cron", "timezone", "overlap", "catch_up", "payload"],
    later: &[],
};

pub(super) static FAN_OUT: Keys = Keys {
    section: "fan_out",
    known: &["task", "over", "count", "max_running", "on_failure", "join", "join_decides"],
    later: &[],
};

pub(super) static RETRY: Keys =
    Keys { section: "retry", known: &["max_attempts", "on", "backoff", "max_backoff"], later: &[] };

/// All sections.
pub(super) static ALL: [&Keys; 13] = [
    &FAN_OUT, &RETRY, &TOP, &SERVER, &LIMITS, &RETENTION, &LOG, &TASK, &REPLY, &SECRET, &THEN, &CALLBACK,
    &SCHEDULE,
];

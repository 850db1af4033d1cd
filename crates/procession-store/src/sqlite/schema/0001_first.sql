-- The first schema. Big things are inserted once (job, attempt, done); `live` is the one
-- small table that changes with every claim. A job's state is its `live` row, else its
-- `done` row. Times are microseconds since the Unix epoch, ids the 16 bytes of a UUIDv7.
-- What later issues need stands here already, so that no first migration is a large one.

-- One row about the store itself.
CREATE TABLE meta (
    one        INTEGER PRIMARY KEY CHECK (one = 1),
    -- The fence of the last claim: only ever grows.
    fence      INTEGER NOT NULL CHECK (fence >= 0),
    -- Raised by `probe`, so that its transaction has something to sync.
    probes     INTEGER NOT NULL CHECK (probes >= 0)
) STRICT;

INSERT INTO meta (one, fence, probes) VALUES (1, 0, 0);

-- Depth and totals change in the transaction of the rows they count. How many run is
-- never kept: it is counted from the rows that hold a slot.
CREATE TABLE task (
    id         INTEGER PRIMARY KEY,
    name       TEXT NOT NULL UNIQUE CHECK (length(name) BETWEEN 1 AND 64),
    paused     INTEGER NOT NULL DEFAULT 0 CHECK (paused IN (0, 1)),
    queued     INTEGER NOT NULL DEFAULT 0 CHECK (queued >= 0),
    scheduled  INTEGER NOT NULL DEFAULT 0 CHECK (scheduled >= 0),
    -- What admission counts: queued, scheduled or running, but neither waiting for
    -- children nor for another attempt.
    unfinished INTEGER NOT NULL DEFAULT 0 CHECK (unfinished >= 0),
    finished   INTEGER NOT NULL DEFAULT 0 CHECK (finished >= 0),
    failed     INTEGER NOT NULL DEFAULT 0 CHECK (failed BETWEEN 0 AND finished)
) STRICT;

-- A task's queue divided by a value of its jobs; jobs name the value in `job.lane`.
CREATE TABLE lane (
    task        INTEGER NOT NULL REFERENCES task (id),
    value       TEXT NOT NULL,
    max_running INTEGER CHECK (max_running >= 0),
    paused      INTEGER NOT NULL DEFAULT 0 CHECK (paused IN (0, 1)),
    PRIMARY KEY (task, value)
) STRICT, WITHOUT ROWID;

-- What was asked for: written once, never changed.
CREATE TABLE job (
    id              BLOB NOT NULL PRIMARY KEY CHECK (length(id) = 16),
    task            INTEGER NOT NULL REFERENCES task (id),
    submitted_at    INTEGER NOT NULL,
    run_at          INTEGER,
    expires_at      INTEGER,
    priority        INTEGER NOT NULL CHECK (priority BETWEEN -100 AND 100),
    max_attempts    INTEGER NOT NULL CHECK (max_attempts >= 1),
    lane            TEXT,
    -- A JSON object; NULL where there are none. `label` finds jobs by it.
    labels          TEXT,
    parent          BLOB CHECK (length(parent) = 16),
    root            BLOB CHECK (length(root) = 16),
    child_index     INTEGER CHECK (child_index >= 0),
    depth           INTEGER NOT NULL DEFAULT 0 CHECK (depth >= 0),
    retry_of        BLOB CHECK (length(retry_of) = 16),
    submitted_by    TEXT NOT NULL,
    config_revision TEXT NOT NULL,
    -- Its row of `idempotency`, so that the two go together.
    principal       TEXT,
    idempotency_key TEXT,
    -- The request's values the task names, as JSON; NULL where there are none.
    request         TEXT,
    payload_len     INTEGER NOT NULL CHECK (payload_len >= 0),
    -- NULL: a file. Last, so that pages without it are read without it.
    payload         BLOB,
    CHECK ((parent IS NULL) = (root IS NULL)),
    CHECK ((parent IS NULL) = (depth = 0)),
    CHECK (child_index IS NULL OR parent IS NOT NULL),
    CHECK ((principal IS NULL) = (idempotency_key IS NULL)),
    CHECK (payload IS NULL OR length(payload) = payload_len)
) STRICT;

CREATE INDEX job_by_parent ON job (parent, id) WHERE parent IS NOT NULL;
CREATE INDEX job_by_lane ON job (lane, id) WHERE lane IS NOT NULL;

-- Found by label, newest first. No foreign key: it would need an index by job, and
-- `job.labels` already says which rows go with a job.
CREATE TABLE label (
    name  TEXT NOT NULL,
    value TEXT NOT NULL,
    job   BLOB NOT NULL CHECK (length(job) = 16),
    PRIMARY KEY (name, value, job)
) STRICT, WITHOUT ROWID;

-- Kept as long as its job. No foreign key to it, for the same reason.
CREATE TABLE idempotency (
    task      INTEGER NOT NULL REFERENCES task (id),
    principal TEXT NOT NULL,
    key       TEXT NOT NULL,
    body_hash BLOB NOT NULL CHECK (length(body_hash) = 32),
    job       BLOB NOT NULL CHECK (length(job) = 16),
    PRIMARY KEY (task, principal, key)
) STRICT, WITHOUT ROWID;

-- Every job that is not over.
CREATE TABLE live (
    job          BLOB NOT NULL PRIMARY KEY REFERENCES job (id),
    task         INTEGER NOT NULL REFERENCES task (id),
    state        TEXT NOT NULL CHECK (state IN ('scheduled', 'queued', 'running', 'waiting')),
    lane         TEXT,
    priority     INTEGER NOT NULL CHECK (priority BETWEEN -100 AND 100),
    -- Its place in the queue: the time it asked for, was deferred to, or was submitted at.
    run_at       INTEGER NOT NULL,
    expires_at   INTEGER,
    attempt      INTEGER NOT NULL DEFAULT 0 CHECK (attempt >= 0),
    -- Deferrals in a row.
    deferred     INTEGER NOT NULL DEFAULT 0 CHECK (deferred >= 0),
    -- Waits for another attempt: does not count for admission.
    retrying     INTEGER NOT NULL DEFAULT 0 CHECK (retrying IN (0, 1)),
    -- A parent that waits for its children inside its program runs without a slot.
    holds_slot   INTEGER NOT NULL DEFAULT 0 CHECK (holds_slot IN (0, 1)),
    -- Of the last claim; they stay after a release, so that repeating it is seen.
    fence        INTEGER CHECK (fence >= 1),
    claim_id     BLOB CHECK (length(claim_id) = 16),
    node         TEXT,
    boot_id      BLOB CHECK (length(boot_id) = 16),
    claimed_at   INTEGER,
    started_at   INTEGER,
    containment  TEXT CHECK (containment IN ('cgroup', 'monitor')),
    cancel_at    INTEGER,
    cancel_by    TEXT CHECK (cancel_by IN
                     ('client', 'parent', 'replaced', 'expired', 'shutdown', 'task_removed')),
    -- The task as the config had it at the claim, as JSON.
    definition   TEXT,
    CHECK ((fence IS NULL) = (claim_id IS NULL) AND (fence IS NULL) = (node IS NULL)
           AND (fence IS NULL) = (boot_id IS NULL) AND (fence IS NULL) = (claimed_at IS NULL)),
    CHECK (state <> 'running' OR (fence IS NOT NULL AND attempt >= 1)),
    CHECK (holds_slot = 0 OR state = 'running'),
    CHECK (started_at IS NULL OR state IN ('running', 'waiting')),
    CHECK (retrying = 0 OR state = 'scheduled'),
    CHECK ((cancel_at IS NULL) = (cancel_by IS NULL)),
    CHECK (cancel_at IS NULL OR state IN ('running', 'waiting'))
) STRICT, WITHOUT ROWID;

-- The queue of each task, in the order of claims.
CREATE INDEX live_queued ON live (task, priority DESC, run_at, job) WHERE state = 'queued';
CREATE INDEX live_scheduled ON live (run_at) WHERE state = 'scheduled';
CREATE INDEX live_expires ON live (expires_at)
    WHERE expires_at IS NOT NULL AND state IN ('scheduled', 'queued');
-- Limits are counted here: as many entries as slots are held.
CREATE INDEX live_slots ON live (task) WHERE holds_slot = 1;
CREATE INDEX live_by_state ON live (task, state, job);

-- Every execution that is over; one that runs is in `live`.
CREATE TABLE attempt (
    job             BLOB NOT NULL REFERENCES job (id),
    attempt         INTEGER NOT NULL CHECK (attempt >= 1),
    fence           INTEGER NOT NULL CHECK (fence >= 1),
    claim_id        BLOB NOT NULL CHECK (length(claim_id) = 16),
    node            TEXT NOT NULL,
    kind            TEXT NOT NULL CHECK (kind IN
                        ('exited', 'signaled', 'oom_killed', 'spawn_failed', 'children_failed',
                         'result_missing', 'bad_result', 'timed_out', 'cancelled', 'lost')),
    -- The whole of it, as JSON.
    outcome         TEXT NOT NULL,
    claimed_at      INTEGER NOT NULL,
    started_at      INTEGER,
    finished_at     INTEGER NOT NULL,
    run_ms          INTEGER CHECK (run_ms >= 0),
    user_us         INTEGER CHECK (user_us >= 0),
    system_us       INTEGER CHECK (system_us >= 0),
    max_rss_bytes   INTEGER CHECK (max_rss_bytes >= 0),
    containment     TEXT CHECK (containment IN ('cgroup', 'monitor')),
    leaked          INTEGER NOT NULL CHECK (leaked >= 0),
    config_revision TEXT NOT NULL,
    output_limit    INTEGER NOT NULL CHECK (output_limit >= 0),
    stdout_total    INTEGER NOT NULL CHECK (stdout_total >= 0),
    stdout_written  INTEGER NOT NULL CHECK (stdout_written BETWEEN 0 AND stdout_total),
    stdout_place    TEXT NOT NULL CHECK (stdout_place IN ('inline', 'file')),
    stderr_total    INTEGER NOT NULL CHECK (stderr_total >= 0),
    stderr_written  INTEGER NOT NULL CHECK (stderr_written BETWEEN 0 AND stderr_total),
    stderr_place    TEXT NOT NULL CHECK (stderr_place IN ('inline', 'file')),
    stdout_tail     BLOB NOT NULL,
    stderr_tail     BLOB NOT NULL,
    PRIMARY KEY (job, attempt),
    CHECK ((user_us IS NULL) = (system_us IS NULL) AND (user_us IS NULL) = (max_rss_bytes IS NULL))
) STRICT;

-- Every job that is over. How its last execution went is in `attempt`; one that never
-- ran has none.
CREATE TABLE done (
    job         BLOB NOT NULL PRIMARY KEY REFERENCES job (id),
    task        INTEGER NOT NULL REFERENCES task (id),
    state       TEXT NOT NULL,
    kind        TEXT NOT NULL,
    outcome     TEXT NOT NULL,
    attempt     INTEGER NOT NULL CHECK (attempt >= 0),
    finished_at INTEGER NOT NULL,
    cancel_at   INTEGER,
    -- A JSON list; NULL where there are none.
    artifacts   TEXT,
    progress    REAL CHECK (progress BETWEEN 0 AND 1),
    progress_message TEXT,
    -- Whether the result is JSON; NULL: there is none.
    result_json INTEGER CHECK (result_json IN (0, 1)),
    result_len  INTEGER CHECK (result_len >= 0),
    -- NULL: a file.
    result      BLOB,
    CHECK (CASE state
        WHEN 'succeeded' THEN kind = 'exited'
        WHEN 'failed'    THEN kind IN ('exited', 'signaled', 'oom_killed', 'spawn_failed',
                                       'children_failed', 'result_missing', 'bad_result')
        WHEN 'timed_out' THEN kind = 'timed_out'
        WHEN 'cancelled' THEN kind = 'cancelled'
        WHEN 'lost'      THEN kind = 'lost'
        ELSE 0 END),
    CHECK (attempt >= 1 OR state = 'cancelled'),
    CHECK ((progress IS NULL) = (progress_message IS NULL)),
    CHECK ((result_json IS NULL) = (result_len IS NULL)),
    CHECK (result IS NULL OR length(result) = result_len)
) STRICT, WITHOUT ROWID;

CREATE INDEX done_by_state ON done (task, state, job);
CREATE INDEX done_by_time ON done (finished_at);

-- The machines of a store that several share; the embedded one has one row.
CREATE TABLE node (
    name      TEXT NOT NULL PRIMARY KEY,
    boot_id   BLOB NOT NULL CHECK (length(boot_id) = 16),
    -- Raised by every start: an older process of the same name is fenced.
    start     INTEGER NOT NULL CHECK (start >= 1),
    beat      INTEGER NOT NULL CHECK (beat >= 0),
    slots     INTEGER NOT NULL CHECK (slots >= 0),
    state     TEXT NOT NULL CHECK (state IN ('alive', 'left', 'dead')),
    version   TEXT NOT NULL
) STRICT, WITHOUT ROWID;

-- When each recurring submission is due next; what it submits stands in the config.
CREATE TABLE schedule (
    name     TEXT NOT NULL PRIMARY KEY,
    paused   INTEGER NOT NULL DEFAULT 0 CHECK (paused IN (0, 1)),
    next_at  INTEGER,
    last_at  INTEGER,
    last_job BLOB CHECK (length(last_job) = 16)
) STRICT, WITHOUT ROWID;

-- Notices of finished jobs that still have to be delivered.
CREATE TABLE delivery (
    id       INTEGER PRIMARY KEY,
    job      BLOB NOT NULL REFERENCES job (id),
    target   TEXT NOT NULL,
    body     BLOB NOT NULL,
    tries    INTEGER NOT NULL DEFAULT 0 CHECK (tries >= 0),
    due_at   INTEGER NOT NULL
) STRICT;

CREATE INDEX delivery_by_job ON delivery (job);
CREATE INDEX delivery_due ON delivery (due_at);

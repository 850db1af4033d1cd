-- Families, lanes in turn, attempts that follow each other, and what follows an end.

-- When all that was taken under the task's rate is paid for.
ALTER TABLE task ADD COLUMN paid_until INTEGER;

-- What its end brings about, as JSON; NULL: nothing.
ALTER TABLE job ADD COLUMN follow_ups TEXT;

-- What a parent was told of its family, written once.
CREATE TABLE family (
    job          BLOB NOT NULL PRIMARY KEY CHECK (length(job) = 16),
    -- Of its children at once; NULL: no limit.
    max_running  INTEGER CHECK (max_running >= 1),
    -- The others are ended when one fails.
    stops        INTEGER NOT NULL CHECK (stops IN (0, 1)),
    -- A program makes one result of theirs, and its end may be the family's.
    joins        INTEGER NOT NULL CHECK (joins IN (0, 1)),
    join_decides INTEGER NOT NULL CHECK (join_decides IN (0, 1)),
    timeout_ms   INTEGER CHECK (timeout_ms >= 0)
) STRICT, WITHOUT ROWID;

ALTER TABLE live ADD COLUMN parent BLOB CHECK (length(parent) = 16);
-- At most one unfinished job of its task should have it.
ALTER TABLE live ADD COLUMN unique_value TEXT;
-- Its job has `follow_ups`.
ALTER TABLE live ADD COLUMN follows INTEGER NOT NULL DEFAULT 0 CHECK (follows IN (0, 1));
-- A parent. Its family has begun where `begun_at` is set.
ALTER TABLE live ADD COLUMN is_parent INTEGER NOT NULL DEFAULT 0 CHECK (is_parent IN (0, 1));
ALTER TABLE live ADD COLUMN begun_at INTEGER CHECK (begun_at IS NULL OR is_parent = 1);
-- When the family's time is over, and that it was.
ALTER TABLE live ADD COLUMN deadline INTEGER CHECK (deadline IS NULL OR begun_at IS NOT NULL);
ALTER TABLE live ADD COLUMN late INTEGER NOT NULL DEFAULT 0 CHECK (late IN (0, 1));
-- Its children are over: it waits for a slot to join what they did in, or, where no program does
-- that, for its result.
ALTER TABLE live ADD COLUMN joins INTEGER NOT NULL DEFAULT 0 CHECK (joins IN (0, 1));
ALTER TABLE live ADD COLUMN gathers INTEGER NOT NULL DEFAULT 0 CHECK (gathers IN (0, 1));

-- The queue of each task, by lane and family, in the order of claims.
DROP INDEX live_queued;
CREATE INDEX live_queued ON live (task, lane, parent, priority DESC, run_at, job)
    WHERE state = 'queued' AND joins = 0;
CREATE INDEX live_joins ON live (priority DESC, run_at, job) WHERE state = 'queued' AND joins = 1;
CREATE INDEX live_gathers ON live (job) WHERE gathers = 1;
CREATE INDEX live_deadline ON live (deadline) WHERE deadline IS NOT NULL AND late = 0;
-- Limits are counted here.
DROP INDEX live_slots;
CREATE INDEX live_slots ON live (task, lane, begun_at) WHERE holds_slot = 1;
CREATE INDEX live_begun ON live (task, lane, begun_at) WHERE begun_at IS NOT NULL;
CREATE INDEX live_busy ON live (parent)
    WHERE parent IS NOT NULL AND (holds_slot = 1 OR begun_at IS NOT NULL);
CREATE INDEX live_by_parent ON live (parent, state) WHERE parent IS NOT NULL;
CREATE INDEX live_unique ON live (task, unique_value) WHERE unique_value IS NOT NULL;

ALTER TABLE done ADD COLUMN parent BLOB CHECK (length(parent) = 16);
ALTER TABLE done ADD COLUMN begun_at INTEGER;
-- What is removed by its age goes with all below it.
DROP INDEX done_by_time;
CREATE INDEX done_by_time ON done (finished_at) WHERE parent IS NULL;
CREATE INDEX done_by_parent ON done (parent, state) WHERE parent IS NOT NULL;

-- What was to follow the end of a job: a row for each that its end met, written with the end.
DROP TABLE delivery;
CREATE TABLE delivery (
    id         INTEGER PRIMARY KEY,
    job        BLOB NOT NULL REFERENCES job (id),
    -- Which of the job's `follow_ups`, from 0.
    ordinal    INTEGER NOT NULL CHECK (ordinal >= 0),
    kind       TEXT NOT NULL CHECK (kind IN ('then', 'callback')),
    -- A task, or a URL.
    target     TEXT NOT NULL,
    state      TEXT NOT NULL CHECK (state IN ('pending', 'delivered', 'given_up', 'gone')),
    tries      INTEGER NOT NULL DEFAULT 0 CHECK (tries >= 0),
    created_at INTEGER NOT NULL,
    due_at     INTEGER NOT NULL,
    status     INTEGER,
    error      TEXT,
    UNIQUE (job, ordinal)
) STRICT;
CREATE INDEX delivery_due ON delivery (due_at, id) WHERE state = 'pending';

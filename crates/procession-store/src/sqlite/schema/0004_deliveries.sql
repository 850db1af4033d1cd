-- What follows ends, on its way to where it goes.

-- The config's own word: its URL may lead to this machine and its networks.
ALTER TABLE delivery ADD COLUMN fixed INTEGER NOT NULL DEFAULT 0 CHECK (fixed IN (0, 1));
-- Whom it goes to, with the port; `.` where it goes to nobody else. One that is slow holds up only
-- its own.
ALTER TABLE delivery ADD COLUMN host TEXT NOT NULL DEFAULT '.';
-- When somebody last asked for it once more.
ALTER TABLE delivery ADD COLUMN repeated_at INTEGER;
-- The job that followed.
ALTER TABLE delivery ADD COLUMN followed_by BLOB CHECK (length(followed_by) = 16);

CREATE INDEX delivery_by_host ON delivery (host, due_at, id) WHERE state = 'pending';
CREATE INDEX delivery_by_target ON delivery (target) WHERE state = 'pending' AND kind = 'callback';
CREATE INDEX delivery_by_state ON delivery (state, id);

-- Receivers that answered 410: nothing is sent to these URLs until somebody asks for it. Clients may
-- choose URLs, so none is kept for ever.
CREATE TABLE gone (
    target TEXT NOT NULL PRIMARY KEY,
    since  INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX gone_since ON gone (since);

-- Schedules that change while they are known.

-- Expression and time zone: where they change, what was due by the old ones is not due any more.
ALTER TABLE schedule ADD COLUMN rhythm TEXT NOT NULL DEFAULT '';

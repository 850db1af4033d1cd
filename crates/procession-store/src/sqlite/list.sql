
    LEFT JOIN live ON live.job = job.id
    LEFT JOIN done ON done.job = job.id
WHERE job.submitted_at >= ?4
    AND (?5 IS NULL OR job.task = ?5)
    AND (?6 IS NULL OR job.lane = ?6)
    AND (?7 IS NULL OR job.parent = ?7)
    AND (?8 IS NULL OR coalesce(live.state, done.state) IN (SELECT value FROM json_each(?8)))
    AND (?9 IS NULL OR NOT EXISTS (
        SELECT 1 FROM json_each(?9) AS wanted WHERE NOT EXISTS (
            SELECT 1 FROM label AS other
            WHERE other.name = wanted.key AND other.value = wanted.value AND other.job = job.id)))

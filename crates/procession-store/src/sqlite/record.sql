-- One job with all that is kept of it. ?1: its id; ?2: whether output tails and the
-- result are wanted: where they are not, their pages are not read.
SELECT job.id, task.name AS task, live.state AS live_state, done.state AS done_state,
    coalesce(live.attempt, done.attempt) AS attempt, job.max_attempts, done.outcome,
    job.submitted_at, CASE live.state WHEN 'scheduled' THEN live.run_at ELSE job.run_at END AS run_at,
    CASE WHEN live.job IS NULL THEN job.expires_at ELSE live.expires_at END AS expires_at,
    coalesce(live.begun_at, done.begun_at, attempt.started_at, live.started_at) AS started_at, done.finished_at,
    CASE WHEN done.begun_at IS NULL THEN attempt.run_ms
        ELSE max(done.finished_at / 1000 - done.begun_at / 1000, 0) END AS run_ms,
    coalesce(live.cancel_at, done.cancel_at) AS cancel_at,
    attempt.fence, attempt.user_us, attempt.system_us, attempt.max_rss_bytes,
    attempt.stdout_total, attempt.stdout_written, attempt.stdout_place,
    attempt.stderr_total, attempt.stderr_written, attempt.stderr_place, attempt.output_limit,
    CASE WHEN ?2 THEN attempt.stdout_tail ELSE x'' END AS stdout_tail,
    CASE WHEN ?2 THEN attempt.stderr_tail ELSE x'' END AS stderr_tail,
    CASE WHEN ?2 THEN done.result_json END AS result_json, done.result_len,
    CASE WHEN ?2 THEN done.result END AS result, done.artifacts,
    done.progress, done.progress_message,
    job.parent, job.child_index, job.retry_of, job.lane, job.labels, job.priority, job.submitted_by,
    coalesce(attempt.node, CASE live.holds_slot WHEN 1 THEN live.node END) AS node,
    coalesce(attempt.config_revision, job.config_revision) AS config_revision,
    coalesce(attempt.containment, live.containment) AS containment,
    coalesce(attempt.leaked, 0) AS leaked, job.payload_len,
    family.job IS NOT NULL AS is_parent
FROM job
    JOIN task ON task.id = job.task
    LEFT JOIN live ON live.job = job.id
    LEFT JOIN done ON done.job = job.id
    LEFT JOIN family ON family.job = job.id
    LEFT JOIN attempt ON attempt.job = job.id AND attempt.attempt = coalesce(live.attempt, done.attempt)
WHERE job.id = ?1

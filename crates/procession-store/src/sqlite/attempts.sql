-- The executions of job ?1 that are over, then the one that runs.
SELECT attempt, fence, outcome, claimed_at, started_at, finished_at, run_ms, user_us, system_us, max_rss_bytes,
    stdout_total, stdout_written, stdout_place, stdout_tail, stderr_total, stderr_written, stderr_place,
    stderr_tail, output_limit, containment, leaked, node, config_revision
FROM attempt WHERE job = ?1
UNION ALL
SELECT live.attempt, live.fence, NULL, live.claimed_at, live.started_at, NULL, NULL, NULL, NULL, NULL,
    NULL, NULL, NULL, NULL, NULL, NULL, NULL,
    NULL, NULL, live.containment, 0, live.node, job.config_revision
FROM live JOIN job ON job.id = live.job WHERE live.job = ?1 AND live.state = 'running'
ORDER BY 1

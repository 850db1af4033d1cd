//! A task's command and environment, filled for one job. Admission assembles them with
//! stand-ins to know that the kernel will take them; the runner assembles them again
//! with the real facts. One function for both, so they cannot differ.

use std::collections::BTreeMap;

use crate::limits::{MAX_ARGUMENT, MAX_ARGUMENTS};
use crate::placeholder::{FillError, JobFact, LeadingDash, Template, Values};
use crate::task::{Channel, Task};

/// What every job of a server shares.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Surroundings {
    /// The server's own environment, of which jobs get what their task names.
    pub environment: BTreeMap<String, String>,
    /// Absolute folder below which scratch folders and payload files lie.
    pub job_folder: String,
}

/// Command and environment of one attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Command {
    /// The arguments, the program's name first.
    pub argv: Vec<String>,
    /// The whole environment.
    pub env: BTreeMap<String, String>,
}

/// The kernel would refuse the command.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TooLarge {
    /// One string is too long.
    #[error(
        "an argument or variable of {0} bytes is more than the kernel takes (128 KiB); let the payload go to stdin or a file"
    )]
    One(usize),
    /// All together are.
    #[error(
        "arguments and environment of {0} bytes are more than the kernel takes (2 MiB); let the payload go to stdin or a file"
    )]
    All(usize),
}

/// Variables a child always gets where the server has them.
const ALWAYS: [&str; 6] = ["PATH", "HOME", "USER", "LANG", "TZ", "TMPDIR"];

/// Fills `task`'s command and environment; all problems at once.
pub fn assemble(task: &Task, values: Values<'_>, around: &Surroundings) -> Result<Command, Vec<FillError>> {
    let dash = if task.allow_leading_dash { LeadingDash::Allowed } else { LeadingDash::Refused };
    let mut errors = Vec::new();
    let mut fill = |template: &Template, dash| match template.fill(values, dash) {
        Ok(text) => Some(text),
        Err(error) => {
            errors.push(error);
            None
        }
    };
    let argv: Vec<String> = task.command.iter().filter_map(|template| fill(template, dash)).collect();
    let declared: BTreeMap<String, String> = task
        .env
        .iter()
        .filter_map(|(name, template)| Some((name.clone(), fill(template, LeadingDash::Allowed)?)))
        .collect();
    if !errors.is_empty() {
        return Err(errors);
    }
    let mut env = inherited(task, around);
    env.extend(declared);
    env.extend(own_variables(task, values));
    Ok(Command { argv, env })
}

fn inherited(task: &Task, around: &Surroundings) -> BTreeMap<String, String> {
    let wanted = |name: &str| {
        ALWAYS.contains(&name)
            || name.starts_with("LC_")
            || task.env_inherit.iter().any(|pattern| match pattern.strip_suffix('*') {
                Some(prefix) => name.starts_with(prefix),
                None => name == pattern,
            })
    };
    // What is ours (PROCESSION_TOKEN above all) never reaches a job by a wide pattern.
    let ours = |name: &str| name.starts_with("PROCESSION_");
    around
        .environment
        .iter()
        .filter(|(name, _)| wanted(name) && !ours(name))
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect()
}

/// `PROCESSION_*` and what comes with them; these cannot be set by a task.
fn own_variables(task: &Task, values: Values<'_>) -> Vec<(String, String)> {
    let fact = |fact| values.job.facts.get(&fact).cloned().unwrap_or_default();
    let dir = fact(JobFact::Dir);
    let mut own = vec![
        ("PROCESSION_JOB_ID".into(), fact(JobFact::Id)),
        ("PROCESSION_TASK".into(), task.name.to_string()),
        ("PROCESSION_ATTEMPT".into(), fact(JobFact::Attempt)),
        ("PROCESSION_PROGRESS".into(), format!("{dir}/progress")),
        ("PROCESSION_DIR".into(), dir.clone()),
        ("PROCESSION_ARTIFACTS".into(), fact(JobFact::Artifacts)),
        ("PROCESSION_RESULT".into(), fact(JobFact::Result)),
    ];
    own.push(("TRACEPARENT".into(), trace_parent(values, &fact(JobFact::Id))));
    if task.input.channel == Channel::Env {
        own.push(("PROCESSION_PAYLOAD".into(), values.payload_text.to_owned()));
    } else if !values.job.payload_file.is_empty() {
        own.push(("PROCESSION_PAYLOAD".into(), values.job.payload_file.clone()));
    }
    if let Some(parent) = &values.job.parent {
        own.push(("PROCESSION_INDEX".into(), fact(JobFact::Index)));
        own.push(("PROCESSION_PARENT_ID".into(), parent.id.clone()));
        own.push(("PROCESSION_PARENT_PAYLOAD".into(), parent.payload_file.clone()));
    }
    for name in task.secrets.keys() {
        own.push((format!("{name}_FILE"), format!("{dir}/secrets/{name}")));
    }
    if !task.env.contains_key("PYTHONUNBUFFERED") {
        own.push(("PYTHONUNBUFFERED".into(), "1".into()));
    }
    own
}

/// The client's trace context goes on in the job; without one the job's id is its trace.
fn trace_parent(values: Values<'_>, job: &str) -> String {
    if let Some(theirs) = values.request.headers.get("traceparent") {
        return theirs.clone();
    }
    let trace: String = job.chars().filter(|c| *c != '-').collect();
    let span = trace.get(16..).unwrap_or("0000000000000001");
    format!("00-{trace}-{span}-00")
}

impl Command {
    /// Whether the kernel will take it.
    pub fn check_size(&self) -> Result<(), TooLarge> {
        let variable = |(name, value): (&String, &String)| name.len() + 1 + value.len();
        let sizes = self.argv.iter().map(String::len).chain(self.env.iter().map(variable));
        let (mut longest, mut total) = (0, 0);
        for size in sizes {
            longest = longest.max(size + 1);
            total += size + 1 + size_of::<usize>();
        }
        if longest > MAX_ARGUMENT {
            return Err(TooLarge::One(longest));
        }
        // The kernel also counts the program's path and the auxiliary vector's strings.
        if total + 8 * 1024 > MAX_ARGUMENTS {
            return Err(TooLarge::All(total));
        }
        Ok(())
    }
}

impl Surroundings {
    /// Nothing but a `PATH`.
    pub fn for_testing() -> Self {
        Self {
            environment: [("PATH".to_owned(), "/usr/bin:/bin".to_owned())].into(),
            job_folder: "/jobs".into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::placeholder::{JobFacts, RequestValues};
    use serde_json::Value;

    fn environment(task: &Task, server: &[(&str, &str)]) -> BTreeMap<String, String> {
        let around = Surroundings {
            environment: server.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect(),
            job_folder: "/jobs".into(),
        };
        let facts = JobFacts::widest("/jobs");
        let request = RequestValues::default();
        let values = Values { payload: &Value::Null, payload_text: "null", request: &request, job: &facts };
        assemble(task, values, &around).expect("nothing to fill").env
    }

    #[test]
    fn the_environment_starts_empty() {
        let mut task = Task::for_testing("t", &["true"]);
        task.env_inherit = vec!["CUDA_*".into(), "HTTPS_PROXY".into(), "PROCESSION_*".into()];
        task.env.insert("PATH".into(), Template::parse("/job/bin").expect("plain"));
        let server = [
            ("PATH", "/usr/bin"),
            ("LD_PRELOAD", "x"),
            ("PYTHONPATH", "x"),
            ("LC_ALL", "C"),
            ("CUDA_HOME", "c"),
            ("HTTPS_PROXY", "p"),
            ("HTTPS_PROXYX", "x"),
            ("PROCESSION_TOKEN", "t"),
        ];
        let env = environment(&task, &server);
        for absent in ["LD_PRELOAD", "PYTHONPATH", "HTTPS_PROXYX", "PROCESSION_TOKEN"] {
            assert!(!env.contains_key(absent), "{absent}");
        }
        for (name, value) in [("LC_ALL", "C"), ("CUDA_HOME", "c"), ("HTTPS_PROXY", "p"), ("PATH", "/job/bin")]
        {
            assert_eq!(env.get(name).map(String::as_str), Some(value));
        }
    }
}

//! The children that a task makes of a request: each judged as a request of its own task would be,
//! its complaints at the places of the parent's body that they are about.

use std::sync::Arc;

use super::{Complaint, MOST_COMPLAINTS, Rejection, RequestBody, Tasks, ValidChild, alone};
use crate::command::Surroundings;
use crate::family::{FanOut, MAX_CHILDREN, MAX_FAMILY_BYTES, Over};
use crate::payload::Payload;
use crate::placeholder::RequestValues;
use crate::task::Task;

/// What is below one request, as it grows.
pub(super) struct Brood<'a> {
    request: &'a RequestValues,
    surroundings: &'a Surroundings,
    tasks: &'a Tasks,
    room: Room,
}

/// What may still be below the request.
#[derive(Clone, Copy)]
struct Room {
    jobs: usize,
    /// Of their payloads.
    bytes: usize,
}

impl<'a> Brood<'a> {
    pub(super) fn new(request: &'a RequestValues, surroundings: &'a Surroundings, tasks: &'a Tasks) -> Self {
        let room = Room { jobs: MAX_CHILDREN, bytes: MAX_FAMILY_BYTES };
        Self { request, surroundings, tasks, room }
    }

    pub(super) fn children(
        &mut self,
        fan_out: &FanOut,
        parent: &Payload,
    ) -> Result<Vec<ValidChild>, Rejection> {
        let Some(task) = self.tasks.get(&fan_out.task) else {
            let detail = format!("`{}`, which it fans out to, is not in the config", fan_out.task);
            return Err(Rejection::Payload(vec![Complaint { pointer: String::new(), detail }]));
        };
        match &fan_out.over {
            Over::Pointer(pointer) => self.of_elements(task, pointer, parent),
            Over::Count(count) => self.of_count(task, *count as usize, parent),
        }
    }

    fn of_elements(
        &mut self,
        task: &Arc<Task>,
        pointer: &str,
        parent: &Payload,
    ) -> Result<Vec<ValidChild>, Rejection> {
        let payloads = parent.elements(pointer).ok_or_else(|| {
            let detail = "this is to be a list: one job for each element".to_owned();
            Rejection::Payload(vec![Complaint { pointer: pointer.to_owned(), detail }])
        })?;
        let bytes = payloads.iter().map(|payload| payload.bytes().len()).sum();
        self.take(Room { jobs: payloads.len(), bytes }, pointer)?;
        let mut children: Vec<ValidChild> = Vec::with_capacity(payloads.len());
        let mut rejected: Option<Rejection> = None;
        for (index, payload) in payloads.into_iter().enumerate() {
            match self.child(task, payload) {
                Ok(child) => children.push(child),
                Err(rejection) => {
                    if !join(&mut rejected, rejection.below(&format!("{pointer}/{index}"))) {
                        break;
                    }
                }
            }
        }
        rejected.map_or(Ok(children), Err)
    }

    /// All are the same: one is judged.
    fn of_count(
        &mut self,
        task: &Arc<Task>,
        count: usize,
        parent: &Payload,
    ) -> Result<Vec<ValidChild>, Rejection> {
        self.take(Room { jobs: 1, bytes: parent.bytes().len() }, "")?;
        let before = self.room;
        let one = self.child(task, parent.clone())?;
        let others = count.saturating_sub(1);
        let of_others = |one: usize| one.saturating_mul(others);
        let jobs = of_others(1 + before.jobs - self.room.jobs);
        let bytes = of_others(parent.bytes().len() + before.bytes - self.room.bytes);
        self.take(Room { jobs, bytes }, "")?;
        Ok(vec![one; count])
    }

    fn take(&mut self, asked: Room, pointer: &str) -> Result<(), Rejection> {
        let too_many = |what: String| {
            let detail = format!("it makes more than {what}; divide the request");
            Rejection::Payload(vec![Complaint { pointer: pointer.to_owned(), detail }])
        };
        self.room = Room {
            jobs: (self.room.jobs.checked_sub(asked.jobs))
                .ok_or_else(|| too_many(format!("{MAX_CHILDREN} jobs in all")))?,
            bytes: (self.room.bytes.checked_sub(asked.bytes))
                .ok_or_else(|| too_many(format!("{} MiB of payloads in all", MAX_FAMILY_BYTES >> 20)))?,
        };
        Ok(())
    }

    fn child(&mut self, task: &Arc<Task>, payload: Payload) -> Result<ValidChild, Rejection> {
        let body = RequestBody::Json(payload);
        let mut job = alone(task, &body, self.request, self.surroundings)?;
        let RequestBody::Json(payload) = body else { unreachable!("it was made two lines above") };
        if let Some(fan_out) = &task.fan_out {
            job.children = self.children(fan_out, &payload)?;
        }
        Ok(ValidChild { task: task.clone(), payload: payload.bytes().clone(), job })
    }
}

/// Adds the complaints of one child to those before; `false`: there are enough.
fn join(all: &mut Option<Rejection>, more: Rejection) -> bool {
    use Rejection::{Argument, Payload};
    match (all.as_mut(), more) {
        (Some(Payload(all)), Payload(more)) | (Some(Argument(all)), Argument(more)) => {
            all.extend(more);
            all.len() < MOST_COMPLAINTS
        }
        // Of the two kinds, the first is mended first.
        (Some(_), _) => true,
        (None, more @ Rejection::TooLarge(_)) => {
            *all = Some(more);
            false
        }
        (None, more) => {
            *all = Some(more);
            true
        }
    }
}

impl Rejection {
    /// As the complaint about what stands at `pointer`.
    fn below(self, pointer: &str) -> Self {
        let place = |complaints: Vec<Complaint>| {
            let moved = |complaint: Complaint| Complaint {
                pointer: format!("{pointer}{}", complaint.pointer),
                ..complaint
            };
            complaints.into_iter().map(moved).collect()
        };
        match self {
            Rejection::Payload(complaints) => Rejection::Payload(place(complaints)),
            Rejection::Argument(complaints) => Rejection::Argument(place(complaints)),
            too_large @ Rejection::TooLarge(_) => too_large,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::*;
    use crate::family::{FanOut, MAX_CHILDREN, Over};
    use serde_json::json;

    fn family() -> (Task, Tasks) {
        let mut child = Task::for_testing("image", &["look", "{{payload.url}}"]);
        let schema = json!({"type": "object", "required": ["url"]});
        child.input.schema = Some(Schema::compile(schema).expect("a schema"));
        child.lane = Some(Template::parse("{{payload.url}}").expect("a template"));
        let mut parent = Task::for_testing("train", &[]);
        parent.fan_out = Some(FanOut {
            task: child.name.clone(),
            over: Over::Pointer("/images".into()),
            max_running: crate::limits::Limit::Unlimited,
            on_failure: crate::family::OnFailure::Finish,
            join_decides: false,
        });
        let tasks = [parent.clone(), child].into_iter().map(|task| (task.name.clone(), Arc::new(task)));
        (parent, tasks.collect())
    }

    fn judge(text: &str) -> Result<ValidJob, Rejection> {
        let (parent, tasks) = family();
        let payload = Payload::parse(Bytes::copy_from_slice(text.as_bytes())).expect("JSON");
        let request = RequestValues::default();
        validate(&parent, &RequestBody::Json(payload), &request, &Surroundings::for_testing(), &tasks)
    }

    #[test]
    fn each_element_is_a_child_with_its_own_exact_bytes() {
        let job = judge(r#"{"images": [{"url": "a",  "n": 12345678901234567890123}, {"url":"b"}]}"#)
            .expect("valid");
        let children = job.into_children();
        assert_eq!(children[0].payload, r#"{"url": "a",  "n": 12345678901234567890123}"#);
        let lanes: Vec<_> = children.iter().map(|child| child.job.lane()).collect();
        assert_eq!(lanes, [Some("a"), Some("b")]);
        assert_eq!(judge(r#"{"images": []}"#).expect("valid").into_children(), []);
    }

    #[test]
    fn a_count_is_judged_once_and_bounded_with_all_below_it() {
        let (mut parent, mut tasks) = family();
        let mut judge = |outer: u32, inner: u32, bytes: usize| {
            let count = |task: &str, count| FanOut {
                task: task.parse().expect("a name"),
                over: Over::Count(count),
                ..parent.fan_out.clone().expect("a family")
            };
            let mut between = Task::for_testing("between", &[]);
            between.fan_out = Some(count("leaf", inner));
            parent.fan_out = Some(count("between", outer));
            for task in [between, Task::for_testing("leaf", &["true"])] {
                tasks.insert(task.name.clone(), Arc::new(task));
            }
            let text = format!("\"{}\"", "x".repeat(bytes));
            let body = RequestBody::Json(Payload::parse(text.into()).expect("JSON"));
            let request = RequestValues::default();
            validate(&parent, &body, &request, &Surroundings::for_testing(), &tasks)
        };
        let job = judge(99, 100, 1).expect("99 and 9,900");
        assert_eq!(job.clone().into_children().len(), 99);
        assert!(job.into_children().iter().all(|child| child.job.children.len() == 100));
        let said = |rejection: Result<ValidJob, Rejection>| match rejection.expect_err("too much") {
            Rejection::Payload(complaints) => complaints[0].detail.clone(),
            other => panic!("{other:?}"),
        };
        assert!(said(judge(100, 100, 1)).contains("10000 jobs"), "100 and 10,000");
        assert!(judge(2, 30, 1 << 20).is_ok(), "62 MiB");
        assert!(said(judge(2, 32, 1 << 20)).contains("64 MiB"), "66 MiB");
    }

    #[test]
    fn all_children_complain_at_their_places() {
        let pointers = |text| match judge(text).expect_err("bad") {
            Rejection::Payload(complaints) => {
                complaints.into_iter().map(|complaint| complaint.pointer).collect::<Vec<_>>()
            }
            other => panic!("{other:?}"),
        };
        assert_eq!(pointers(r#"{"images": [{"url": "a"}, {}, 3]}"#), ["/images/1", "/images/2"]);
        assert_eq!(pointers(r#"{"images": 3}"#), ["/images"]);
        assert_eq!(pointers("{}"), ["/images"]);
        let many = json!({"images": vec![json!({"url": "a"}); MAX_CHILDREN + 1]}).to_string();
        assert_eq!(pointers(&many), ["/images"]);
        let rows = format!(r#"{{"images": [{}]}}"#, vec!["1"; 5000].join(","));
        assert_eq!(pointers(&rows).len(), MOST_COMPLAINTS);
    }
}

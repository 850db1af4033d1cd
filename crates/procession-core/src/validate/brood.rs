//! The children that a task makes of a request: each judged as a request of its own task would be,
//! its complaints at the places of the parent's body that they are about.

use std::sync::Arc;

use super::{Complaint, MOST_COMPLAINTS, Rejection, RequestBody, Tasks, ValidChild, alone};
use crate::command::Surroundings;
use crate::family::{FanOut, MAX_CHILDREN, Over};
use crate::payload::Payload;
use crate::placeholder::RequestValues;
use crate::task::Task;

/// What is below one request, as it grows.
pub(super) struct Brood<'a> {
    pub request: &'a RequestValues,
    pub surroundings: &'a Surroundings,
    pub tasks: &'a Tasks,
    /// Jobs that may still be below the request.
    pub room: usize,
}

impl Brood<'_> {
    pub(super) fn children(
        &mut self,
        fan_out: &FanOut,
        parent: &Payload,
    ) -> Result<Vec<ValidChild>, Rejection> {
        let Some(task) = self.tasks.get(&fan_out.task) else {
            let detail = format!("`{}`, which it fans out to, is not in the config", fan_out.task);
            return Err(Rejection::Payload(vec![Complaint { pointer: String::new(), detail }]));
        };
        let payloads = match &fan_out.over {
            Over::Pointer(pointer) => parent.elements(pointer).ok_or_else(|| {
                let detail = "this is to be a list: one job for each element".to_owned();
                Rejection::Payload(vec![Complaint { pointer: pointer.clone(), detail }])
            })?,
            Over::Count(count) => vec![parent.clone(); (*count as usize).min(MAX_CHILDREN + 1)],
        };
        let place = |index: usize| match &fan_out.over {
            Over::Pointer(pointer) => format!("{pointer}/{index}"),
            Over::Count(_) => String::new(),
        };
        self.room = self.room.checked_sub(payloads.len()).ok_or_else(|| {
            let detail = format!("it makes more than {MAX_CHILDREN} jobs in all; divide the request");
            let pointer = place(0).trim_end_matches("/0").to_owned();
            Rejection::Payload(vec![Complaint { pointer, detail }])
        })?;
        let mut children: Vec<ValidChild> = Vec::with_capacity(payloads.len());
        let mut rejected: Option<Rejection> = None;
        for (index, payload) in payloads.into_iter().enumerate() {
            match self.child(task, payload) {
                Ok(child) => children.push(child),
                Err(rejection) => {
                    let full = !join(&mut rejected, rejection.below(&place(index)));
                    // The others have the same payload, or there is enough to mend.
                    if full || matches!(fan_out.over, Over::Count(_)) {
                        break;
                    }
                }
            }
        }
        rejected.map_or(Ok(children), Err)
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
    use crate::family::{FanOut, Over};
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

//! Families and jobs of several attempts in the storm: what they are, and what has to be found of
//! them afterwards.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use super::job::Dice;
use crate::harness::{BOUND, Receiver, Request, Response, Server, wait_for};

/// Tasks beside those of `job`. Each attempt says that it ran, and the end of each but `child` is told.
const TASKS: &str = r#"
[task.flaky]
command = ["sh", "-c", '''
echo "$PROCESSION_JOB_ID.$PROCESSION_ATTEMPT" >> kin
[ "$PROCESSION_ATTEMPT" -gt "$1" ] || exit 75
exit "$2"
''', "sh", "{{payload.fails}}", "{{payload.code}}"]
retry = { max_attempts = 5, on = ["exit:75"], backoff = "30ms" }
max_queued = 100000
callback = { url = "RECEIVER" }
[task.child]
command = ["sh", "-c", '''
echo "$PROCESSION_JOB_ID.$PROCESSION_ATTEMPT" >> kin
printf "%s" "$PROCESSION_INDEX" > "$PROCESSION_RESULT"
exit "$1"
''', "sh", "{{payload}}"]
lane = "{{payload}}"
max_running_per_lane = 4
[task.family]
fan_out = { task = "child", over = "/codes", max_running = 3 }
max_queued = 100000
callback = { url = "RECEIVER" }
[task.joined]
fan_out = { task = "child", over = "/codes", join = ["sh", "-c", 'cat > "$PROCESSION_RESULT"'], join_decides = true }
max_queued = 100000
callback = { url = "RECEIVER" }
[task.stopping]
fan_out = { task = "child", over = "/codes", on_failure = "stop" }
max_queued = 100000
callback = { url = "RECEIVER" }
[task.grand]
fan_out = { task = "family", over = "/families" }
max_queued = 100000
callback = { url = "RECEIVER" }
"#;

/// The tasks, for a receiver at this URL.
pub fn tasks(receiver: &str) -> String {
    TASKS.replace("RECEIVER", receiver)
}

/// One of them.
#[derive(Clone, Debug)]
pub enum Kin {
    /// Fails so often, then ends with the code.
    Flaky { fails: u64, code: u64 },
    /// A family of children that exit with these.
    Family { task: &'static str, codes: Vec<u64> },
    /// A family of families.
    Grand { families: Vec<Vec<u64>> },
}

impl Kin {
    /// One of the storm's.
    pub fn deal(dice: &mut Dice) -> Self {
        let codes = |dice: &mut Dice| -> Vec<u64> {
            (0..dice.below(9)).map(|_| if dice.below(4) == 0 { dice.below(70) } else { 0 }).collect()
        };
        match dice.below(5) {
            0 | 1 => Kin::Flaky { fails: dice.below(4), code: dice.below(70) },
            2 => Kin::Grand { families: (0..dice.below(4)).map(|_| codes(dice)).collect() },
            _ => Kin::Family { task: dice.pick(&["family", "joined", "stopping"]), codes: codes(dice) },
        }
    }

    pub fn request(&self) -> Request {
        match self {
            Kin::Flaky { fails, code } => Request::submit("flaky", &json!({"fails": fails, "code": code})),
            Kin::Family { task, codes } => Request::submit(task, &json!({"codes": codes})),
            Kin::Grand { families } => {
                let families: Vec<Value> = families.iter().map(|codes| json!({"codes": codes})).collect();
                Request::submit("grand", &json!({"families": families}))
            }
        }
    }

    /// It and all below it.
    pub fn jobs(&self) -> usize {
        match self {
            Kin::Flaky { .. } => 1,
            Kin::Family { codes, .. } => 1 + codes.len(),
            Kin::Grand { families } => 1 + families.iter().map(|codes| 1 + codes.len()).sum::<usize>(),
        }
    }

    /// Those of them whose end is told.
    fn told(&self, server: &Server, id: &str) -> Vec<String> {
        let Kin::Grand { .. } = self else { return vec![id.to_owned()] };
        let below = children(server, &server.job(id)).expect("a list of children");
        let below = below.iter().map(|child| child["id"].as_str().expect("an id").to_owned());
        below.chain([id.to_owned()]).collect()
    }

    /// What is wrong with it; nothing, if all is as it must be.
    pub fn faults(&self, server: &Server, id: &str, ran: &BTreeMap<String, usize>) -> Vec<String> {
        let job = server.over(id);
        let wrong = match self {
            Kin::Flaky { fails, code } => flaky(server, &job, *fails, *code, ran),
            Kin::Family { task, codes } => family(server, &job, task, codes, ran),
            Kin::Grand { families } => grand(server, &job, families, ran),
        };
        wrong.err().map(|what| format!("code of {self:?}, job {id}: {what}: {job}")).into_iter().collect()
    }
}

/// What is wrong with the callbacks: each end was told as it was, under one id, which no other has.
pub fn told_wrongly(server: &Server, receiver: &Receiver, kin: &[(String, Kin)]) -> Vec<String> {
    let jobs: BTreeSet<String> = kin.iter().flat_map(|(id, kin)| kin.told(server, id)).collect();
    wait_for("every end is told and recorded as told", BOUND, || {
        server.get("/v1/deliveries?state=pending").expect(200).json()["items"] == json!([])
    });
    let mut told = BTreeMap::new();
    for call in receiver.calls() {
        let tale = (call.header("webhook-id").to_owned(), call.json()["data"]["outcome"].to_string());
        told.entry(call.job()).or_insert_with(BTreeSet::new).insert(tale);
    }
    let wrong = |id: &&String| {
        let outcome = server.job(id)["outcome"].to_string();
        told.get(*id) != Some(&BTreeSet::from([(format!("msg_{id}_0"), outcome)]))
    };
    let never = jobs.iter().filter(wrong).map(|id| format!("{id}: {:?}", told.get(id)));
    never.chain(told.keys().filter(|id| !jobs.contains(*id)).cloned()).collect()
}

fn same(what: &str, found: &Value, expected: Value) -> Result<(), String> {
    if *found == expected { Ok(()) } else { Err(format!("{what} is not {expected} but {found}")) }
}

fn flaky(
    server: &Server,
    job: &Value,
    fails: u64,
    code: u64,
    ran: &BTreeMap<String, usize>,
) -> Result<(), String> {
    same("outcome", &job["outcome"], json!({"kind": "exited", "code": code}))?;
    same("attempt", &job["attempt"], json!(fails + 1))?;
    let id = job["id"].as_str().unwrap_or_default();
    let attempts = server.get(&format!("/v1/jobs/{id}/attempts")).expect(200).json();
    let codes: Vec<&Value> =
        attempts["items"].as_array().into_iter().flatten().map(|attempt| &attempt["exit_code"]).collect();
    let mut expected = vec![75; fails as usize];
    expected.push(code);
    same("codes", &json!(codes), json!(expected))?;
    (1..=fails + 1).try_for_each(|attempt| once(id, attempt, ran))
}

fn once(id: &str, attempt: u64, ran: &BTreeMap<String, usize>) -> Result<(), String> {
    match ran.get(&format!("{id}.{attempt}")) {
        Some(1) => Ok(()),
        times => Err(format!("attempt {attempt} of {id} ran {times:?} times")),
    }
}

fn family(
    server: &Server,
    job: &Value,
    task: &str,
    codes: &[u64],
    ran: &BTreeMap<String, usize>,
) -> Result<(), String> {
    let failed = codes.iter().filter(|code| **code != 0).count();
    let children = children(server, job)?;
    if children.len() != codes.len() {
        return Err(format!("{} children for {}", children.len(), codes.len()));
    }
    if task == "stopping" && failed > 0 {
        // How many of the others came to their own end is a race.
        let over = children
            .iter()
            .all(|child| ["succeeded", "failed", "cancelled"].map(Value::from).contains(&child["state"]));
        let kind = job["outcome"]["kind"] == "children_failed";
        return if over && kind { Ok(()) } else { Err("it was not stopped".into()) };
    }
    let decided = failed == 0 || task == "joined";
    let outcome = match decided {
        true => json!({"kind": "exited", "code": 0}),
        false => json!({"kind": "children_failed", "failed": failed}),
    };
    same("outcome", &job["outcome"], outcome)?;
    for (index, (child, code)) in children.iter().zip(codes).enumerate() {
        same("a child's code", &child["exit_code"], json!(code))?;
        once(child["id"].as_str().unwrap_or_default(), 1, ran)
            .map_err(|what| format!("child {index}: {what}"))?;
    }
    let indices: Vec<usize> = (0..codes.len()).collect();
    if task != "joined" {
        return same("result", &job["result"], json!(indices));
    }
    let joined = job["result"]["children"].as_array().into_iter().flatten();
    same("what was joined", &json!(joined.map(|child| &child["result"]).collect::<Vec<_>>()), json!(indices))
}

fn grand(
    server: &Server,
    job: &Value,
    families: &[Vec<u64>],
    ran: &BTreeMap<String, usize>,
) -> Result<(), String> {
    let children = children(server, job)?;
    if children.len() != families.len() {
        return Err(format!("{} families for {}", children.len(), families.len()));
    }
    for (child, codes) in children.iter().zip(families) {
        let whole = server.job(child["id"].as_str().unwrap_or_default());
        family(server, &whole, "family", codes, ran)?;
    }
    let failed = families.iter().filter(|codes| codes.iter().any(|code| *code != 0)).count();
    let outcome = match failed {
        0 => json!({"kind": "exited", "code": 0}),
        failed => json!({"kind": "children_failed", "failed": failed}),
    };
    same("outcome", &job["outcome"], outcome)
}

fn children(server: &Server, job: &Value) -> Result<Vec<Value>, String> {
    let path = format!("/v1/jobs/{}/children", job["id"].as_str().unwrap_or_default());
    let answer: Response = server.get(&path).expect(200);
    answer.json()["items"].as_array().cloned().ok_or_else(|| "no list of children".into())
}

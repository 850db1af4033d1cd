//! Randomness of the operating system: ids, claim ids, tokens.

use jiff::Timestamp;
use procession_core::id::JobId;

/// `N` bytes nobody can guess.
pub fn bytes<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).expect("the kernel gives random bytes once it has booted");
    bytes
}

/// The id of a job submitted now.
pub fn job_id() -> JobId {
    JobId::new(Timestamp::now().as_millisecond().unsigned_abs(), bytes())
}

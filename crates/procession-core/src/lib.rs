//! What a job is and what may happen to it.
//!
//! Everything here is a function of values: no I/O, no clock, no randomness, no
//! async. The rooms that do things (store, keeper, program) ask this crate what
//! to do and then do it.
//!
//! Stations of a job, each made only by the one before:
//! `Request -> ValidJob -> Admitted -> Claimed + Lease -> Launch -> ExitRecord -> Outcome -> JobState`.

pub mod admission;
pub mod api;
pub mod attempt;
pub mod callback;
pub mod command;
pub mod condition;
pub mod cron;
pub mod delivery;
pub mod family;
pub mod frame;
pub mod id;
pub mod job;
pub mod launch;
pub mod limits;
pub mod outbox;
pub mod outcome;
pub mod output;
pub mod payload;
pub mod placeholder;
pub mod quantity;
pub mod rate;
pub mod record;
pub mod recovery;
pub mod retry;
pub mod schedule;
pub mod state;
pub mod target;
pub mod task;
pub mod validate;
pub mod webhook;

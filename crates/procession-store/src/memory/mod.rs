//! The reference model: the contract in the plainest data structures, under one lock, with
//! every question answered by looking at every job. It is there to be obviously right, not
//! to be fast; the other backends are measured against it by the conformance suite.
//! Nothing of it outlives the process.

mod cancel;
mod claim;
mod delete;
mod delivery;
mod expire;
mod family;
mod finish;
mod list;
mod query;
mod queue;
mod release;
mod schedule;
mod started;
mod store;
mod submit;
mod tasks;

pub use store::MemoryStore;

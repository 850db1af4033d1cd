//! The embedded database: one file, one writer, a few readers.
//!
//! Every write is a function of a transaction (`writer`) and lies in the file of its verb;
//! every read one of a connection (`readers`). The file belongs to one process at a time,
//! which the program sees to with a lock. Called through [`crate::Store`] by all of the program;
//! a store that runs, or does not, is copied by [`backup()`], looked at by [`Exam`], and what is
//! left of a damaged one is saved by [`salvage()`].

mod backup;
mod cancel;
mod claim;
mod column;
mod delete;
mod delivery;
mod ending;
mod exam;
mod expire;
mod family;
mod fault;
mod finish;
mod lanes;
mod ledger;
mod list;
mod log;
mod open;
mod place;
mod probe;
mod query;
mod readers;
mod record;
mod release;
mod salvage;
mod schedule;
mod schema;
mod started;
mod statement;
mod store;
mod submit;
mod tasks;
#[cfg(test)]
mod tests;
mod watch;
mod writer;

pub use backup::{Copied, backup};
pub use exam::{Exam, Fault, FileKind, StoredFile};
pub use place::check_place;
pub use salvage::{Salvage, Saved, salvage};
pub use store::SqliteStore;

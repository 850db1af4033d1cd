//! The contract on every backend, and what is particular to each.

mod conformance;
mod crash_model;
mod faulty;
mod fixture;
mod model;
mod sqlite_only;

conformance!(sqlite, crate::fixture::sqlite);
conformance!(memory, crate::fixture::memory);

//! The contract on every backend, and what is particular to each.

mod conformance;
mod fixture;

conformance!(sqlite, crate::fixture::sqlite);

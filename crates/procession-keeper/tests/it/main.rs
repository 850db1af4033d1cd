//! The keeper against hostile children, at both containment levels.
//!
//! Nothing waits for time to pass: `wait_for` polls a condition under a bound.
#![expect(clippy::disallowed_methods, reason = "the harness starts keepers, and polls")]

mod admin;
mod clean;
mod ends;
mod escape;
mod files;
mod handover;
mod heir;
mod keeper;
mod model;
mod notify;
mod old_kernel;
mod renew;
mod reuse;
mod server;
mod slice;
mod start;
mod streams;
mod tree;

//! Sends callbacks: one request to a URL that the config, or within its bounds a client,
//! names. No proxy, no redirect, no second look at a name: what was checked is what is
//! connected to.
//!
//! When, how often and with what is the caller's affair (`maintenance`), and what an answer
//! means core's (`delivery`).

mod address;
mod connect;
mod post;
mod tls;

#[cfg(test)]
mod tests;

pub use connect::Reach;
pub use post::{Failure, Messenger, Post, Reply};

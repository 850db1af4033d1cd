//! The configuration: `procession.toml`, read once, resolved, from there on only read.
//!
//! [`find()`] tells where it is, [`load()`] makes a [`Config`] of it or says everything that is
//! wrong with it at once. The tasks it yields are core's; nothing here runs, binds or
//! writes anything. Called by `serve`, `check` and `reload`; routes with a text reply fill
//! it with [`ReplyText`]. `docs/config.md` lists the keys.

mod diagnostic;
mod find;
mod json;
mod keys;
mod limits;
mod listen;
mod load;
mod log;
mod nearest;
mod place;
mod program;
mod reply_text;
mod report;
mod retention;
mod schedule;
mod schema;
mod secret;
mod section;
mod server;
mod snapshot;
mod syntax;
mod task;

#[cfg(test)]
mod tests;

pub use diagnostic::{Diagnostic, Severity};
pub use find::{NoConfig, find};
pub use listen::{Listen, address};
pub use load::{Config, LoadOptions, load, restore};
pub use log::Logging;
pub use place::data_dir;
pub use reply_text::ReplyText;
pub use secret::read_secret;
pub use server::Auth;
pub use snapshot::Snapshot;

//! The daemon's own log: JSON lines in `log/procession.log`, and text for people on stderr
//! while somebody sits there.
//!
//! Whoever logs only puts a line into bounded memory and goes on; threads of this room write.
//! A disk that is full or slow costs lines, which are counted, and never holds up a request.
//! `rotation` decides when a file is over and what becomes of those that are; `writer` and
//! `archive` do it. Nothing here knows what is logged, but that only this program's own
//! rooms are: nobody here could promise what other crates show of headers and bodies.
//!
//! The server makes the one [`Log`]; the keeper has none, it speaks on stderr.

mod archive;
mod disk;
mod handle;
mod line;
mod queue;
mod rotation;
mod subscriber;
#[cfg(test)]
mod tests;
mod writer;

pub use handle::Log;
pub use subscriber::SAID;

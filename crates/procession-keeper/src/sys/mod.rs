//! The kernel's edge: system calls that no safe crate offers.
//!
//! Everything here is a thin, typed cover over one call. No policy: what to do with a
//! process is decided in `procession_core::attempt`, when to call these in the rooms above.

pub(crate) mod clock;
pub(crate) mod clone;
pub(crate) mod exec;
pub(crate) mod fork;
pub(crate) mod pidfd_info;
pub(crate) mod process;
pub(crate) mod raw;
pub(crate) mod signals;
pub(crate) mod stack;

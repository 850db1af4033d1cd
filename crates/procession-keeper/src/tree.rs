//! How the processes of an attempt are held together, signalled and ended.
//!
//! `cgroup` is complete: nothing leaves a cgroup by forking. Where there is none to be had,
//! a `monitor` process is the tree's subreaper (`watch` is the keeper's end of it), and
//! `descendants` says who belongs to it.

pub(crate) mod cgroup;
pub(crate) mod descendants;
pub(crate) mod monitor;
pub(crate) mod mount;
pub(crate) mod watch;

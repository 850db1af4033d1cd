//! How the processes of an attempt are held together, signalled and ended.
//!
//! `cgroup` is complete: nothing leaves a cgroup by forking. Where there is none to be had,
//! a `monitor` process is the tree's subreaper, and `descendants` says who belongs to it.

pub(crate) mod cgroup;
pub(crate) mod mount;

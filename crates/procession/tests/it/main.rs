//! The real program over HTTP, as a client sees it: every test starts a server of its own on
//! a port of the kernel's choice, in a folder of its own, and ends it. What is expected stands
//! in the contract; a module is a noun or a verb of it. Tests that load both cores or measure
//! time end in `_heavy` and run alone.
#![allow(unreachable_pub, reason = "nothing is reachable from outside a test binary")]

mod harness;

mod admission;
mod artifacts;
mod bereaved;
mod body;
mod cancel;
mod cli;
mod connections;
mod crash;
mod daemon;
mod data_dir;
mod environment;
mod events;
mod example;
mod explain;
mod full_report;
mod hostile_folder;
mod idempotency;
mod init;
mod jobs;
mod kill_storm;
mod large_output;
mod odd_clients;
mod outcome;
mod output;
mod payload;
mod placeholder;
mod refused_files;
mod reload;
mod reply;
mod result;
mod routes;
mod site;
mod stop;
mod stop_storm;
mod systemd;
mod tidy;
mod tree;

//! The real program over HTTP, as a client sees it: every test starts a server of its own on
//! a port of the kernel's choice, in a folder of its own, and ends it. What is expected stands
//! in the contract; a module is a noun or a verb of it. Tests that load both cores or measure
//! time end in `_heavy` and run alone.
#![allow(unreachable_pub, reason = "nothing is reachable from outside a test binary")]

mod harness;

mod admission;
mod artifacts;
mod backup;
mod bad_disk;
mod bereaved;
mod between;
mod body;
mod callbacks;
mod cancel;
mod cli;
mod clock;
mod connections;
mod crash;
mod daemon;
mod daemon_log;
mod data_dir;
mod docs;
mod doctor;
mod environment;
mod events;
mod example;
mod explain;
mod failpoints;
mod family;
mod fan_out;
mod full_report;
mod hostile_folder;
mod hostile_programs;
mod idempotency;
mod init;
mod jobs;
mod kill_storm;
mod large_output;
mod odd_clients;
mod outcome;
mod output;
mod overload;
mod own_keeper;
mod payload;
mod placeholder;
mod reboot;
mod refused_files;
mod reload;
mod reload_storm;
mod reply;
mod restart;
mod result;
mod routes;
mod scarce;
mod schedules;
mod site;
mod stop;
mod stop_storm;
mod storm;
mod systemd;
mod then;
mod tidy;
mod tree;

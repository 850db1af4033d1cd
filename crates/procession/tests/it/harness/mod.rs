//! What every test stands on: a server, a client that sends exactly what it is told, waits
//! with a bound, and what `/proc` says of processes. It knows the contract's addresses and
//! files and nothing of the program's insides.

mod address;
mod cli;
mod client;
mod clock;
mod compiler;
mod connection;
mod crowd;
mod daemon;
mod digest;
mod disk;
mod events;
mod jobs;
mod keeper;
mod load;
mod page;
mod process;
mod receiver;
mod request;
mod response;
mod server;
mod service;
mod setup;
mod wait;

pub use address::Address;
pub use cli::{Ran, procession};
pub use client::Client;
pub use clock::WallClock;
pub use compiler::compile;
pub use connection::Connection;
pub use crowd::at_once;
pub use daemon::Daemon;
pub use digest::sha256;
pub use disk::SmallDisk;
pub use events::{Event, Events};
pub use keeper::{Child, OwnKeeper};
pub use load::End;
pub use page::{Shell, blocks, run as run_page};
pub use process::{Process, command, end, is_alive, kill, memory_kib, pid, signal};
pub use receiver::{Call, Receiver, Says};
pub use request::Request;
pub use response::Response;
pub use server::Server;
pub use service::Service;
pub use setup::Setup;
pub use wait::{BOUND, wait_for, wait_for_some};

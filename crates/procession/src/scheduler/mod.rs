//! From a queued row to a recorded end: claims jobs for free slots, makes them ready to
//! run, hands them to the keeper, records what the keeper says. Nothing here decides what
//! may happen to a job (core does) or speaks HTTP.

mod bereaved;
mod cancel;
mod collect;
mod dispatcher;
mod family;
mod files;
mod finish;
mod inbox;
mod note;
mod pressure;
mod progress;
mod recover;
mod runner;
mod running;
mod scratch;

use std::collections::BTreeMap;
use std::sync::Arc;

use procession_core::command::Surroundings;
use procession_core::id::TaskName;
use procession_core::task::Task;
use procession_store::Store;
use tokio::sync::{Mutex, Notify, Semaphore};

use crate::background::Background;
use crate::board::Board;
use crate::data::DataDir;
use crate::keeper::KeeperLink;
use crate::meters::Meters;
use crate::space::Space;

pub use bereaved::cgroups_of;
pub use cancel::unfinished_of_removed;
pub use family::GATHERING;
pub use pressure::Pressure;
pub use progress::ProgressWatch;
pub use recover::{Losses, Owned, recover};
pub use running::Running;
pub use scratch::ScratchPool;

/// What the stations of a job share.
pub struct Scheduler {
    /// The durable queue.
    pub store: Arc<dyn Store>,
    /// To the keeper.
    pub keeper: Arc<KeeperLink>,
    /// Held slots.
    pub running: Arc<Running>,
    /// Who waits for news.
    pub board: Arc<Board>,
    /// Scratch folders.
    pub scratch: ScratchPool,
    /// Their progress files.
    pub progress: ProgressWatch,
    /// Where files lie.
    pub data: DataDir,
    /// The tasks of the config.
    pub tasks: BTreeMap<TaskName, Arc<Task>>,
    /// What every job shares.
    pub surroundings: Surroundings,
    /// The config in force.
    pub revision: String,
    /// This node's name in the store.
    pub node: String,
    /// The kernel's boot id.
    pub boot_id: [u8; 16],
    /// Slots of this node.
    pub slots: usize,
    /// Something was submitted, finished, resumed: look for work.
    pub wake: Notify,
    /// Somebody is to be told of an end.
    pub deliver: Notify,
    /// What a keeper before left without an end.
    pub losses: Losses,
    /// Whether the machine had something to start with, lately.
    pub pressure: Pressure,
    /// Whether the disk has room.
    pub space: Arc<Space>,
    /// Rates.
    pub meters: Arc<Meters>,
    /// Turns of families whose children's results are read.
    pub gathering: Semaphore,
    /// Held by who makes a file of a parent's payload.
    pub payloads: Mutex<()>,
    /// Concurrent work.
    pub background: Background,
}

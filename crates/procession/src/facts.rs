//! What this server is: shown by `/v1/stats`.

use jiff::Timestamp;
use procession_core::record::Containment;

/// Facts that do not change while it lives.
#[derive(Clone, Debug)]
pub struct Facts {
    /// When it began to serve.
    pub started_at: Timestamp,
    /// When the config in force was read.
    pub config_loaded_at: Timestamp,
    /// Its revision.
    pub revision: String,
    /// How trees are held together here.
    pub containment: Containment,
    /// The keeper's process id.
    pub keeper_pid: u32,
    /// Slots in all.
    pub slots: u64,
}

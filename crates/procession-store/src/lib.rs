//! The durable queue: one contract, several databases.
//!
//! [`Store`] is the contract. [`sqlite`] is the embedded database everybody starts with,
//! [`memory`] the reference model the others are measured against. SQL stands nowhere
//! else in the workspace. [`testing`] makes any of them fail, for tests.

mod error;
pub mod memory;
pub mod sqlite;
mod store;
pub mod testing;

pub use error::StoreError;
pub use memory::MemoryStore;
pub use sqlite::SqliteStore;
pub use store::*;

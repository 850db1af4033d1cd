//! The durable queue: one contract, several databases.
//!
//! [`Store`] is the contract. [`sqlite`] is the embedded database everybody starts with,

//! else in the workspace.

mod error;
pub mod sqlite;
mod store;

pub use error::StoreError;
pub use sqlite::SqliteStore;
pub use store::*;

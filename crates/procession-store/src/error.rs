//! Why a store could not do what it was asked.

/// A failed verb. Nothing of it happened.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// No space left: nothing was recorded; works again when there is.
    #[error("the disk of the store is full")]
    Full,
    /// The disk failed to keep what it was given: nothing more is acknowledged.
    #[error("the disk of the store failed: {0}")]
    Disk(String),
    /// A row that the contract does not allow.
    #[error("the store holds what it never wrote: {0}")]
    Corrupt(String),
    /// The file is no store of ours, or of a newer version; it was not touched.
    #[error("{0}")]
    Refused(String),
    /// The store was closed.
    #[error("the store is closed")]
    Closed,
    /// Anything else the database said.
    #[error("the store failed: {0}")]
    Database(String),
}

//! Whether a write reaches the disk.

use super::statement;
use super::writer::Tx;
use crate::error::StoreError;

/// A transaction that changed nothing would sync nothing.
pub(super) const PROBE: &str = "UPDATE meta SET probes = probes + 1";

pub(super) fn probe(tx: &mut Tx<'_>) -> Result<(), StoreError> {
    statement::run(tx.conn, PROBE, [])?;
    Ok(())
}

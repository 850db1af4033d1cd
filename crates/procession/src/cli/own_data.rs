//! The data directory that the config names, for the verbs that work on it themselves, or ask
//! its keeper: `status`, `stop`, `reload`, `backup` and `doctor`. All others ask the server, by
//! whatever address `endpoint` finds.

use anyhow::Context;

use super::Global;
use crate::config;
use crate::data::DataDir;

/// It, whether it exists or not, and whatever else is wrong with the config.
pub(super) fn find(global: &Global) -> anyhow::Result<DataDir> {
    let file = global.config_file().context("the data directory is not known")?;
    let folder = config::data_dir(&file)
        .with_context(|| format!("{} cannot be read, so the data directory is not known", file.display()))?;
    Ok(DataDir::existing(&folder))
}

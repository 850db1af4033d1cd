//! The data directory that the config names, for the verbs that work on it themselves:
//! `backup` and `doctor`. All others ask the server.

use std::path::PathBuf;

use anyhow::{Context, anyhow};

use super::Global;
use crate::config::{self, LoadOptions};
use crate::data::DataDir;

/// It, whether it exists or not.
pub(super) fn find(global: &Global) -> anyhow::Result<DataDir> {
    let variable = std::env::var_os("PROCESSION_CONFIG").map(PathBuf::from);
    let file = config::find(global.config.as_deref(), variable.as_deref())
        .context("the config names the data directory")?;
    // Whether the server may be reached from elsewhere is no matter here.
    let options = LoadOptions { insecure: true, ..LoadOptions::default() };
    let config = config::load(&file, &options).map_err(|_| {
        anyhow!(
            "{} cannot be used, so the data directory is not known; `procession check` says what is wrong",
            file.display()
        )
    })?;
    Ok(DataDir::existing(&config.server.data_dir))
}

//! Where the config is. Looks at the file system only for the two usual places; what the
//! user names is taken as it is, so that a mistyped name is an error about that name.

use std::path::{Path, PathBuf};

/// Where a config lies when nobody says where, in this order.
const USUAL: [&str; 2] = ["procession.toml", "/etc/procession/procession.toml"];

/// There is no config anywhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "no config: neither --config nor PROCESSION_CONFIG names one, and there is no ./procession.toml and no /etc/procession/procession.toml (`procession init` writes one here)"
)]
pub struct NoConfig;

/// The config: `flag` (`--config`), else `variable` (`$PROCESSION_CONFIG`; empty counts as
/// unset), else `./procession.toml`, else `/etc/procession/procession.toml`.
pub fn find(flag: Option<&Path>, variable: Option<&Path>) -> Result<PathBuf, NoConfig> {
    let named = flag.or(variable.filter(|path| !path.as_os_str().is_empty()));
    if let Some(path) = named {
        return Ok(path.to_owned());
    }
    USUAL.iter().map(PathBuf::from).find(|path| path.is_file()).ok_or(NoConfig)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_flag_beats_the_variable_and_neither_is_looked_for() {
        let (flag, variable) = (Path::new("no/such.toml"), Path::new("other.toml"));
        assert_eq!(find(Some(flag), Some(variable)).as_deref(), Ok(flag));
        assert_eq!(find(None, Some(variable)).as_deref(), Ok(variable));
    }
}

//! Where the data lies, by a config that may be wrong in everything else: whoever asks a
//! running server for its state, an end or another config must find it all the same.

use std::path::{Path, PathBuf};

use toml::de::DeTable;

use super::schema::read_bounded;

/// The data directory named by the config at `file`, as [`super::load()`] would resolve it;
/// what is wrong elsewhere in the file does not matter.
pub fn data_dir(file: &Path) -> std::io::Result<PathBuf> {
    let bytes = read_bounded(file)?;
    // What is no text is a broken config as any other.
    let text = String::from_utf8_lossy(&bytes);
    let file = std::path::absolute(file)?;
    let folder = file.parent().unwrap_or(Path::new("/"));
    let (table, _) = DeTable::parse_recoverable(&text);
    let server = table.get_ref().get("server").and_then(|server| server.get_ref().as_table());
    let named = server.and_then(|server| server.get("data_dir")).and_then(|value| value.get_ref().as_str());
    let named = named.filter(|name| !name.is_empty()).unwrap_or("procession-data");
    Ok(folder.join(named).components().collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{LoadOptions, load};

    #[test]
    fn the_same_as_a_load_says_and_also_where_that_fails() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("procession.toml");
        for text in ["", "[server]\n", "[server]\ndata_dir = './d/e'\n", "[server]\ndata_dir = '/d'\n"] {
            let text = format!("{text}[task.t]\ncommand = ['true']\n");
            std::fs::write(&file, &text).expect("written");
            let expected = load(&file, &LoadOptions::default()).expect("a good config").server.data_dir;
            assert_eq!(data_dir(&file).expect("read"), expected, "{text}");
        }
        for broken in ["[task.t]\ncomand = 1\n", "[task.t\n", "[limits]\nmax_running = \n"] {
            std::fs::write(&file, format!("[server]\ndata_dir = 'd'\n{broken}")).expect("written");
            assert_eq!(data_dir(&file).expect("read"), folder.path().join("d"), "{broken}");
        }
        std::fs::write(&file, b"[server]\ndata_dir = 'd'\n# \xff\n").expect("written");
        assert_eq!(data_dir(&file).expect("read"), folder.path().join("d"));
        std::fs::remove_file(&file).expect("ours");
        rustix::fs::mknodat(rustix::fs::CWD, &file, rustix::fs::FileType::Fifo, 0o600.into(), 0)
            .expect("made");
        let error = data_dir(&file).expect_err("nobody writes to it");
        assert!(error.to_string().contains("not a regular file"), "{error}");
    }
}

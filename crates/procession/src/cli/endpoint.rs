//! Where the server is and which token opens it.
//!
//! `--url` or `PROCESSION_URL`, else the files `listen` and `token` of the data directory
//! that the config names. The token file is sent only to an address of the same
//! directory's `listen`: a URL given by hand never learns the local token.

use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use hyper::Uri;

use super::{Global, own_data};

/// A server, as far as it is known before asking it.
#[derive(Debug)]
pub(super) struct Endpoint {
    /// Tried in this order.
    pub(super) addresses: Vec<Address>,
    /// Where the addresses came from, for people.
    pub(super) origin: String,
    /// What is sent as `Authorization`.
    pub(super) token: Token,
}

/// One place a server may listen at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Address {
    /// A host, without brackets, and a port.
    Tcp { host: String, port: u16 },
    /// A socket file.
    Unix(PathBuf),
}

/// The bearer token, or why there is none: only an answer 401 makes that matter.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Token {
    Known(String),
    Missing { why: String },
}

/// Finds the server that `global` or the config speaks of.
pub(super) fn find(global: &Global) -> anyhow::Result<Endpoint> {
    let given = |text: &Option<String>| {
        text.as_deref().map(str::trim).filter(|text| !text.is_empty()).map(str::to_owned)
    };
    let token = given(&global.token);
    let Some(url) = given(&global.url) else {
        let data = own_data::find(global).context("cannot tell where the server is; --url names one")?;
        let folder = data.root();
        let token = token.map_or_else(|| read_token(folder), Token::Known);
        let (addresses, listen) = read_listen(folder)?;
        return Ok(Endpoint { addresses, origin: listen.display().to_string(), token });
    };
    let from_variable = std::env::var("PROCESSION_URL").is_ok_and(|value| value == url);
    let origin = if from_variable { "PROCESSION_URL" } else { "--url" };
    let address = parse(&url).with_context(|| format!("{origin} cannot be used"))?;
    let token = token.map_or_else(|| local_token(global, &address), Token::Known);
    Ok(Endpoint { addresses: vec![address], origin: origin.into(), token })
}

/// The token of this machine's own server, if `address` is one of its own.
fn local_token(global: &Global, address: &Address) -> Token {
    let own = own_data::find(global)
        .ok()
        .filter(|data| read_listen(data.root()).is_ok_and(|(addresses, _)| addresses.contains(address)));
    match own {
        Some(data) => read_token(data.root()),
        None => Token::Missing { why: "pass one with PROCESSION_TOKEN or --token".into() },
    }
}

/// The server whose files are in `folder`.
pub(super) fn of_folder(folder: &Path) -> anyhow::Result<Endpoint> {
    let (addresses, listen) = read_listen(folder)?;
    Ok(Endpoint { addresses, origin: listen.display().to_string(), token: read_token(folder) })
}

fn read_listen(folder: &Path) -> anyhow::Result<(Vec<Address>, PathBuf)> {
    let file = folder.join("listen");
    let text = match fs::read_to_string(&file) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => bail!(
            "no server runs here ({} does not exist); start it with `procession serve`, or name one with --url",
            file.display()
        ),
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => bail!(
            "{} belongs to the user the server runs as: become that user, or set PROCESSION_URL and PROCESSION_TOKEN",
            file.display()
        ),
        Err(error) => return Err(error).with_context(|| format!("cannot read {}", file.display())),
    };
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    // A listener this client cannot speak to is no reason not to use the others.
    let addresses: Vec<Address> = lines.filter_map(|line| parse(line).ok()).collect();
    if addresses.is_empty() {
        bail!("{} names no address this client can use", file.display());
    }
    Ok((addresses, file))
}

fn read_token(folder: &Path) -> Token {
    let file = folder.join("token");
    let why = match fs::read_to_string(&file) {
        Ok(text) if !text.trim().is_empty() => return Token::Known(text.trim().to_owned()),
        Ok(_) => format!("{} is empty", file.display()),
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => format!(
            "{} belongs to the user the server runs as: become that user, or pass a token with PROCESSION_TOKEN",
            file.display()
        ),
        Err(error) => format!("cannot read {}: {error}", file.display()),
    };
    Token::Missing { why }
}

/// `http://HOST:PORT`, `HOST:PORT` or `unix:/PATH`.
fn parse(text: &str) -> anyhow::Result<Address> {
    if let Some(path) = text.strip_prefix("unix:") {
        let path = path.strip_prefix("//").unwrap_or(path);
        // Absolute, to be found again in the server's `listen`.
        let path = std::path::absolute(path).with_context(|| format!("`{text}` names no socket"))?;
        return Ok(Address::Unix(path));
    }
    if text.starts_with("https://") {
        bail!("`{text}`: this version speaks no TLS; use http:// to a proxy or tunnel on this machine");
    }
    let full = if text.contains("://") { text.to_owned() } else { format!("http://{text}") };
    let wrong = || format!("`{text}` is no address: write http://HOST:PORT or unix:/PATH");
    let uri: Uri = full.parse().ok().with_context(wrong)?;
    let authority = uri.authority().with_context(wrong)?;
    let plain = uri.scheme_str() == Some("http") && uri.path() == "/" && uri.query().is_none();
    if !plain || authority.as_str().contains('@') || authority.host().is_empty() {
        bail!(wrong());
    }
    let host = authority.host().trim_start_matches('[').trim_end_matches(']');
    Ok(Address::Tcp { host: reachable(host).to_owned(), port: authority.port_u16().unwrap_or(80) })
}

/// A server that listens everywhere is reached over the loopback: its host check does
/// not know itself by the wildcard.
fn reachable(host: &str) -> &str {
    match host {
        "0.0.0.0" => "127.0.0.1",
        "::" => "::1",
        host => host,
    }
}

impl Address {
    /// The `Host` header.
    pub(super) fn authority(&self) -> String {
        match self {
            Address::Tcp { host, port } if host.contains(':') => format!("[{host}]:{port}"),
            Address::Tcp { host, port } => format!("{host}:{port}"),
            Address::Unix(_) => "localhost".into(),
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Address::Tcp { .. } => write!(f, "http://{}", self.authority()),
            Address::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_as_people_and_listen_files_write_them() {
        for (text, shown) in [
            ("127.0.0.1:8080", "http://127.0.0.1:8080"),
            ("http://127.0.0.1:8080/", "http://127.0.0.1:8080"),
            ("http://jobs.example.org", "http://jobs.example.org:80"),
            ("http://[::1]:9", "http://[::1]:9"),
            ("0.0.0.0:8080", "http://127.0.0.1:8080"),
            ("[::]:8080", "http://[::1]:8080"),
            ("unix:/run/procession.sock", "unix:/run/procession.sock"),
            ("unix:///run/procession.sock", "unix:/run/procession.sock"),
        ] {
            assert_eq!(parse(text).expect(text).to_string(), shown);
        }
        for bad in ["", "http://", "unix:", "ftp://x", "http://a/b", "http://u:p@h", "http://h?x=1"] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn tls_is_refused_by_name() {
        let error = parse("https://jobs.example.org").expect_err("no TLS");
        assert!(error.to_string().contains("speaks no TLS"), "{error}");
    }

    #[test]
    fn the_data_directory_tells_address_and_token() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let error = read_listen(folder.path()).expect_err("no server yet");
        assert!(error.to_string().contains("procession serve"), "{error}");
        assert!(matches!(read_token(folder.path()), Token::Missing { .. }));

        fs::write(folder.path().join("listen"), "https://x:1\nhttp://127.0.0.1:1\n\nunix:/s\n")
            .expect("written");
        fs::write(folder.path().join("token"), "secret\n").expect("written");
        let (addresses, _) = read_listen(folder.path()).expect("two of three");
        assert_eq!(addresses.len(), 2);
        assert_eq!(read_token(folder.path()), Token::Known("secret".into()));
    }
}

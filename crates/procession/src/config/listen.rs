//! An address the server listens on, as the config writes it. Reading and showing only:
//! the keeper binds it.

use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

/// One address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Listen {
    /// `127.0.0.1:8080`; port 0 lets the kernel choose one.
    Tcp(SocketAddr),
    /// `unix:/run/procession.sock`.
    Unix {
        /// Absolute, at most 107 bytes: the kernel takes no more.
        path: PathBuf,
        /// Permission bits of the socket file.
        mode: u32,
        /// The group that owns it; none: the server's own.
        group: Option<String>,
    },
}

/// The longest path of a Unix socket, without its NUL (`sun_path`).
const LONGEST_PATH: usize = 107;

/// Why a text is no address, and what to write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct BadListen {
    pub(super) problem: String,
    pub(super) help: String,
}

/// The name of a bound listener as clients write it: `http://127.0.0.1:8080`, `unix:/path`.
pub fn address(name: &str) -> String {
    let scheme = if name.starts_with("unix:") { "" } else { "http://" };
    format!("{scheme}{name}")
}

impl Listen {
    /// Whether only this machine can reach it.
    pub fn is_local(&self) -> bool {
        match self {
            Listen::Tcp(address) => address.ip().to_canonical().is_loopback(),
            Listen::Unix { .. } => true,
        }
    }

    /// Whether a socket bound at `bound` is what this asks for; port 0 is any port.
    pub fn fits(&self, bound: SocketAddr) -> bool {
        match self {
            Listen::Tcp(asked) => *asked == bound || (asked.port() == 0 && asked.ip() == bound.ip()),
            Listen::Unix { .. } => false,
        }
    }

    /// Reads `text`; a relative socket path is relative to `folder`.
    pub(super) fn parse(
        text: &str,
        folder: &Path,
        mode: u32,
        group: Option<&str>,
    ) -> Result<Self, BadListen> {
        let bad = |problem: String, help: String| Err(BadListen { problem, help });
        if let Some(path) = text.strip_prefix("unix:") {
            let path: PathBuf = folder.join(path).components().collect();
            let length = path.as_os_str().len();
            if path == folder {
                return bad("`unix:` names no file".into(), "write \"unix:/run/procession.sock\"".into());
            }
            if length > LONGEST_PATH {
                return bad(
                    format!("the socket's path has {length} bytes and the kernel takes {LONGEST_PATH}"),
                    format!("choose a shorter one than {}", path.display()),
                );
            }
            return Ok(Listen::Unix { path, mode, group: group.map(str::to_owned) });
        }
        if let Ok(address) = text.parse() {
            return Ok(Listen::Tcp(address));
        }
        let help = match text.rsplit_once(':') {
            Some(("" | "localhost", port)) if port.parse::<u16>().is_ok() => {
                format!("write the address itself: \"127.0.0.1:{port}\"")
            }
            _ if text.parse::<u16>().is_ok() => format!("write \"127.0.0.1:{text}\""),
            _ if text.parse::<std::net::Ipv4Addr>().is_ok() => format!("add the port: \"{text}:8080\""),
            _ if text.parse::<std::net::Ipv6Addr>().is_ok() => format!("write \"[{text}]:8080\""),
            _ if text.starts_with('/') => format!("write \"unix:{text}\""),
            _ => "write \"127.0.0.1:8080\", \"[::1]:8080\" or \"unix:/run/procession.sock\"".into(),
        };
        bad(format!("\"{}\" is no address to listen on", text.escape_debug()), help)
    }
}

impl fmt::Display for Listen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Listen::Tcp(address) => address.fmt(f),
            Listen::Unix { path, .. } => write!(f, "unix:{}", path.display()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Listen, BadListen> {
        Listen::parse(text, Path::new("/etc/p"), 0o600, None)
    }

    #[test]
    fn is_shown_as_written() {
        for text in ["127.0.0.1:8080", "[::1]:0", "0.0.0.0:80", "unix:/run/x.sock"] {
            assert_eq!(parse(text).map(|listen| listen.to_string()).as_deref(), Ok(text));
        }
        assert_eq!(parse("unix:./x.sock").map(|l| l.to_string()).as_deref(), Ok("unix:/etc/p/x.sock"));
    }

    #[test]
    fn knows_who_reaches_it() {
        for (text, local) in [
            ("127.0.0.1:1", true),
            ("127.9.9.9:1", true),
            ("[::1]:1", true),
            ("[::ffff:127.0.0.1]:1", true),
            ("unix:/x", true),
            ("0.0.0.0:1", false),
            ("[::]:1", false),
            ("10.0.0.1:1", false),
        ] {
            assert_eq!(parse(text).map(|listen| listen.is_local()), Ok(local), "{text}");
        }
    }

    #[test]
    fn says_what_to_write() {
        for (text, help) in [
            ("localhost:80", "write the address itself: \"127.0.0.1:80\""),
            (":80", "write the address itself: \"127.0.0.1:80\""),
            ("8080", "write \"127.0.0.1:8080\""),
            ("10.0.0.1", "add the port: \"10.0.0.1:8080\""),
            ("::1", "write \"[::1]:8080\""),
            ("/run/x", "write \"unix:/run/x\""),
            ("unix:", "write \"unix:/run/procession.sock\""),
            ("", "write \"127.0.0.1:8080\", \"[::1]:8080\" or \"unix:/run/procession.sock\""),
        ] {
            assert_eq!(parse(text).map_err(|bad| bad.help), Err(help.to_owned()), "{text}");
        }
        assert!(parse(&format!("unix:/{}", "x".repeat(106))).is_ok());
        assert!(parse(&format!("unix:/{}", "x".repeat(107))).is_err());
    }
}

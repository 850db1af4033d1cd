//! The sockets a server listens on: bound here, or passed by a service manager, and what they
//! are called then. Only `serve` uses it.

use std::net::{SocketAddr, TcpListener};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use rustix::net::SocketType;
use rustix::net::sockopt::{socket_acceptconn, socket_type};

use crate::config::Listen;

/// A socket and the name of the address really bound.
pub(super) type Named = (OwnedFd, String);

/// One for each of `listen`, in this order: of those that were `passed` the one bound there,
/// else a new one. A passed one that nobody asked for is an error: whoever connects to it
/// would wait for ever.
pub(super) fn open(listen: &[Listen], mut passed: Vec<OwnedFd>) -> anyhow::Result<Vec<Named>> {
    let mut opened = Vec::new();
    for address in listen {
        let at = passed.iter().position(|socket| bound_to(socket).is_some_and(|bound| bound.fits(address)));
        opened.push(match at {
            Some(at) => adopt(passed.remove(at))?,
            None => bind(address)?,
        });
    }
    if passed.is_empty() {
        return Ok(opened);
    }
    let names: Vec<String> =
        passed.iter().map(|socket| bound_to(socket).map_or_else(unusable, name)).collect();
    bail!(
        "the service manager passed {}, which no entry of `listen` names: add it there, or remove it from the socket unit",
        names.join(", ")
    )
}

/// Where a socket that takes connections is bound.
enum Bound {
    Tcp(SocketAddr),
    Unix(PathBuf),
}

impl Bound {
    fn fits(&self, listen: &Listen) -> bool {
        match (self, listen) {
            (Bound::Tcp(bound), _) => listen.fits(*bound),
            (Bound::Unix(bound), Listen::Unix { path, .. }) => bound == path,
            (Bound::Unix(_), Listen::Tcp(_)) => false,
        }
    }
}

fn bound_to(socket: &OwnedFd) -> Option<Bound> {
    let takes_connections =
        socket_type(socket) == Ok(SocketType::STREAM) && socket_acceptconn(socket) == Ok(true);
    let address = rustix::net::getsockname(socket).ok().filter(|_| takes_connections)?;
    if let Ok(address) = SocketAddr::try_from(address.clone()) {
        return Some(Bound::Tcp(address));
    }
    let address = rustix::net::SocketAddrUnix::try_from(address).ok()?;
    let path = address.path_bytes()?;
    Some(Bound::Unix(PathBuf::from(std::ffi::OsStr::from_bytes(path))))
}

fn name(bound: Bound) -> String {
    match bound {
        Bound::Tcp(address) => address.to_string(),
        Bound::Unix(path) => format!("unix:{}", path.display()),
    }
}

fn unusable() -> String {
    "a descriptor that is no listening socket".into()
}

fn adopt(socket: OwnedFd) -> anyhow::Result<Named> {
    let name = bound_to(&socket).map(name).context("a socket that was just looked at")?;
    Ok((socket, name))
}

/// Binds one address; its name is the one really bound.
fn bind(listen: &Listen) -> anyhow::Result<Named> {
    match listen {
        Listen::Tcp(address) => {
            let listener = TcpListener::bind(address).with_context(|| {
                format!("cannot listen on {address}; `listen` in the config names another address")
            })?;
            let bound = listener.local_addr()?;
            // A burst of clients waits in the kernel, not in a retry.
            rustix::net::listen(&listener, 4096)?;
            Ok((listener.into(), bound.to_string()))
        }
        Listen::Unix { path, mode, group } => {
            let listener = bind_unix(path).with_context(|| format!("cannot listen on {listen}"))?;
            std::fs::set_permissions(path, std::fs::Permissions::from_mode(*mode))?;
            if let Some(group) = group {
                let id = group_id(group)?;
                std::os::unix::fs::chown(path, None, Some(id))
                    .with_context(|| format!("group {group} of {listen}"))?;
            }
            Ok((listener.into(), format!("unix:{}", path.display())))
        }
    }
}

/// Takes the place of a socket nobody listens on; never of anything else.
fn bind_unix(path: &Path) -> anyhow::Result<UnixListener> {
    match std::fs::symlink_metadata(path) {
        Ok(meta) if !meta.file_type().is_socket() => bail!("there is something else at this path"),
        Ok(_) if UnixStream::connect(path).is_ok() => bail!("another program listens there"),
        Ok(_) => std::fs::remove_file(path)?,
        Err(_) => {}
    }
    Ok(UnixListener::bind(path)?)
}

fn group_id(name: &str) -> anyhow::Result<u32> {
    if let Ok(id) = name.parse() {
        return Ok(id);
    }
    let groups = std::fs::read_to_string("/etc/group")?;
    let id = groups.lines().find_map(|line| {
        let mut fields = line.split(':');
        (fields.next()? == name).then(|| fields.nth(1)?.parse().ok())?
    });
    id.with_context(|| format!("there is no group `{name}`"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tcp(address: &str) -> Listen {
        Listen::Tcp(address.parse().expect("an address"))
    }

    #[test]
    fn a_passed_socket_is_used_where_it_fits() {
        let passed = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = passed.local_addr().expect("bound").to_string();
        let opened = open(&[tcp("[::1]:0"), tcp(&address)], vec![passed.into()]).expect("both");
        assert_eq!(opened[1].1, address);
        assert!(opened[0].1.starts_with("[::1]:"));
    }

    #[test]
    fn what_nobody_asked_for_is_named() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("other.sock");
        let other = UnixListener::bind(&path).expect("bound");
        let file = std::fs::File::open("/dev/null").expect("there");
        let error = open(&[tcp("127.0.0.1:0")], vec![other.into(), file.into()]).expect_err("not ours");
        let said = error.to_string();
        assert!(said.contains(path.to_str().expect("text")), "{said}");
        assert!(said.contains("no listening socket"), "{said}");
    }
}

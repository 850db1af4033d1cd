//! `[server]`: where the server listens, where its data lies and who may speak to it.

use std::path::{Path, PathBuf};
use std::time::Duration;

use procession_core::target::{BadHost, HostPattern};

use super::diagnostic::Span;
use super::listen::Listen;
use super::section::{Section, Text};

/// `[server]`, resolved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Server {
    /// At least one.
    pub listen: Vec<Listen>,
    /// Absolute.
    pub data_dir: PathBuf,
    /// Whether requests need a token.
    pub auth: Auth,
    /// Host names answered to besides the listeners' own; lower-case, without ports.
    pub hosts: Vec<String>,
    /// Where callbacks may go whose URL a client has part in.
    pub callback_hosts: Vec<HostPattern>,
    /// How long `stop` waits for running jobs before it ends them.
    pub stop_timeout: Duration,
}

/// Who may speak to the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Auth {
    /// Whoever has a token.
    #[default]
    Token,
    /// Everybody who reaches a listener; all of them are local.
    None,
}

/// The permission bits of a Unix socket: its owner alone.
const SOCKET_MODE: u32 = 0o600;

impl Default for Server {
    /// The contract's defaults, with the data in the current directory.
    fn default() -> Self {
        Self {
            listen: vec![Listen::Tcp(([127, 0, 0, 1], 8080).into())],
            data_dir: PathBuf::from("procession-data"),
            auth: Auth::Token,
            hosts: Vec::new(),
            callback_hosts: Vec::new(),
            stop_timeout: Duration::from_secs(80),
        }
    }
}

impl Server {
    /// A port of the kernel's choice, data in `data_dir`, a short stop.
    #[cfg(test)]
    pub fn for_testing(data_dir: &Path) -> Self {
        Self {
            listen: vec![Listen::Tcp(([127, 0, 0, 1], 0).into())],
            data_dir: data_dir.into(),
            stop_timeout: Duration::from_secs(5),
            ..Self::default()
        }
    }

    /// Reads the section, if there is one. `insecure`: other machines may reach a listener
    /// although nothing on the way is encrypted.
    pub(super) fn read(section: Option<&Section<'_>>, folder: &Path, insecure: bool) -> Self {
        let mut server = Self { data_dir: folder.join("procession-data"), ..Self::default() };
        let Some(section) = section else { return server };
        refuse_other_stores(section);
        let places = read_listen(section, folder, &mut server);
        if !insecure {
            refuse_strangers(section, &server.listen, &places);
        }
        if let Some(path) = section.text("data_dir").and_then(|text| text.path(folder)) {
            server.data_dir = path;
        }
        if let Some(auth) = section.choice("auth", &[("token", Auth::Token), ("none", Auth::None)]) {
            server.auth = auth;
        }
        if server.auth == Auth::None && !server.listen.iter().all(Listen::is_local) {
            section.report.error(
                &section.span_of("auth"),
                "without a token only this machine may reach the server",
                "listen on 127.0.0.1, [::1] or a Unix socket only, or write auth = \"token\"",
            );
        }
        if let Some(hosts) = section.texts("hosts", "[\"jobs.example.org\"]") {
            server.hosts = hosts.iter().filter_map(host).collect();
        }
        if let Some(hosts) = section.texts("callback_hosts", "[\"hooks.example.org\"]") {
            server.callback_hosts = hosts.iter().filter_map(callback_host).collect();
        }
        if let Some(stop_timeout) = section.duration("stop_timeout") {
            server.stop_timeout = stop_timeout;
        }
        server
    }
}

fn refuse_other_stores(section: &Section<'_>) {
    let Some(store) = section.text("store") else { return };
    if store.text.starts_with("postgres://") || store.text.starts_with("postgresql://") {
        store.error(
            "PostgreSQL is not in this version",
            "write store = \"sqlite\" or remove the line: the data then lies in `data_dir`",
        );
    } else {
        store.choice(&[("sqlite", ())]);
    }
}

/// Fills `server.listen` and tells where each stands in the file.
fn read_listen(section: &Section<'_>, folder: &Path, server: &mut Server) -> Vec<Span> {
    let mode = section.item("socket_mode").and_then(|item| item.mode()).unwrap_or(SOCKET_MODE);
    let group = section.text("socket_group");
    if let Some(group) = group.as_ref().filter(|group| group.text.is_empty()) {
        group.error("`socket_group` is empty", "name a group, or remove the line");
    }
    let Some(item) = section.item("listen") else { return vec![section.span.clone()] };
    let Some(texts) = item.one_or_many("[\"127.0.0.1:8080\"]") else { return vec![item.span] };
    let mut found: Vec<Listen> = Vec::new();
    let mut places = Vec::new();
    let empty = texts.is_empty();
    let unix = texts.iter().any(|text| text.text.starts_with("unix:"));

    for text in texts {
        match Listen::parse(text.text, folder, mode, group.as_ref().map(|group| group.text)) {
            Ok(listen) if found.contains(&listen) && !text.text.ends_with(":0") => {
                text.error(format!("`{listen}` stands in `listen` twice"), "remove one of the two");
            }
            Ok(listen) => {
                found.push(listen);
                places.push(text.span);
            }
            Err(bad) => text.error(bad.problem, bad.help),
        }
    }
    if empty {
        let help = "name at least one address: [\"127.0.0.1:8080\"]";
        section.report.error(&item.span, "`listen` is empty", help);
    }

    for key in ["socket_mode", "socket_group"] {
        if section.has(key) && !unix {
            let message = format!("`{key}` has no effect: no listener is a Unix socket");
            section.report.warning(&section.span_of(key), message, "remove it, or listen on \"unix:/path\"");
        }
    }
    if !found.is_empty() {
        server.listen = found;
    }
    places
}

/// Tokens, payloads and output would cross the network for everybody to read.
fn refuse_strangers(section: &Section<'_>, listen: &[Listen], places: &[Span]) {
    for (listen, place) in listen.iter().zip(places).filter(|(listen, _)| !listen.is_local()) {
        section.report.error(
            place,
            format!("other machines reach `{listen}`, and this version has no TLS"),
            "listen on 127.0.0.1 behind a proxy that speaks TLS, or start with `--insecure`",
        );
    }
}

/// A host name or address as it stands in a `Host` header, without the port.
fn host(text: &Text<'_>) -> Option<String> {
    let host = text.text.to_ascii_lowercase();
    let name = |c: u8| c.is_ascii_alphanumeric() || matches!(c, b'.' | b'-' | b'_');
    let literal = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    let fits = match literal {
        Some(address) => address.parse::<std::net::Ipv6Addr>().is_ok(),
        None => !host.is_empty() && host.len() <= 253 && host.bytes().all(name),
    };
    if !fits {
        text.error(
            format!("\"{}\" is no host name", text.text.escape_debug()),
            "write the name alone, without scheme, port or `*`: \"jobs.example.org\"",
        );
    }
    fits.then_some(host)
}

/// A host that callbacks may go to, or what its name ends in.
fn callback_host(text: &Text<'_>) -> Option<HostPattern> {
    let say = |_: BadHost| {
        text.error(
            format!("\"{}\" is no host", text.text.escape_debug()),
            "write a name alone, without scheme and port: \"hooks.example.org\", or \"*.example.org\" for all below it",
        );
    };
    text.text.parse().map_err(say).ok()
}

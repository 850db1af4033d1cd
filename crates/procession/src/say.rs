//! Lines for whoever watches the server's stderr. A terminal that has gone away must not
//! end a server, as a panicking `eprintln!` would.

use std::io::Write;

/// Writes a line at once, so that it is not torn by others; nobody reading is fine.
pub fn line(text: &str) {
    let _ = std::io::stderr().write_all(format!("{text}\n").as_bytes());
}

//! What the pages of the documentation say happens does: their configs are served, their commands
//! typed.

use crate::harness::run_page;

#[test]
fn readme() {
    run_page("README.md");
}

#[test]
fn families() {
    run_page("docs/families.md");
}

#[test]
fn queue() {
    run_page("docs/queue.md");
}

//! What jobs are found and told apart by: labels and the idempotency key. Both are filled
//! when a request comes in, so only what the request itself holds can stand in them.

use std::collections::BTreeMap;

use super::super::section::{Section, Text};
use super::slot::{Slot, is_clients};

/// The labels by name, and the key.
pub(super) fn read<'a>(section: &Section<'a>) -> (BTreeMap<String, Slot<'a>>, Option<Slot<'a>>) {
    let mut labels = BTreeMap::new();
    for entry in section.entries("labels", "{ request = \"{{payload.requestId}}\" }").unwrap_or_default() {
        check_name(&entry.key);
        if let Some(slot) = entry.value.text("a string").and_then(of_request) {
            labels.insert(entry.key.text.to_owned(), slot);
        }
    }
    let key = section.text("idempotency_key").and_then(of_request);
    if let Some(key) = key.as_ref().filter(|key| key.template.holes().next().is_none()) {
        key.text.error(
            "`idempotency_key` is the same for every request: all would be one job",
            "take it from the request: idempotency_key = \"{{payload.requestId}}\"",
        );
    }
    (labels, key)
}

/// A template of what the request itself holds.
pub(super) fn of_request(text: Text<'_>) -> Option<Slot<'_>> {
    let slot = Slot::parse(text)?;
    if let Some(span) = slot.find(|hole| !is_clients(hole)) {
        slot.text.report.error(
            &span,
            format!("`{}` is filled before there is a job", slot.text.name),
            "use {{payload.KEY}}, {{query.NAME}} or {{header.NAME}}",
        );
    }
    Some(slot)
}

/// What can stand in `?label.NAME=` as it is.
fn check_name(key: &Text<'_>) {
    let plain = |c: u8| c.is_ascii_alphanumeric() || matches!(c, b'.' | b'_' | b'-');
    if key.text.is_empty() || key.text.len() > 64 || !key.text.bytes().all(plain) {
        let message = format!("\"{}\" cannot name a label", key.text.escape_debug());
        key.error(message, "a label's name is 1 to 64 of A-Z a-z 0-9 . _ -");
    }
}

//! Collects complaints while a config is read, so that all of them come at once.
//! Every complaint has a remedy: there is no way to add one without.

use std::cell::RefCell;

use super::diagnostic::{Diagnostic, Severity, Source, Span};

/// The config's text and what was found wrong with it so far.
#[derive(Debug)]
pub(super) struct Report {
    pub(super) source: Source,
    found: RefCell<Vec<Diagnostic>>,
}

impl Report {
    pub(super) fn new(source: Source) -> Self {
        Self { source, found: RefCell::default() }
    }

    /// The config cannot be used because of what stands at `span`.
    pub(super) fn error(&self, span: &Span, message: impl Into<String>, help: impl Into<String>) {
        self.add(Severity::Error, None, span, message.into(), help.into());
    }

    /// The same, under a name of the documentation.
    pub(super) fn error_named(
        &self,
        code: &'static str,
        span: &Span,
        message: impl Into<String>,
        help: impl Into<String>,
    ) {
        self.add(Severity::Error, Some(code), span, message.into(), help.into());
    }

    /// What stands at `span` may not do what its author wants.
    pub(super) fn warning(&self, span: &Span, message: impl Into<String>, help: impl Into<String>) {
        self.add(Severity::Warning, None, span, message.into(), help.into());
    }

    /// What only `check` says.
    pub(super) fn advice(&self, span: &Span, message: impl Into<String>, help: impl Into<String>) {
        self.add(Severity::Advice, None, span, message.into(), help.into());
    }

    /// A complaint about another file.
    pub(super) fn push(&self, diagnostic: Diagnostic) {
        self.found.borrow_mut().push(diagnostic);
    }

    fn add(
        &self,
        severity: Severity,
        code: Option<&'static str>,
        span: &Span,
        message: String,
        help: String,
    ) {
        self.push(Diagnostic { severity, code, message, place: Some(self.source.place(span)), help });
    }

    /// All complaints in the order of the file; those about other files come last.
    pub(super) fn finish(&self) -> Vec<Diagnostic> {
        let mut found = self.found.take();
        found.sort_by_key(|diagnostic| match &diagnostic.place {
            Some(place) => (place.file != self.source.name, place.line, place.column),
            None => (true, 0, 0),
        });
        found.dedup();
        found
    }
}

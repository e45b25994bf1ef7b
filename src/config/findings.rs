//! The errors and warnings about a file, collected while it is read.

use std::cell::RefCell;

use super::looks::PathLint;
use super::render::{Note, render};
use super::source::Source;
use super::{Diagnostic, Severity};
use crate::text::printable;
use crate::triggers::Place;

/// How many errors, and how many warnings, of one file are kept. Nobody reads a thousand, each costs a kilobyte, and a
/// hostile file could cause millions. The rest is counted.
const LIMIT: usize = 1_000;

/// A second place of a finding.
#[derive(Clone, Debug)]
pub(super) struct Also {
    pub(super) place: Place,
    pub(super) label: &'static str,
}

impl Also {
    /// The first of two duplicates.
    pub(super) fn first(place: Place) -> Also {
        Also { place, label: "first defined here" }
    }
}

#[derive(Debug)]
struct Finding {
    severity: Severity,
    place: Place,
    message: String,
    help: String,
    also: Option<Also>,
}

/// The collection. Shared by every reader of a file, hence the cell; no borrow outlives a method.
#[derive(Debug, Default)]
pub(super) struct Findings {
    inner: RefCell<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    list: Vec<Finding>,
    /// Paths to be looked at; `None` if nobody does.
    paths: Option<Vec<PathLint>>,
    errors: usize,
    warnings: usize,
}

impl Findings {
    /// A collection for one who looks at the paths that the file names.
    pub(super) fn with_paths() -> Findings {
        Findings { inner: RefCell::new(Inner { paths: Some(Vec::new()), ..Inner::default() }) }
    }

    /// Has a path looked at when the whole file is read, if that is asked for.
    pub(super) fn look_later(&self, lint: impl FnOnce() -> PathLint) {
        if let Some(paths) = &mut self.inner.borrow_mut().paths {
            paths.push(lint());
        }
    }

    /// The paths to be looked at, once.
    pub(super) fn take_path_lints(&self) -> Vec<PathLint> {
        self.inner.borrow_mut().paths.as_mut().map(std::mem::take).unwrap_or_default()
    }

    /// Reports an error, for which the file is refused. The help may be empty.
    pub(super) fn error(&self, place: Place, message: impl Into<String>, help: impl Into<String>) {
        self.add(Finding { severity: Severity::Error, place, message: message.into(), help: help.into(), also: None });
    }

    /// Reports an error about two places that contradict each other.
    pub(super) fn error_of_two(&self, place: Place, message: String, help: impl Into<String>, also: Also) {
        self.add(Finding { severity: Severity::Error, place, message, help: help.into(), also: Some(also) });
    }

    /// Reports something legal but likely wrong.
    pub(super) fn warn(&self, place: Place, message: impl Into<String>, help: impl Into<String>) {
        self.add(Finding { severity: Severity::Warning, place, message: message.into(), help: help.into(), also: None });
    }

    fn add(&self, finding: Finding) {
        let mut inner = self.inner.borrow_mut();
        let count = match finding.severity {
            Severity::Error => &mut inner.errors,
            Severity::Warning => &mut inner.warnings,
        };
        *count += 1;
        if *count <= LIMIT {
            inner.list.push(finding);
        }
    }

    /// The number of errors, warnings and paths to be looked at so far.
    pub(super) fn count(&self) -> usize {
        let inner = self.inner.borrow();
        inner.errors + inner.warnings + inner.paths.as_ref().map_or(0, Vec::len)
    }

    /// The number of errors so far.
    pub(super) fn errors(&self) -> usize {
        self.inner.borrow().errors
    }

    /// All findings, in the order of the file. Duplicates, found through an alias, appear once.
    pub(super) fn into_diagnostics(self, source: &Source<'_>) -> Vec<Diagnostic> {
        let Inner { mut list, errors, warnings, .. } = self.inner.into_inner();
        list.sort_by_key(|finding| finding.place.start);
        list.dedup_by(|one, other| one.place == other.place && one.message == other.message);
        let last = list.last().map_or(Place::default(), |finding| finding.place);
        let mut diagnostics: Vec<Diagnostic> = list.iter().map(|finding| to_diagnostic(finding, source)).collect();
        for (severity, count, word) in [(Severity::Error, errors, "errors"), (Severity::Warning, warnings, "warnings")] {
            if let Some(more) = count.checked_sub(LIMIT).filter(|more| *more > 0) {
                let message = format!("{more} more {word} are not shown");
                let help = format!("more {word} may appear after these are fixed");
                let finding = Finding { severity, place: last, message, help, also: None };
                diagnostics.push(to_diagnostic(&finding, source));
            }
        }
        diagnostics
    }
}

fn to_diagnostic(finding: &Finding, source: &Source<'_>) -> Diagnostic {
    let position = source.position(finding.place.start);
    let message = printable(&finding.message);
    let help = printable(&finding.help);
    let also = finding.also.as_ref().map(|also| Note { place: also.place, label: also.label });
    let rendered = render(source, finding.severity, finding.place, &message, &help, also);
    Diagnostic {
        severity: finding.severity,
        file: source.path().to_owned(),
        line: position.line,
        column: position.column,
        message,
        help,
        rendered,
    }
}

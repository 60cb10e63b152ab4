//! What an app sees of a run whose components have begun to hand in results.

use std::time::Duration;

use super::control::ResultRow;
use super::course::Phase;
use super::parent::Parent;
use crate::report::Sections;

/// A run at its end, as the app's `after_run` hook gets it.
///
/// The hook is called when the first result row is here, or when all workers are done if there are none: components
/// push rows from `finish`, so all input has been processed by the time the last one has come. Reading the rows drives
/// the run to its end; rows that are not read hold the workers back, and are dropped when the hook returns. A first
/// Ctrl-C is heard when the next row is asked for, a second one before that ends the program.
pub struct Outcome<'a> {
    parent: &'a mut Parent,
    /// The app's own parts of the report.
    pub report: Sections,
}

impl<'a> Outcome<'a> {
    pub(crate) fn new(parent: &'a mut Parent) -> Self {
        Outcome { parent, report: Sections::default() }
    }

    /// The result rows as they come from the workers: in order per task, in any order between tasks.
    ///
    /// Ends when all workers are done, and early when the run fails or is cut short: see [`Outcome::completed`].
    pub fn results(&mut self) -> Rows<'_> {
        Rows { parent: self.parent }
    }

    /// Shows a line about the app's own work on standard error, now; not with `--quiet`.
    pub fn note(&mut self, line: &str) {
        self.parent.note(line);
    }

    /// All spouts ended by themselves and all workers are done: the rows read so far are all there are.
    pub fn completed(&self) -> bool {
        let course = self.parent.course();
        let ended = matches!(course.phase(), Phase::Closing { .. } | Phase::Over);
        ended && course.failure().is_none() && !course.interrupted()
    }

    /// Stopped by a signal: the rows are those of the input read until then.
    pub fn interrupted(&self) -> bool {
        self.parent.course().interrupted()
    }

    /// From the begin of the spouts to the first result row: the time the input took.
    pub fn processing_time(&self) -> Duration {
        Duration::from_nanos(self.parent.watch().processing_ns())
    }

    /// From the begin of the spouts until all workers were done, or until now.
    pub fn elapsed(&self) -> Duration {
        Duration::from_nanos(self.parent.watch().elapsed_ns())
    }

    /// Tuples a component has emitted, as last counted; exact once [`Outcome::completed`].
    pub fn emitted(&self, component: &str) -> u64 {
        self.parent.watch().total().component(component).map_or(0, |counts| counts.emitted)
    }

    /// Tuples a component has executed, as last counted; exact once [`Outcome::completed`].
    pub fn executed(&self, component: &str) -> u64 {
        self.parent.watch().total().component(component).map_or(0, |counts| counts.executed)
    }

    /// A user counter summed over all tasks; `None` if no task of the component has it.
    pub fn counter(&self, component: &str, name: &str) -> Option<u64> {
        self.parent.watch().total().counter(component, name)
    }
}

/// Result rows; see [`Outcome::results`].
pub struct Rows<'a> {
    parent: &'a mut Parent,
}

impl Iterator for Rows<'_> {
    type Item = ResultRow;

    fn next(&mut self) -> Option<ResultRow> {
        self.parent.next_row()
    }
}

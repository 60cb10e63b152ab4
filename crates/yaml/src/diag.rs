//! What is wrong with a file, for people: place, snippet with a caret, cause and remedy.
//!
//! Checks go on after an error, so that a file is mended in one go; each error is reported where it is and only once (what
//! follows from it is left out). At most [`Diagnostics::MAX`] are kept.

use std::fmt;

use annotate_snippets::renderer::DecorStyle;
use annotate_snippets::{AnnotationKind, Group, Level, Renderer, Snippet};

use crate::source::{Sources, Span};

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// The topology cannot run.
    Error,
    /// It runs, but something in the file has no effect.
    Warning,
}

/// One fault.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Diagnostic {
    /// How bad it is.
    pub severity: Severity,
    /// Where it is.
    pub span: Span,
    /// The cause.
    pub message: String,
    /// What to say beside the caret; may be empty.
    pub label: String,
    /// Another place that explains this one.
    pub related: Option<(Span, String)>,
    /// What to do.
    pub help: Option<String>,
}

impl Diagnostic {
    /// An error at a place.
    pub fn error(span: Span, message: impl Into<String>) -> Diagnostic {
        Diagnostic {
            severity: Severity::Error,
            span,
            message: message.into(),
            label: String::new(),
            related: None,
            help: None,
        }
    }

    /// A warning at a place.
    pub fn warning(span: Span, message: impl Into<String>) -> Diagnostic {
        Diagnostic { severity: Severity::Warning, ..Diagnostic::error(span, message) }
    }

    /// Adds the words beside the caret.
    pub fn label(mut self, label: impl Into<String>) -> Diagnostic {
        self.label = label.into();
        self
    }

    /// Adds the place that explains this one.
    pub fn related(mut self, span: Span, label: impl Into<String>) -> Diagnostic {
        self.related = Some((span, label.into()));
        self
    }

    /// Adds the remedy.
    pub fn help(mut self, help: impl Into<String>) -> Diagnostic {
        self.help = Some(help.into());
        self
    }
}

/// Everything that was found, in the order of the files.
#[derive(Debug, Clone, Default)]
pub struct Diagnostics {
    all: Vec<Diagnostic>,
    dropped: usize,
    /// Places whose value is not known, so that nothing more can be said about it.
    unknown: Vec<Span>,
}

impl Diagnostics {
    /// Most faults that are kept; further ones are counted.
    pub const MAX: usize = 100;

    /// Adds a fault, unless it lies in a place whose value is not known.
    pub fn push(&mut self, diagnostic: Diagnostic) {
        let span = diagnostic.span;
        let within = |place: &Span| place.file == span.file && place.start <= span.start && span.end <= place.end;
        if self.unknown.iter().any(within) {
            return;
        }
        self.keep(diagnostic);
    }

    /// Adds the fault that leaves a place without a value: what is found there later follows from it.
    pub(crate) fn push_unknown(&mut self, diagnostic: Diagnostic) {
        let span = diagnostic.span;
        self.keep(diagnostic);
        self.unknown.push(span);
    }

    fn keep(&mut self, diagnostic: Diagnostic) {
        if self.all.len() < Self::MAX { self.all.push(diagnostic) } else { self.dropped += 1 }
    }

    /// Whether the topology cannot run.
    pub fn has_errors(&self) -> bool {
        self.all.iter().any(|d| d.severity == Severity::Error) || self.dropped > 0
    }

    /// Whether there is nothing to say.
    pub fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    /// The faults, in no particular order.
    pub fn iter(&self) -> impl Iterator<Item = &Diagnostic> {
        self.all.iter()
    }

    /// All faults as text, from the top of the first file down; with colours for a terminal if `styled`.
    pub fn render(&self, sources: &Sources, styled: bool) -> String {
        let renderer = if styled { Renderer::styled() } else { Renderer::plain() };
        let renderer = renderer.decor_style(DecorStyle::Ascii).term_width(140);
        let mut sorted: Vec<&Diagnostic> = self.all.iter().collect();
        sorted.sort_by_key(|d| d.span);
        let mut text = String::new();
        for diagnostic in sorted {
            text.push_str(&renderer.render(&[group(diagnostic, sources)]));
            text.push_str("\n\n");
        }
        text.push_str(&Summary(self).to_string());
        text
    }
}

/// `2 errors, 1 warning`; empty if there is nothing.
struct Summary<'a>(&'a Diagnostics);

impl fmt::Display for Summary<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let count = |severity| self.0.iter().filter(|d| d.severity == severity).count();
        let counted = |n: usize, noun: &str| format!("{n} {noun}{}", if n == 1 { "" } else { "s" });
        let errors = count(Severity::Error) + self.0.dropped;
        let parts = [(errors, "error"), (count(Severity::Warning), "warning")];
        let parts: Vec<String> = parts.iter().filter(|p| p.0 > 0).map(|p| counted(p.0, p.1)).collect();
        if parts.is_empty() {
            return Ok(());
        }
        write!(f, "{}", parts.join(", "))?;
        if self.0.dropped > 0 {
            write!(f, ", the last {} of them not shown", self.0.dropped)?;
        }
        writeln!(f)
    }
}

fn group<'a>(diagnostic: &'a Diagnostic, sources: &'a Sources) -> Group<'a> {
    let level = match diagnostic.severity {
        Severity::Error => Level::ERROR,
        Severity::Warning => Level::WARNING,
    };
    let source = sources.get(diagnostic.span.file);
    let label = (!diagnostic.label.is_empty()).then_some(diagnostic.label.as_str());
    let range = visible(&source.text, diagnostic.span);
    let mut snippet = Snippet::source(source.text.as_str())
        .path(source.path.to_string_lossy().into_owned())
        .annotation(AnnotationKind::Primary.span(range).label(label));
    let mut other = None;
    if let Some((span, text)) = &diagnostic.related {
        if span.file == diagnostic.span.file {
            let range = visible(&source.text, *span);
            snippet = snippet.annotation(AnnotationKind::Context.span(range).label(text.as_str()));
        } else {
            let source = sources.get(span.file);
            other = Some(
                Snippet::source(source.text.as_str())
                    .path(source.path.to_string_lossy().into_owned())
                    .annotation(AnnotationKind::Context.span(visible(&source.text, *span)).label(text.as_str())),
            );
        }
    }
    let mut group = level.primary_title(diagnostic.message.as_str()).element(snippet);
    if let Some(other) = other {
        group = group.element(other);
    }
    match &diagnostic.help {
        Some(help) => group.element(Level::HELP.message(help.as_str())),
        None => group,
    }
}

/// The place on its first line only: a caret under one line says as much as one beside twenty.
fn visible(text: &str, span: Span) -> std::ops::Range<usize> {
    let range = span.range();
    let line_end = text[range.start..].find('\n').map_or(text.len(), |at| range.start + at);
    let end = range.end.min(line_end).max(range.start);
    range.start..range.start + text[range.start..end].trim_end().len()
}

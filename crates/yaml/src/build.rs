//! From a resolved model to a topology: components are declared from the spouts on, since the fields of a stream follow from
//! what its component reads; then streams are subscribed.

use std::cell::RefCell;

use squall_api::{Row, Sub, Topology};
use squall_components::expression::{Compiler, ExpressionFactory};
use squall_components::registry::{Config, ConfigError, Declared, Given, Node, Place, Rows, Span as Number};
use squall_expr::{Language, Way};

use crate::diag::{Diagnostic, Diagnostics};
use crate::model::{At, GroupingKind, Model, OptionDef};
use crate::names::{closest, listed};
use crate::resolve::{self, Component, Edge, Graph};
use crate::source::{Sources, Span};
use crate::tree;

/// An expression of the file, and how it will be evaluated.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExpressionNote {
    /// The component that has it.
    pub component: String,
    /// Where it is written.
    pub span: Span,
    /// Its text.
    pub text: String,
    /// How it is evaluated.
    pub way: Way,
}

/// Declares the components and streams of a graph. Everything that is wrong is in `diagnostics`.
pub(crate) fn declare(
    graph: &Graph<'_>,
    topology: &Topology,
    sources: &Sources,
    diagnostics: &mut Diagnostics,
) -> Vec<ExpressionNote> {
    let book = Book { sources, spans: RefCell::default(), notes: RefCell::default(), component: RefCell::default() };
    let mut builder = Builder {
        graph,
        topology,
        book: &book,
        language: Language::new(),
        diagnostics,
        declared: graph.components.iter().map(|_| None).collect(),
    };
    for &at in &graph.order {
        builder.component(at);
    }
    for edge in &graph.edges {
        builder.subscribe(edge);
    }
    builder.readers();
    book.notes.into_inner()
}

/// Places as the registry knows them: numbers into a list; and what was compiled on the way.
struct Book<'a> {
    sources: &'a Sources,
    spans: RefCell<Vec<Span>>,
    notes: RefCell<Vec<ExpressionNote>>,
    /// Id of the component that is being declared.
    component: RefCell<String>,
}

impl Book<'_> {
    fn number(&self, span: Span) -> Number {
        let mut spans = self.spans.borrow_mut();
        spans.push(span);
        Number(spans.len() - 1)
    }

    fn span(&self, number: Number) -> Option<Span> {
        self.spans.borrow().get(number.0).copied()
    }

    fn config(&self, options: &[&OptionDef], span: Span) -> Config {
        let pairs = options.iter().map(|option| {
            (
                Given { at: self.number(option.name_span()), value: option.name().to_owned() },
                self.node(&option.entry.value),
            )
        });
        Config { at: self.number(span), node: Node::Map(pairs.collect()) }
    }

    fn node(&self, node: &tree::Node) -> Config {
        let value = match &node.value {
            tree::Yaml::Null => Node::Null,
            tree::Yaml::Bool(b) => Node::Bool(*b),
            tree::Yaml::Int(n) => Node::Int(*n),
            tree::Yaml::Float(x) => Node::Float(*x),
            tree::Yaml::Str(s) => Node::Text(s.clone()),
            tree::Yaml::List(items) => Node::List(items.iter().map(|item| self.node(item)).collect()),
            tree::Yaml::Map(entries) => Node::Map(
                entries
                    .iter()
                    .map(|e| (Given { at: self.number(e.key_span), value: e.key.clone() }, self.node(&e.value)))
                    .collect(),
            ),
        };
        Config { at: self.number(node.span), node: value }
    }

    fn diagnostic(&self, error: ConfigError, otherwise: Span) -> Diagnostic {
        let diagnostic = Diagnostic::error(self.span(error.at).unwrap_or(otherwise), error.what);
        if error.remedy.starts_with("did you mean") {
            diagnostic.label(error.remedy)
        } else if error.remedy.is_empty() {
            diagnostic
        } else {
            diagnostic.help(error.remedy)
        }
    }
}

/// The language of expressions, with places in the file.
struct Expressions<'a> {
    book: &'a Book<'a>,
    language: &'a Language,
}

impl Compiler for Expressions<'_> {
    fn compile(&self, text: &Given<String>, fields: &[String]) -> Result<ExpressionFactory, ConfigError> {
        match self.language.compile(&text.value, fields) {
            Ok(compiled) => {
                if let Some(span) = self.book.span(text.at) {
                    let component = self.book.component.borrow().clone();
                    let way = compiled.way().clone();
                    let note = ExpressionNote { component, span, text: text.value.clone(), way };
                    let mut notes = self.book.notes.borrow_mut();
                    if !notes.contains(&note) {
                        notes.push(note);
                    }
                }
                Ok(compiled.factory())
            }
            Err(fault) => {
                let at = match self.book.span(text.at) {
                    Some(span) => {
                        // Where the file has the expression as it is (no escapes, no folded lines), the caret goes inside.
                        let inside = self.book.sources.text(span).find(&text.value);
                        let part = inside.map_or(span, |from| span.part(from + fault.at.start, from + fault.at.end));
                        self.book.number(part)
                    }
                    None => text.at,
                };
                Err(ConfigError::new(at, fault.what, fault.remedy))
            }
        }
    }
}

struct Builder<'a, 'd> {
    graph: &'a Graph<'a>,
    topology: &'a Topology,
    book: &'a Book<'a>,
    language: Language,
    diagnostics: &'d mut Diagnostics,
    /// By position; `None` if it could not be declared, which has been reported.
    declared: Vec<Option<Declared>>,
}

impl Builder<'_, '_> {
    fn component(&mut self, at: usize) {
        let Component { def, described, config } = &self.graph.components[at];
        let Some(described) = described else { return };
        let span = def.class.as_ref().map_or(def.id.span, |class| class.span);
        let number = self.book.number(span);
        let config = self.book.config(config, span);
        def.id.value.clone_into(&mut self.book.component.borrow_mut());
        let Some(fields) = self.fields(at) else {
            // What it reads is not known, because of an error before it: its options can be checked all the same.
            let errors = described.check(&config, number).err().unwrap_or_default();
            return self.report(errors, span);
        };
        let expressions = Expressions { book: self.book, language: &self.language };
        let executors = def.parallelism.as_ref().or(def.tasks.as_ref()).map_or(1, |n| n.value);
        let mut place =
            Place::new(self.topology, &def.id.value).executors(executors).reads(&fields).compiler(&expressions);
        if let Some(tasks) = &def.tasks {
            place = place.tasks(tasks.value);
        }
        if let Some(timeout) = &def.execute_timeout {
            place = place.execute_timeout(timeout.value);
        }
        match described.declare(&config, number, place) {
            Ok(declared) => {
                if let Some(timeout) = def.execute_timeout.as_ref().filter(|_| declared.on_side_thread()) {
                    let message = format!("`execute_timeout` has no effect on `{}`", def.id.value);
                    let help =
                        "it runs on a thread of its own, where a call may take as long as it likes; remove the key";
                    self.diagnostics.push(Diagnostic::warning(timeout.span, message).help(help));
                }
                self.declared[at] = Some(declared);
            }
            Err(errors) => self.report(errors, span),
        }
    }

    fn report(&mut self, errors: Vec<ConfigError>, otherwise: Span) {
        for error in errors {
            self.diagnostics.push(self.book.diagnostic(error, otherwise));
        }
    }

    /// The fields of the rows that a component reads, as its first stream has them. `None` if that is not known.
    fn fields(&self, at: usize) -> Option<Vec<String>> {
        let mut inputs = self.graph.edges.iter().filter(|edge| edge.to == at && !edge.def.feedback);
        let Some(first) = inputs.next() else {
            let spout = !self.graph.edges.iter().any(|edge| edge.to == at);
            return spout.then(Vec::new);
        };
        let known = std::iter::once(first).chain(inputs).find_map(|edge| self.rows(edge));
        known.map(|rows| rows.fields.clone())
    }

    fn rows(&self, edge: &Edge<'_>) -> Option<&Rows> {
        let stream = edge.def.grouping.stream.as_ref().map_or("default", |stream| &stream.value);
        self.declared[edge.from].as_ref()?.stream(stream)
    }

    fn subscribe(&mut self, edge: &Edge<'_>) {
        let Some(from) = &self.declared[edge.from] else { return };
        let Some(rows) = self.rows(edge).cloned() else {
            let error = no_stream(edge, from);
            return self.diagnostics.push(error);
        };
        if let Some(error) = self.other_fields(edge, &rows) {
            return self.diagnostics.push(error);
        }
        let Some(sub) = self.grouping(edge, &rows) else { return };
        let sub = if edge.def.feedback { sub.feedback() } else { sub };
        if let Some(to) = &mut self.declared[edge.to] {
            to.subscribe(sub);
        }
    }

    /// Streams whose tuples would be lost if nobody read them.
    fn readers(&mut self) {
        for (at, declared) in self.declared.iter().enumerate() {
            for stream in declared.iter().flat_map(|declared| declared.to_be_read()) {
                let named = |edge: &&Edge<'_>| edge.def.grouping.stream.as_ref().is_some_and(|s| s.value == *stream);
                if self.graph.edges.iter().any(|edge| edge.from == at && named(&edge)) {
                    continue;
                }
                let id = &self.graph.components[at].def.id;
                let error = Diagnostic::error(id.span, format!("nobody reads the stream `{stream}` of `{}`", id.value));
                let help = format!(
                    "add a stream with `from: {}` and `streamId: {stream}` in its grouping, or have it emit nothing there",
                    id.value
                );
                self.diagnostics.push(error.help(help));
            }
        }
    }

    /// All streams of a bolt must have the fields of its first one.
    fn other_fields(&self, edge: &Edge<'_>, rows: &Rows) -> Option<Diagnostic> {
        let first = self.graph.edges.iter().find(|e| e.to == edge.to && !e.def.feedback && self.rows(e).is_some())?;
        let expected = self.rows(first)?;
        if expected.fields == rows.fields {
            return None;
        }
        let message = format!(
            "`{}` reads rows of ({}), and this stream has ({})",
            edge.def.to.value,
            expected.fields.join(", "),
            rows.fields.join(", ")
        );
        let error = Diagnostic::error(edge.def.span, message).related(first.def.span, "its first stream");
        Some(error.help("give both the same fields in the same order, for example with a `map` in between"))
    }

    fn grouping(&mut self, edge: &Edge<'_>, rows: &Rows) -> Option<Sub<Row>> {
        let grouping = &edge.def.grouping;
        let handle = &rows.handle;
        Some(match grouping.kind.as_ref()?.value {
            GroupingKind::Shuffle => handle.shuffle(),
            GroupingKind::LocalOrShuffle => handle.local_or_shuffle(),
            GroupingKind::LoadAware => handle.load_aware(),
            GroupingKind::All => handle.all(),
            GroupingKind::Global => handle.global(),
            GroupingKind::None => handle.none(),
            kind => {
                let known = |arg: &&At<String>| rows.fields.contains(&arg.value);
                let unknown: Vec<&At<String>> = grouping.args.iter().filter(|arg| !known(arg)).collect();
                for arg in &unknown {
                    self.diagnostics.push(no_field(arg, edge, rows));
                }
                if !unknown.is_empty() || grouping.args.is_empty() {
                    return None;
                }
                let names = grouping.args.iter().map(|arg| &arg.value);
                if kind == GroupingKind::Fields { handle.fields_named(names) } else { handle.partial_key_named(names) }
            }
        })
    }
}

fn no_stream(edge: &Edge<'_>, from: &Declared) -> Diagnostic {
    let source = &edge.def.from;
    let streams = || from.streams().iter().map(|rows| rows.name.as_str());
    let Some(stream) = &edge.def.grouping.stream else {
        let error = Diagnostic::error(source.span, format!("`{}` has no stream `default`", source.value));
        return error.help(match from.streams() {
            [] => "it is an end of the topology and emits nothing".into(),
            _ => format!("name one of its streams with `streamId`: {}", listed(streams())),
        });
    };
    let error = Diagnostic::error(stream.span, format!("`{}` has no stream `{}`", source.value, stream.value));
    match closest(&stream.value, streams()) {
        Some(close) => error.label(format!("did you mean `{close}`?")),
        None if from.streams().is_empty() => error.help("it is an end of the topology and emits nothing"),
        None => error.help(format!("its streams are {}", listed(streams()))),
    }
}

fn no_field(arg: &At<String>, edge: &Edge<'_>, rows: &Rows) -> Diagnostic {
    let message = format!("the stream `{}` of `{}` has no field `{}`", rows.name, edge.def.from.value, arg.value);
    let error = Diagnostic::error(arg.span, message);
    let fields = || rows.fields.iter().map(String::as_str);
    match closest(&arg.value, fields()) {
        Some(close) => error.label(format!("did you mean `{close}`?")),
        None => error.help(format!("its fields are {}", listed(fields()))),
    }
}

/// Puts name and options of the topology in place.
pub(crate) fn configure(model: &Model, topology: &Topology, diagnostics: &mut Diagnostics) {
    if let Some(name) = &model.name {
        topology.set_name(&name.value);
    }
    for option in &model.config {
        match resolve::config_key(option) {
            Ok(key) => {
                if let Some(error) = set(key.name, option, topology) {
                    diagnostics.push(error);
                }
            }
            Err(diagnostic) => diagnostics.push(*diagnostic),
        }
    }
}

/// Sets one option; the error if its value does not fit.
fn set(name: &str, option: &OptionDef, topology: &Topology) -> Option<Diagnostic> {
    let value = &option.entry.value;
    if name == "shm" {
        let tree::Yaml::Str(text) = &value.value else {
            let error = Diagnostic::error(value.span, format!("`shm` is a word, and this is {}", value.kind()));
            // YAML 1.2 reads `off` as text, `false` not.
            return Some(error.help("write auto, off or copy"));
        };
        return match text.parse() {
            Ok(shm) => {
                topology.configure(|config| config.shm = shm);
                None
            }
            Err(_) => {
                Some(Diagnostic::error(value.span, format!("`shm` cannot be `{text}`")).help("write auto, off or copy"))
            }
        };
    }
    // Of none there is a meaning: no acking, no restart.
    let least = u64::from(!matches!(name, "ackers" | "executor_restarts"));
    let count = match &value.value {
        tree::Yaml::Int(n) => u64::try_from(*n).ok().filter(|n| *n >= least),
        tree::Yaml::Str(text) if name.ends_with("_bytes") => squall_components::registry::parse_size(text),
        _ => None,
    };
    let Some(count) = count else {
        let message = format!("`{name}` is a count of at least {least}, and this is {}", shown(value));
        let help = if name.ends_with("_bytes") {
            "write bytes, or a size such as 64 KiB"
        } else {
            "write a number, for example 2"
        };
        return Some(Diagnostic::error(value.span, message).help(help));
    };
    let small = u32::try_from(count);
    let too_large = || {
        let error = Diagnostic::error(value.span, format!("`{name}` is at most {}", u32::MAX));
        Some(error.help("choose a smaller number"))
    };
    topology.configure(|config| match (name, small) {
        ("credit_bytes", _) => config.credit_bytes = count,
        ("ring_bytes", _) => config.ring_bytes = count,
        ("ledger_bytes", _) => config.ledger_bytes = count,
        ("message_timeout_ms", Ok(_)) => config.message_timeout_ms = count,
        ("message_timeout_secs", Ok(_)) => config.message_timeout_ms = count * 1000,
        ("max_root_age_ms", Ok(_)) => config.max_root_age_ms = Some(count),
        ("ackers", Ok(n)) => config.ackers = Some(n),
        ("max_spout_pending", Ok(n)) => config.max_spout_pending = Some(n),
        ("executor_restarts", Ok(n)) => config.executor_restarts = n,
        ("dead_letter_after", Ok(n)) => config.dead_letter_after = n,
        ("workers", Ok(n)) => config.workers = n,
        ("reactors", Ok(n)) => config.reactors = Some(n),
        ("key_groups", Ok(n)) => config.key_groups = n,
        ("batch_bytes", Ok(n)) => config.batch_bytes = n,
        ("socket_batch_bytes", Ok(n)) => config.socket_batch_bytes = n,
        ("max_tuple_bytes", Ok(n)) => config.max_tuple_bytes = n,
        _ => {}
    });
    if small.is_err() && !matches!(name, "credit_bytes" | "ring_bytes" | "ledger_bytes") { too_large() } else { None }
}

fn shown(value: &tree::Node) -> String {
    match &value.value {
        tree::Yaml::Int(n) => n.to_string(),
        tree::Yaml::Str(text) => format!("`{text}`"),
        _ => value.kind().to_owned(),
    }
}

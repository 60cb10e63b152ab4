//! YAML text as a tree of values, each with its place.
//!
//! The text is parsed by `saphyr-parser` (YAML 1.2); this module makes the tree, resolves scalars by the core schema, puts
//! variables in and refuses what a topology has no use for: several documents, keys that are not text, unknown tags.
//! Variables are put into scalars after parsing, so no value can change the shape of the file, and each keeps its place.
//!
//! Limits: [`DEPTH_MAX`] levels, [`NODES_MAX`] values with aliases counted as often as they are used.

use std::borrow::Cow;
use std::collections::HashMap;

use saphyr::Scalar;
use saphyr_parser::{Event, Parser, ScalarStyle, Span as YamlSpan, StrInput, Tag};

use crate::diag::{Diagnostic, Diagnostics};
use crate::source::{FileIx, Source, Span};
use crate::vars::Variables;

/// Deepest nesting.
pub(crate) const DEPTH_MAX: usize = 32;
/// Most values in one file.
pub(crate) const NODES_MAX: usize = 200_000;

/// A value and its place.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Node {
    pub span: Span,
    pub value: Yaml,
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Yaml {
    Null,
    Bool(bool),
    Int(i64),
    Float(f64),
    Str(String),
    List(Vec<Node>),
    Map(Vec<Entry>),
}

/// One key of a map with its value.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Entry {
    pub key: String,
    pub key_span: Span,
    pub value: Node,
}

impl Node {
    /// What the value is, for messages.
    pub(crate) fn kind(&self) -> &'static str {
        match &self.value {
            Yaml::Null => "nothing",
            Yaml::Bool(_) => "a boolean",
            Yaml::Int(_) => "an integer",
            Yaml::Float(_) => "a number",
            Yaml::Str(_) => "text",
            Yaml::List(_) => "a list",
            Yaml::Map(_) => "a map",
        }
    }

    /// Whether this is the word `null`, rather than an empty place.
    pub(crate) fn is_written_null(&self) -> bool {
        self.value == Yaml::Null && self.span.range().len() == "null".len()
    }

    /// The value of a key, if this is a map that has it.
    pub(crate) fn get(&self, key: &str) -> Option<&Entry> {
        let Yaml::Map(entries) = &self.value else { return None };
        entries.iter().find(|entry| entry.key == key)
    }

    /// Copied for an alias: the copy's place is the alias.
    fn at(&self, span: Span) -> Node {
        let value = match &self.value {
            Yaml::List(items) => Yaml::List(items.iter().map(|item| item.at(span)).collect()),
            Yaml::Map(entries) => Yaml::Map(
                entries.iter().map(|e| Entry { key: e.key.clone(), key_span: span, value: e.value.at(span) }).collect(),
            ),
            scalar => scalar.clone(),
        };
        Node { span, value }
    }

    fn count(&self) -> usize {
        1 + match &self.value {
            Yaml::List(items) => items.iter().map(Node::count).sum(),
            Yaml::Map(entries) => entries.iter().map(|e| e.value.count()).sum(),
            _ => 0,
        }
    }
}

/// Reads a file's text. `None` when there is no tree to go on with; what is wrong is in `diagnostics`.
pub(crate) fn parse(file: FileIx, source: &Source, vars: &Variables, diagnostics: &mut Diagnostics) -> Option<Node> {
    let mut reader = Reader {
        text: &source.text,
        events: Parser::new_from_str(&source.text),
        places: Places::of(file, &source.text),
        vars,
        diagnostics,
        anchors: HashMap::new(),
        nodes: 0,
    };
    match reader.document() {
        Ok(node) => Some(node),
        Err(fatal) => {
            reader.diagnostics.push(*fatal);
            None
        }
    }
}

/// From the parser's places, which count characters, to bytes.
struct Places {
    file: FileIx,
    /// Byte of each character; empty if all are one byte long.
    bytes: Vec<u32>,
    len: u32,
}

impl Places {
    fn of(file: FileIx, text: &str) -> Places {
        let bytes = if text.is_ascii() { Vec::new() } else { text.char_indices().map(|(at, _)| at as u32).collect() };
        Places { file, bytes, len: text.len() as u32 }
    }

    fn byte(&self, index: usize) -> u32 {
        let byte = if self.bytes.is_empty() { Some(index as u32) } else { self.bytes.get(index).copied() };
        byte.unwrap_or(self.len).min(self.len)
    }

    fn span(&self, span: YamlSpan) -> Span {
        let start = self.byte(span.start.index());
        Span { file: self.file, start, end: self.byte(span.end.index()).max(start) }
    }
}

/// An error after which nothing that follows can be believed.
type Fatal = Box<Diagnostic>;

struct Reader<'a> {
    text: &'a str,
    events: Parser<'a, StrInput<'a>>,
    places: Places,
    vars: &'a Variables,
    diagnostics: &'a mut Diagnostics,
    anchors: HashMap<usize, Node>,
    nodes: usize,
}

impl<'a> Reader<'a> {
    fn next(&mut self) -> Result<(Event<'a>, Span), Fatal> {
        match self.events.next_event() {
            Some(Ok((event, span))) => Ok((event, self.places.span(span))),
            Some(Err(error)) => {
                let at = self.places.byte(error.marker().index());
                let span = Span { file: self.places.file, start: at, end: at };
                let help = if error.info().contains("tab") {
                    "indent with spaces"
                } else if error.info().contains("flow") && self.line(at).contains("${") {
                    "within `{ }` and `[ ]` a variable has no place; give its key a line of its own"
                } else {
                    "look at the indentation and the quotes of this line and of the one above it"
                };
                Err(Box::new(Diagnostic::error(span, format!("this is not YAML: {}", error.info())).help(help)))
            }
            None => {
                let end = self.places.len;
                Ok((Event::StreamEnd, Span { file: self.places.file, start: end, end }))
            }
        }
    }

    /// The line of a byte.
    fn line(&self, byte: u32) -> &'a str {
        let (before, after) = self.text.split_at(byte as usize);
        let start = before.rfind('\n').map_or(0, |at| at + 1);
        let end = after.find('\n').map_or(self.text.len(), |at| before.len() + at);
        &self.text[start..end]
    }

    fn document(&mut self) -> Result<Node, Fatal> {
        let mut root: Option<Node> = None;
        loop {
            let (event, span) = self.next()?;
            match event {
                Event::StreamStart | Event::DocumentEnd | Event::Nothing => {}
                // A file without a document holds nothing, as an empty document does.
                Event::StreamEnd => {
                    let nothing = Node { span: Span { start: 0, end: 0, ..span }, value: Yaml::Null };
                    return Ok(root.unwrap_or(nothing));
                }
                Event::DocumentStart(_) if root.is_some() => {
                    let message = "a second document begins here, and a file holds one topology";
                    let help =
                        "remove the `---`, or move what follows to a file of its own and name it under `includes`";
                    self.diagnostics.push(Diagnostic::error(span, message).help(help));
                    return Ok(root.expect("the guard says so"));
                }
                Event::DocumentStart(_) => {}
                event => root = Some(self.node(event, span, 0)?),
            }
        }
    }

    fn node(&mut self, event: Event<'a>, span: Span, depth: usize) -> Result<Node, Fatal> {
        if depth > DEPTH_MAX {
            let message = format!("values nest more than {DEPTH_MAX} levels deep here");
            return Err(Box::new(Diagnostic::error(span, message).help("flatten the value")));
        }
        self.count(1, span)?;
        let (node, anchor) = match event {
            Event::Scalar(text, style, anchor, tag) => (self.scalar(text, style, tag.as_ref(), span), anchor),
            Event::SequenceStart(anchor, tag) => {
                self.refuse_tag(tag.as_ref(), span);
                (self.list(span, depth)?, anchor)
            }
            Event::MappingStart(anchor, tag) => {
                self.refuse_tag(tag.as_ref(), span);
                (self.map(span, depth)?, anchor)
            }
            Event::Alias(anchor) => return self.alias(anchor, span),
            other => {
                let message = format!("this is not YAML: unexpected {other:?}");
                return Err(Box::new(Diagnostic::error(span, message).help("look at the line above")));
            }
        };
        if anchor > 0 {
            self.anchors.insert(anchor, node.clone());
        }
        Ok(node)
    }

    fn count(&mut self, more: usize, span: Span) -> Result<(), Fatal> {
        self.nodes += more;
        if self.nodes <= NODES_MAX {
            return Ok(());
        }
        let message = format!("the file holds more than {NODES_MAX} values, aliases counted as often as they are used");
        Err(Box::new(Diagnostic::error(span, message).help("use fewer aliases, or split the topology")))
    }

    fn alias(&mut self, anchor: usize, span: Span) -> Result<Node, Fatal> {
        let Some(node) = self.anchors.get(&anchor).map(|node| node.at(span)) else {
            let message = "this alias stands inside the value that it names";
            return Err(Box::new(Diagnostic::error(span, message).help("write the value out")));
        };
        self.count(node.count(), span)?;
        Ok(node)
    }

    fn list(&mut self, start: Span, depth: usize) -> Result<Node, Fatal> {
        let mut items = Vec::new();
        loop {
            let (event, span) = self.next()?;
            if matches!(event, Event::SequenceEnd) {
                return Ok(Node { span: until(start, span), value: Yaml::List(items) });
            }
            items.push(self.node(event, span, depth + 1)?);
        }
    }

    fn map(&mut self, start: Span, depth: usize) -> Result<Node, Fatal> {
        let mut entries: Vec<Entry> = Vec::new();
        loop {
            let (event, key_span) = self.next()?;
            if matches!(event, Event::MappingEnd) {
                return Ok(Node { span: until(start, key_span), value: Yaml::Map(entries) });
            }
            let key = self.key(event, key_span, depth)?;
            let (event, span) = self.next()?;
            let value = self.node(event, span, depth + 1)?;
            let Some(key) = key else { continue };
            if let Some(first) = entries.iter().find(|entry| entry.key == key) {
                let error = Diagnostic::error(key_span, format!("the key `{key}` is given twice"))
                    .label("given again here")
                    .related(first.key_span, "given first here")
                    .help("keep one of them");
                self.diagnostics.push(error);
                continue;
            }
            entries.push(Entry { key, key_span, value });
        }
    }

    /// A key as text; `None` (and an error) if it is none.
    fn key(&mut self, event: Event<'a>, span: Span, depth: usize) -> Result<Option<String>, Fatal> {
        if let Event::Scalar(text, style, ..) = &event {
            if text == "<<" && *style == ScalarStyle::Plain {
                let message = "merge keys (`<<`) are YAML 1.1 and not read";
                let help = "put what is shared under `components` and name it with `ref`, or repeat it";
                self.diagnostics.push(Diagnostic::error(span, message).help(help));
                return Ok(None);
            }
            return Ok(Some(text.clone().into_owned()));
        }
        let node = self.node(event, span, depth + 1)?;
        let message = format!("a key must be text, and this is {}", node.kind());
        self.diagnostics.push(Diagnostic::error(node.span, message).help("write `name: value`"));
        Ok(None)
    }

    fn scalar(&mut self, text: Cow<'a, str>, style: ScalarStyle, tag: Option<&Cow<'a, Tag>>, span: Span) -> Node {
        let text = match self.vars.expand(&text, span, self.diagnostics) {
            Some(expanded) => Cow::Owned(expanded),
            None => text,
        };
        let value = match Scalar::parse_from_cow_and_metadata(text, style, tag) {
            Some(Scalar::Null) => Yaml::Null,
            Some(Scalar::Boolean(b)) => Yaml::Bool(b),
            Some(Scalar::Integer(n)) => Yaml::Int(n),
            Some(Scalar::FloatingPoint(x)) => Yaml::Float(x.into_inner()),
            Some(Scalar::String(s)) => Yaml::Str(s.into_owned()),
            None => {
                let message = "the tag does not fit the value";
                self.diagnostics.push(Diagnostic::error(span, message).help("remove the tag (`!!…`)"));
                Yaml::Null
            }
        };
        Node { span, value }
    }

    fn refuse_tag(&mut self, tag: Option<&Cow<'a, Tag>>, span: Span) {
        if let Some(tag) = tag.filter(|tag| !tag.is_yaml_core_schema()) {
            let message = format!("the tag `{}{}` means nothing here", tag.handle, tag.suffix);
            self.diagnostics.push(Diagnostic::error(span, message).help("remove the tag"));
        }
    }
}

fn until(start: Span, end: Span) -> Span {
    Span { end: end.end.max(start.end), ..start }
}

//! From files to a [`Model`]: the file, what it includes, and the shape of each part.

use std::path::{Path, PathBuf};
use std::time::Duration;

use squall_components::registry::{parse_duration, show_duration};

use crate::diag::{Diagnostic, Diagnostics};
use crate::keys::{self, Keys};
use crate::model::{At, ComponentDef, GroupingDef, GroupingKind, Model, OptionDef, StreamDef};
use crate::names;
use crate::source::{FileIx, Sources, Span};
use crate::tree::{self, Node, Yaml};
use crate::vars::Variables;

/// How deep includes may include.
const INCLUDE_DEPTH_MAX: usize = 8;

/// Largest count of tasks or executors of one component.
const TASKS_MAX: i64 = 1 << 20;

/// Least and most of `execute_timeout`, as the plan has them: a call is noticed after a second.
const EXECUTE_TIMEOUT: std::ops::RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(86_400);

/// Reads files into one model.
pub(crate) struct Loader<'a> {
    pub sources: &'a mut Sources,
    pub vars: &'a Variables,
    pub diagnostics: &'a mut Diagnostics,
}

impl Loader<'_> {
    /// Reads the topology's own text. `None` if there is nothing to go on with.
    pub(crate) fn topology(&mut self, path: PathBuf, text: String) -> Option<Model> {
        let mut chain = vec![path.clone()];
        let file = self.sources.add(path, text);
        let (model, span) = self.file(file, &mut chain)?;
        if model.name.is_none() && !model.incomplete {
            let error = Diagnostic::error(span, "the topology has no name");
            self.diagnostics.push(error.help("add `name: my-topology` at the top"));
        }
        Some(model)
    }

    fn file(&mut self, file: FileIx, chain: &mut Vec<PathBuf>) -> Option<(Model, Span)> {
        let root = tree::parse(file, self.sources.get(file), self.vars, self.diagnostics)?;
        // Where the file as a whole is meant, its first character is shown.
        let first = Span { end: (root.span.start + 1).min(root.span.end), ..root.span };
        if root.value == Yaml::Null {
            let help =
                "begin with `name:`, `spouts:`, `bolts:` and `streams:`; `squall new NAME --yaml` makes a first one";
            self.diagnostics.push(Diagnostic::error(first, "the file is empty").help(help));
            return None;
        }
        let mut shape = Shape { diagnostics: self.diagnostics, model: Model::default(), includes: Vec::new() };
        shape.topology(&root);
        let Shape { mut model, includes, .. } = shape;
        for include in includes {
            self.include(&include, file, chain, &mut model);
        }
        Some((model, first))
    }

    fn include(&mut self, include: &Include, from: FileIx, chain: &mut Vec<PathBuf>, model: &mut Model) {
        let folder = self.sources.get(from).path.parent().unwrap_or(Path::new("")).to_owned();
        let path = folder.join(&include.file.value);
        let span = include.file.span;
        let shown = path.display();
        let refuse = |message: String, help: &str| Diagnostic::error(span, message).help(help);
        let error = if chain.contains(&path) {
            Some(refuse(format!("{shown} includes itself"), "remove this entry, or the one over there"))
        } else if chain.len() > INCLUDE_DEPTH_MAX {
            Some(refuse(format!("includes nest more than {INCLUDE_DEPTH_MAX} files deep"), "include fewer levels"))
        } else {
            None
        };
        if let Some(error) = error {
            model.incomplete = true;
            return self.diagnostics.push(error);
        }
        let text = match read_file(&path) {
            Ok(text) => text,
            Err(cause) => {
                model.incomplete = true;
                let help = "paths are taken from the folder of the file that includes";
                let error = refuse(format!("the included file {shown} cannot be read: {cause}"), help);
                return self.diagnostics.push(error);
            }
        };
        let file = self.sources.add(path.clone(), text);
        chain.push(path);
        match self.file(file, chain) {
            Some((other, _)) => merge(model, other, include.overrides),
            None => model.incomplete = true,
        }
        chain.pop();
    }
}

/// Reads a file of UTF-8 text of bounded size.
pub(crate) fn read_file(path: &Path) -> Result<String, String> {
    let length = std::fs::metadata(path).map_err(|e| e.to_string())?.len();
    if length > Sources::FILE_BYTES_MAX {
        return Err(format!("it has {length} bytes, and a topology at most {}", Sources::FILE_BYTES_MAX));
    }
    let bytes = std::fs::read(path).map_err(|e| e.to_string())?;
    String::from_utf8(bytes).map_err(|e| format!("byte {} is not UTF-8 text", e.utf8_error().valid_up_to()))
}

/// Flux's rule: what has the same id (or key) stays as it is here, or is replaced if the include says so.
fn merge(into: &mut Model, other: Model, overrides: bool) {
    fn join<T>(into: &mut Vec<T>, other: Vec<T>, overrides: bool, name: impl Fn(&T) -> String) {
        for item in other {
            match into.iter_mut().find(|mine| name(mine) == name(&item)) {
                Some(mine) if overrides => *mine = item,
                Some(_) => {}
                None => into.push(item),
            }
        }
    }
    let id = |c: &ComponentDef| c.id.value.clone();
    join(&mut into.config, other.config, overrides, |o| o.name().to_owned());
    join(&mut into.components, other.components, overrides, id);
    join(&mut into.spouts, other.spouts, overrides, id);
    join(&mut into.bolts, other.bolts, overrides, id);
    into.streams.extend(other.streams);
    into.incomplete |= other.incomplete;
}

struct Include {
    file: At<String>,
    overrides: bool,
}

/// Checks the shape of one file.
struct Shape<'a> {
    diagnostics: &'a mut Diagnostics,
    model: Model,
    includes: Vec<Include>,
}

impl Shape<'_> {
    fn topology(&mut self, root: &Node) {
        let mut parts = Vec::new();
        self.model.incomplete |= !matches!(root.value, Yaml::Map(_));
        keys::TOPOLOGY.check(root, self.diagnostics, |entry, _| parts.push(entry));
        for entry in parts {
            let value = &entry.value;
            match entry.key.as_str() {
                "name" => self.model.name = text(value, "`name`", self.diagnostics),
                "config" => self.model.config = options(value, self.diagnostics),
                "includes" => {
                    for item in self.items(value, "includes") {
                        self.include(item);
                    }
                }
                "streams" => {
                    for item in self.items(value, "streams") {
                        let stream = stream(item, self.diagnostics);
                        self.model.incomplete |= stream.is_none();
                        self.model.streams.extend(stream);
                    }
                }
                list => {
                    let keys = match list {
                        "spouts" => &keys::SPOUT,
                        "bolts" => &keys::BOLT,
                        _ => &keys::COMPONENT,
                    };
                    let mut read = Vec::new();
                    for item in self.items(value, list) {
                        let component = component(item, keys, self.diagnostics);
                        self.model.incomplete |= component.is_none();
                        read.extend(component);
                    }
                    match list {
                        "spouts" => self.model.spouts = read,
                        "bolts" => self.model.bolts = read,
                        _ => self.model.components = read,
                    }
                }
            }
        }
    }

    /// The items of a list; nothing at all is an empty one.
    fn items<'n>(&mut self, node: &'n Node, key: &str) -> &'n [Node] {
        match &node.value {
            Yaml::List(items) => items,
            Yaml::Null => &[],
            _ => {
                let message = format!("`{key}` is a list, and this is {}", node.kind());
                let help = "begin each entry with `- ` on a line of its own";
                self.diagnostics.push(Diagnostic::error(node.span, message).help(help));
                self.model.incomplete = true;
                &[]
            }
        }
    }

    fn include(&mut self, node: &Node) {
        let (mut file, mut overrides) = (None, false);
        keys::INCLUDE.check(node, self.diagnostics, |entry, diagnostics| match entry.key.as_str() {
            "file" => file = text(&entry.value, "`file`", diagnostics),
            "override" => overrides = boolean(&entry.value, "`override`", diagnostics),
            _ => {
                if boolean(&entry.value, "`resource`", diagnostics) {
                    let message = "`resource: true` looks in Java's class path, and there is none";
                    let help = "remove it: `file` is a path from the folder of this file";
                    diagnostics.push(Diagnostic::error(entry.value.span, message).help(help));
                }
            }
        });
        match file {
            Some(file) => self.includes.push(Include { file, overrides }),
            None => missing(node, &["file"], "an include", self.diagnostics),
        }
    }
}

fn component(node: &Node, keys: &Keys, diagnostics: &mut Diagnostics) -> Option<ComponentDef> {
    let (mut id, mut class, mut refers) = (None, None, None);
    let (mut parallelism, mut tasks, mut execute_timeout, mut config) = (None, None, None, Vec::new());
    keys.check(node, diagnostics, |entry, diagnostics| match entry.key.as_str() {
        "id" => id = text(&entry.value, "`id`", diagnostics),
        // `null` is a component, and YAML's word for nothing.
        "className" if entry.value.is_written_null() => {
            class = Some(At { value: "null".into(), span: entry.value.span });
        }
        "className" => class = text(&entry.value, "`className`", diagnostics),
        "ref" => refers = text(&entry.value, "`ref`", diagnostics),
        "parallelism" => parallelism = count(&entry.value, "`parallelism`", diagnostics),
        "numTasks" => tasks = count(&entry.value, "`numTasks`", diagnostics),
        "execute_timeout" => execute_timeout = timeout(&entry.value, diagnostics),
        _ => config = options(&entry.value, diagnostics),
    });
    if !matches!(node.value, Yaml::Map(_)) {
        return None;
    }
    let required: &[&str] = if node.get("ref").is_some() { &["id"] } else { &["id", "className"] };
    missing(node, required, keys.what, diagnostics);
    if let (Some(executors), Some(tasks)) = (&parallelism, &tasks)
        && executors.value > tasks.value
    {
        let message = format!(
            "{} cannot share {}",
            names::counted(executors.value as usize, "executor"),
            names::counted(tasks.value as usize, "task")
        );
        let error = Diagnostic::error(tasks.span, message)
            .related(executors.span, "the number of executors")
            .help(format!("make `numTasks` at least {}, or leave it out", executors.value));
        diagnostics.push(error);
    }
    Some(ComponentDef { id: id?, class, refers, parallelism, tasks, execute_timeout, config })
}

fn stream(node: &Node, diagnostics: &mut Diagnostics) -> Option<StreamDef> {
    let (mut from, mut to, mut feedback, mut found) = (None, None, false, None);
    keys::STREAM.check(node, diagnostics, |entry, diagnostics| match entry.key.as_str() {
        "from" => from = text(&entry.value, "`from`", diagnostics),
        "to" => to = text(&entry.value, "`to`", diagnostics),
        "grouping" => found = Some(grouping(&entry.value, diagnostics)),
        "feedback" => feedback = boolean(&entry.value, "`feedback`", diagnostics),
        _ => {
            text(&entry.value, "`name`", diagnostics);
        }
    });
    if !matches!(node.value, Yaml::Map(_)) {
        return None;
    }
    missing(node, &["from", "to"], keys::STREAM.what, diagnostics);
    let span = first_line(node);
    let shuffle = At { value: GroupingKind::Shuffle, span };
    let by_default = GroupingDef { kind: Some(shuffle), stream: None, args: Vec::new(), args_span: span };
    Some(StreamDef { from: from?, to: to?, grouping: found.unwrap_or(by_default), feedback, span })
}

fn grouping(node: &Node, diagnostics: &mut Diagnostics) -> GroupingDef {
    let (mut kind, mut stream, mut args, mut args_span) = (None, None, Vec::new(), first_line(node));
    keys::GROUPING.check(node, diagnostics, |entry, diagnostics| match entry.key.as_str() {
        "type" => {
            kind = text(&entry.value, "`type`", diagnostics).and_then(|text| grouping_kind(text, diagnostics));
        }
        "streamId" => stream = text(&entry.value, "`streamId`", diagnostics),
        _ => {
            args_span = entry.value.span;
            match &entry.value.value {
                Yaml::List(items) => {
                    args = items.iter().filter_map(|item| text(item, "a field of `args`", diagnostics)).collect();
                }
                // One field is often written without brackets.
                Yaml::Str(_) => args.extend(text(&entry.value, "`args`", diagnostics)),
                _ => {
                    let message = format!("`args` is a list of field names, and this is {}", entry.value.kind());
                    let help = "write `args: [\"field\"]`";
                    diagnostics.push(Diagnostic::error(entry.value.span, message).help(help));
                }
            }
        }
    });
    missing(node, &["type"], keys::GROUPING.what, diagnostics);
    GroupingDef { kind, stream, args, args_span }
}

fn grouping_kind(text: At<String>, diagnostics: &mut Diagnostics) -> Option<At<GroupingKind>> {
    let value = match text.value.to_ascii_uppercase().as_str() {
        "SHUFFLE" => GroupingKind::Shuffle,
        "LOCAL_OR_SHUFFLE" => GroupingKind::LocalOrShuffle,
        "LOAD_AWARE_SHUFFLE" => GroupingKind::LoadAware,
        "FIELDS" => GroupingKind::Fields,
        "PARTIAL_KEY" => GroupingKind::PartialKey,
        "ALL" => GroupingKind::All,
        "GLOBAL" => GroupingKind::Global,
        "NONE" => GroupingKind::None,
        "DIRECT" => {
            let message = "no registered component emits a direct stream";
            let help = "use FIELDS to choose the task by a value; direct streams are for components written in Rust";
            diagnostics.push(Diagnostic::error(text.span, message).help(help));
            return None;
        }
        "CUSTOM" => {
            let message = "a custom grouping is code, and a file cannot bring any";
            let help = "use FIELDS on a field computed by a `map`, or write the topology in Rust";
            diagnostics.push(Diagnostic::error(text.span, message).help(help));
            return None;
        }
        _ => {
            let error = Diagnostic::error(text.span, format!("there is no grouping `{}`", text.value));
            diagnostics.push(match names::closest(&text.value, keys::GROUPING_TYPES) {
                Some(close) => error.label(format!("did you mean `{close}`?")),
                None => error.help(format!("the groupings are {}", names::listed(keys::GROUPING_TYPES))),
            });
            return None;
        }
    };
    Some(At { value, span: text.span })
}

/// A map of options; nothing at all is an empty one.
fn options(node: &Node, diagnostics: &mut Diagnostics) -> Vec<OptionDef> {
    match &node.value {
        Yaml::Map(entries) => entries.iter().cloned().map(|entry| OptionDef { entry }).collect(),
        Yaml::Null => Vec::new(),
        _ => {
            let message = format!("`config` is a map of options, and this is {}", node.kind());
            diagnostics.push(Diagnostic::error(node.span, message).help("write `option: value` a line"));
            Vec::new()
        }
    }
}

fn text(node: &Node, what: &str, diagnostics: &mut Diagnostics) -> Option<At<String>> {
    match &node.value {
        Yaml::Str(text) => Some(At { value: text.clone(), span: node.span }),
        Yaml::Null => {
            let error = Diagnostic::error(node.span, format!("{what} has no value"));
            diagnostics.push(error.help("write a name behind the colon"));
            None
        }
        _ => {
            let message = format!("{what} is a name, and this is {}", node.kind());
            diagnostics.push(Diagnostic::error(node.span, message).help("put it in quotes if it is meant as text"));
            None
        }
    }
}

fn count(node: &Node, what: &str, diagnostics: &mut Diagnostics) -> Option<At<u32>> {
    match node.value {
        Yaml::Int(n) if (1..=TASKS_MAX).contains(&n) => Some(At { value: n as u32, span: node.span }),
        Yaml::Int(n) => {
            let message = format!("{what} is at least 1 and at most {TASKS_MAX}, not {n}");
            diagnostics.push(Diagnostic::error(node.span, message).help("choose a number within"));
            None
        }
        _ => {
            let message = format!("{what} is a number, and this is {}", node.kind());
            diagnostics.push(Diagnostic::error(node.span, message).help("write it without quotes, for example `2`"));
            None
        }
    }
}

/// The time that a call may take: 0, or a duration that the plan takes.
fn timeout(node: &Node, diagnostics: &mut Diagnostics) -> Option<At<Duration>> {
    let value = match &node.value {
        Yaml::Int(0) => Some(Duration::ZERO),
        Yaml::Str(text) => parse_duration(text),
        _ => None,
    };
    // What is finer than the plan is not cut off in silence.
    let fits = |value: &Duration| {
        value.is_zero() || EXECUTE_TIMEOUT.contains(value) && value.subsec_nanos().is_multiple_of(1_000_000)
    };
    let (least, most) = (show_duration(*EXECUTE_TIMEOUT.start()), show_duration(*EXECUTE_TIMEOUT.end()));
    let (message, help) = match (value, &node.value) {
        (Some(value), _) if fits(&value) => return Some(At { value, span: node.span }),
        (Some(value), _) => (
            format!("`execute_timeout` is {least} to {most} in whole milliseconds, not {}", show_duration(value)),
            "a call that does not return is noticed after a second; 0 lets it take as long as it likes",
        ),
        (None, Yaml::Int(n)) => (
            format!("`execute_timeout` has a unit, and {n} has none"),
            "write it with its unit, such as 2m or 10s; only 0 has none",
        ),
        (None, Yaml::Str(text)) => {
            (format!("`{text}` is no duration"), "write a number and its unit, such as 2m or 10s; or 0")
        }
        (None, _) => (
            format!("`execute_timeout` is a duration, and this is {}", node.kind()),
            "write one such as 2m or 10s; or 0",
        ),
    };
    diagnostics.push(Diagnostic::error(node.span, message).help(help));
    None
}

fn boolean(node: &Node, what: &str, diagnostics: &mut Diagnostics) -> bool {
    if let Yaml::Bool(value) = node.value {
        return value;
    }
    let message = format!("{what} is `true` or `false`, and this is {}", node.kind());
    diagnostics.push(Diagnostic::error(node.span, message).help("`yes` and `no` are text in YAML 1.2"));
    false
}

/// Reports the keys that a map needs and has not; one that is only misspelt has been reported as such.
fn missing(node: &Node, keys: &[&str], what: &str, diagnostics: &mut Diagnostics) {
    let Yaml::Map(entries) = &node.value else { return };
    let misspelt = |key: &str| entries.iter().any(|entry| names::closest(&entry.key, [key]).is_some());
    let missing: Vec<&str> = keys.iter().copied().filter(|key| node.get(key).is_none() && !misspelt(key)).collect();
    if missing.is_empty() {
        return;
    }
    let noun = if missing.len() == 1 { "key" } else { "keys" };
    let message = format!("{what} needs the {noun} {}", names::listed(missing.iter().copied()));
    let lines: Vec<String> = missing.iter().map(|key| format!("`{key}: …`")).collect();
    diagnostics.push(Diagnostic::error(first_line(node), message).help(format!("add {}", lines.join(" and "))));
}

/// The first entry of a map stands for the whole of it.
fn first_line(node: &Node) -> Span {
    match &node.value {
        Yaml::Map(entries) => entries
            .first()
            .map_or(node.span, |entry| Span { end: entry.value.span.end.max(entry.key_span.end), ..entry.key_span }),
        _ => node.span,
    }
}

//! The names of a model: components are registered, ids are unique, streams join what there is.
//!
//! What comes out is a graph of indices in which every edge exists, with the components in an order in which each comes after
//! all that it reads from (feedback streams apart).

use std::collections::HashMap;

use squall_components::registry::{Described, Kind, Registry};

use crate::diag::{Diagnostic, Diagnostics};
use crate::keys;
use crate::model::{At, ComponentDef, GroupingKind, Model, OptionDef, StreamDef};
use crate::names::{closest, listed};

/// A component whose class is known.
pub(crate) struct Component<'a> {
    pub def: &'a ComponentDef,
    /// `None` where the class is unknown, which has been reported.
    pub described: Option<&'a Described>,
    /// Its options, with those of the definition it takes over.
    pub config: Vec<&'a OptionDef>,
}

/// A stream between two components, by their positions.
pub(crate) struct Edge<'a> {
    pub def: &'a StreamDef,
    pub from: usize,
    pub to: usize,
}

/// The topology as a graph.
pub(crate) struct Graph<'a> {
    /// Spouts, then bolts, in the order of the file.
    pub components: Vec<Component<'a>>,
    pub edges: Vec<Edge<'a>>,
    /// Positions of components, each after those that it reads from. Without those that stand in an undeclared cycle.
    pub order: Vec<usize>,
}

/// Resolves the names of a model. What cannot be resolved is reported and left out.
pub(crate) fn graph<'a>(model: &'a Model, registry: &'a Registry, diagnostics: &mut Diagnostics) -> Graph<'a> {
    let mut resolver = Resolver { model, registry, diagnostics };
    if let Some(name) = &model.name {
        resolver.check_name(name, "name of a topology");
    }
    resolver.shared();
    let (components, ids) = resolver.components();
    let edges = resolver.edges(&components, &ids);
    if !model.incomplete {
        resolver.inputs(&components, &edges);
    }
    let order = resolver.order(&components, &edges);
    Graph { components, edges, order }
}

struct Resolver<'a, 'd> {
    model: &'a Model,
    registry: &'a Registry,
    diagnostics: &'d mut Diagnostics,
}

impl<'a> Resolver<'a, '_> {
    /// Entries of `components`: unique, and used.
    fn shared(&mut self) {
        let mut seen: HashMap<&str, &At<String>> = HashMap::new();
        for def in &self.model.components {
            if let Some(first) = seen.insert(&def.id.value, &def.id) {
                self.diagnostics.push(twice(&def.id, first));
            }
            let mut users = self.model.spouts.iter().chain(&self.model.bolts).filter_map(|c| c.refers.as_ref());
            if !users.any(|refers| refers.value == def.id.value) && !self.model.incomplete {
                let message = format!("nothing takes over the component `{}`", def.id.value);
                let warning = Diagnostic::warning(def.id.span, message);
                self.diagnostics.push(warning.help(format!("name it in a spout or bolt: `ref: {}`", def.id.value)));
            }
        }
    }

    fn components(&mut self) -> (Vec<Component<'a>>, HashMap<&'a str, usize>) {
        let mut components: Vec<Component<'a>> = Vec::new();
        let mut ids: HashMap<&str, usize> = HashMap::new();
        let spouts = self.model.spouts.iter().map(|def| (def, true));
        for (def, spout) in spouts.chain(self.model.bolts.iter().map(|def| (def, false))) {
            let component = self.component(def, spout);
            if let Some(&first) = ids.get(def.id.value.as_str()) {
                self.diagnostics.push(twice(&def.id, &components[first].def.id));
                continue;
            }
            self.check_name(&def.id, "id of a component");
            ids.insert(&def.id.value, components.len());
            components.push(component);
        }
        if self.model.spouts.is_empty() && !self.model.incomplete {
            let span = self.model.name.as_ref().map(|name| name.span);
            if let Some(span) = span {
                let error = Diagnostic::error(span, "the topology has no spout, so no tuple would ever enter it");
                self.diagnostics.push(error.help("add one under `spouts`; `squall components` lists them"));
            }
        }
        (components, ids)
    }

    fn check_name(&mut self, id: &At<String>, what: &str) {
        let good = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
        let name = &id.value;
        if name.is_empty() || name.len() > 128 || !name.chars().all(good) || name.starts_with("__") {
            let message = format!("`{name}` cannot be the {what}");
            let help = "use 1 to 128 letters, digits, `_`, `-` or `.`, not beginning with `__`";
            self.diagnostics.push(Diagnostic::error(id.span, message).help(help));
        }
    }

    fn component(&mut self, def: &'a ComponentDef, spout: bool) -> Component<'a> {
        let taken = def.refers.as_ref().and_then(|refers| self.referred(refers));
        let mut config: Vec<&OptionDef> = def.config.iter().collect();
        if let Some(taken) = taken {
            config.extend(taken.config.iter().filter(|theirs| def.config.iter().all(|o| o.name() != theirs.name())));
        }
        let class = def.class.as_ref().or(taken.and_then(|taken| taken.class.as_ref()));
        let described = class.and_then(|class| self.class(class, spout));
        Component { def, described, config }
    }

    fn referred(&mut self, refers: &At<String>) -> Option<&'a ComponentDef> {
        let shared = &self.model.components;
        let found = shared.iter().find(|c| c.id.value == refers.value);
        if found.is_none() && !self.model.incomplete {
            let error =
                Diagnostic::error(refers.span, format!("there is no component `{}` to take over", refers.value));
            let ids = || shared.iter().map(|c| c.id.value.as_str());
            self.diagnostics.push(match closest(&refers.value, ids()) {
                Some(close) => error.label(format!("did you mean `{close}`?")),
                None if shared.is_empty() => error.help("define it under `components`, or write `className` here"),
                None => error.help(format!("`components` defines {}", listed(ids()))),
            });
        }
        found
    }

    fn class(&mut self, class: &At<String>, spout: bool) -> Option<&'a Described> {
        let name = &class.value;
        let Some(described) = self.registry.get(name) else {
            let error = Diagnostic::error(class.span, format!("no component is registered as `{name}`"));
            let listing =
                "`squall components` lists what there is; what is missing is written in Rust (`squall new NAME`)";
            self.diagnostics.push(match (self.registry.left_out(name), self.registry.suggest(name)) {
                (Some(feature), _) => error.help(feature),
                (None, Some(close)) => error.label(format!("did you mean `{close}`?")),
                (None, None) if name.contains('.') => {
                    error.help(format!("Java classes cannot be run, and none here is known to do the same; {listing}"))
                }
                (None, None) => error.help(listing),
            });
            return None;
        };
        if (described.kind == Kind::Spout) != spout {
            let (is, belongs) = if spout { ("a bolt", "bolts") } else { ("a spout", "spouts") };
            let message = format!("`{name}` is {is} and stands under `{}`", if spout { "spouts" } else { "bolts" });
            self.diagnostics.push(Diagnostic::error(class.span, message).help(format!("move it to `{belongs}`")));
            return None;
        }
        Some(described)
    }

    fn edges(&mut self, components: &[Component<'a>], ids: &HashMap<&'a str, usize>) -> Vec<Edge<'a>> {
        let mut edges: Vec<Edge<'a>> = Vec::new();
        for def in &self.model.streams {
            self.grouping(def);
            let (from, to) = (self.end(&def.from, ids, components), self.end(&def.to, ids, components));
            let (Some(from), Some(to)) = (from, to) else { continue };
            if to < self.model.spouts.len() && ids.get(def.to.value.as_str()) == Some(&to) && self.is_spout(def, to) {
                continue;
            }
            let same = |other: &&Edge<'_>| {
                let stream = |d: &StreamDef| d.grouping.stream.as_ref().map_or("default".into(), |s| s.value.clone());
                other.from == from && other.to == to && stream(other.def) == stream(def)
            };
            if let Some(first) = edges.iter().find(same) {
                let message = format!("`{}` reads this stream of `{}` already", def.to.value, def.from.value);
                let error = Diagnostic::error(def.span, message).related(first.def.span, "here");
                self.diagnostics.push(error.help("keep one of them, with the grouping that is meant"));
                continue;
            }
            edges.push(Edge { def, from, to });
        }
        edges
    }

    fn is_spout(&mut self, def: &StreamDef, to: usize) -> bool {
        let spout = to < self.model.spouts.len();
        if spout {
            let message = format!("`{}` is a spout and reads nothing", def.to.value);
            let help = "a stream leads to a bolt; were `from` and `to` exchanged?";
            self.diagnostics.push(Diagnostic::error(def.to.span, message).help(help));
        }
        spout
    }

    fn end(&mut self, name: &At<String>, ids: &HashMap<&str, usize>, components: &[Component<'_>]) -> Option<usize> {
        let found = ids.get(name.value.as_str()).copied();
        if found.is_none() && !self.model.incomplete {
            let known = || components.iter().map(|c| c.def.id.value.as_str());
            let error = Diagnostic::error(name.span, format!("there is no spout or bolt `{}`", name.value));
            self.diagnostics.push(match closest(&name.value, known()) {
                Some(close) => error.label(format!("did you mean `{close}`?")),
                None if self.registry.get(&name.value).is_some() => error.help(format!(
                    "`{0}` is the class of a component: add one with `id: {0}` and `className: {0}`, and the options that it needs",
                    name.value
                )),
                None => error.help(format!("this topology has {}", listed(known()))),
            });
        }
        found
    }

    fn grouping(&mut self, def: &StreamDef) {
        let grouping = &def.grouping;
        let Some(kind) = &grouping.kind else { return };
        let by_fields = matches!(kind.value, GroupingKind::Fields | GroupingKind::PartialKey);
        if by_fields && grouping.args.is_empty() {
            let error = Diagnostic::error(kind.span, "a grouping by fields names none");
            self.diagnostics.push(error.help("add `args: [\"field\"]`"));
        } else if !by_fields && !grouping.args.is_empty() {
            let message = "`args` has no effect here: only FIELDS and PARTIAL_KEY have fields";
            let error = Diagnostic::error(grouping.args_span, message).related(kind.span, "the grouping");
            self.diagnostics.push(error.help("remove `args`, or write `type: FIELDS`"));
        }
    }

    /// A bolt that reads nothing would never be called. Where a stream probably means it, but misspells it, that has been said.
    fn inputs(&mut self, components: &[Component<'_>], edges: &[Edge<'_>]) {
        for (at, component) in components.iter().enumerate().skip(self.model.spouts.len()) {
            let id = &component.def.id;
            let known = || components.iter().map(|c| c.def.id.value.as_str());
            let means =
                |to: &str| to == id.value || known().all(|k| k != to) && closest(to, known()) == Some(&id.value);
            let named = || self.model.streams.iter().any(|stream| means(&stream.to.value));
            if edges.iter().all(|edge| edge.to != at) && !named() {
                let error = Diagnostic::error(id.span, format!("nothing leads to the bolt `{}`", id.value));
                self.diagnostics.push(error.help(format!("add a stream with `to: {}`, or remove the bolt", id.value)));
            }
        }
    }

    fn order(&mut self, components: &[Component<'_>], edges: &[Edge<'_>]) -> Vec<usize> {
        let mut open: Vec<usize> = vec![0; components.len()];
        let forward = || edges.iter().filter(|edge| !edge.def.feedback);
        forward().for_each(|edge| open[edge.to] += 1);
        let mut order: Vec<usize> = (0..components.len()).filter(|&at| open[at] == 0).collect();
        let mut next = 0;
        while let Some(&at) = order.get(next) {
            next += 1;
            for edge in forward().filter(|edge| edge.from == at) {
                open[edge.to] -= 1;
                if open[edge.to] == 0 {
                    order.push(edge.to);
                }
            }
        }
        if order.len() < components.len() {
            self.cycle(components, edges, &order);
        }
        order
    }

    /// Reports one cycle among the components that have no place in the order.
    fn cycle(&mut self, components: &[Component<'_>], edges: &[Edge<'_>], order: &[usize]) {
        let open = |at: usize| !order.contains(&at);
        // Each of them reads from another of them, so walking back runs into a circle.
        let Some(mut at) = (0..components.len()).find(|&at| open(at)) else { return };
        let mut way: Vec<usize> = Vec::new();
        while !way.contains(&at) {
            way.push(at);
            let back = edges.iter().find(|edge| edge.to == at && !edge.def.feedback && open(edge.from));
            let Some(back) = back else { return };
            at = back.from;
        }
        way.drain(..way.iter().position(|&step| step == at).unwrap_or(0));
        way.reverse();
        // The stream that stands last in the file is taken for the one that closes the circle.
        let steps = || (0..way.len()).map(|at| (way[at], way[(at + 1) % way.len()]));
        let place = |(from, to)| edges.iter().rposition(|edge| edge.from == from && edge.to == to);
        let Some(closing) = steps().filter_map(place).max().map(|at| &edges[at]) else { return };
        let start = way.iter().position(|&at| at == closing.to).unwrap_or(0);
        way.rotate_left(start);
        way.push(way[0]);
        let names: Vec<&str> = way.iter().map(|&at| components[at].def.id.value.as_str()).collect();
        let message = format!("streams run in a circle: {}", names.join(" -> "));
        let help = "mark the stream that closes it with `feedback: true` (it then fails tuples rather than wait), or remove it";
        self.diagnostics.push(Diagnostic::error(closing.def.span, message).help(help));
    }
}

fn twice(again: &At<String>, first: &At<String>) -> Diagnostic {
    Diagnostic::error(again.span, format!("the id `{}` is taken", again.value))
        .label("given again here")
        .related(first.span, "given first here")
        .help("give each component an id of its own")
}

/// The option of the topology that a key stands for, or what is wrong with it.
pub(crate) fn config_key(option: &OptionDef) -> Result<&'static keys::ConfigKey, Box<Diagnostic>> {
    let name = option.name();
    if let Some(key) = keys::CONFIG.iter().find(|key| key.name == name || key.storm == Some(name)) {
        return Ok(key);
    }
    if let Some(storm) = keys::STORM_CONFIG.iter().find(|key| key.name == name) {
        let diagnostic = if storm.fatal {
            Diagnostic::error(option.name_span(), format!("`{name}` is for Java and not read here"))
        } else {
            Diagnostic::warning(option.name_span(), format!("`{name}` has no effect"))
        };
        return Err(Box::new(diagnostic.help(storm.help)));
    }
    let error = Diagnostic::error(option.name_span(), format!("a topology has no option `{name}`"));
    let known = || keys::CONFIG.iter().map(|key| key.name);
    let plain = name.strip_prefix("topology.").unwrap_or(name);
    Err(Box::new(match closest(plain, known()) {
        Some(close) => error.label(format!("did you mean `{close}`?")),
        None => {
            error.help(format!("its options are {}; those of a component belong to its own `config`", listed(known())))
        }
    }))
}

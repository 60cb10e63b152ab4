//! The graph of components for drawing programs.
//!
//! Node ids are made from indices, so no name can be mistaken for syntax; names appear in quoted labels only. Both take
//! a spec that need not be valid: a stream or subscription that points nowhere is left out.

use super::{counted, grouping};
use crate::spec::{ComponentKind, ComponentSpec, TopologySpec};

/// The topology for Graphviz (`dot -Tsvg`). Spouts are ovals, bolts boxes, feedback dashed. Ends with a line break.
pub fn dot(spec: &TopologySpec) -> String {
    let mut text = format!("digraph {} {{\n  rankdir=LR;\n", dot_quoted(&[&spec.name]));
    for (at, component) in spec.components.iter().enumerate() {
        let shape = match component.kind {
            ComponentKind::Spout => "ellipse",
            ComponentKind::Bolt => "box",
        };
        let label = dot_quoted(&[&component.name, &tasks(component)]);
        text.push_str(&format!("  c{at} [shape={shape}, label={label}];\n"));
    }
    for edge in edges(spec) {
        let style = if edge.feedback { ", style=dashed, constraint=false" } else { "" };
        let label = dot_quoted(&[edge.stream, &edge.grouping]);
        text.push_str(&format!("  c{} -> c{} [label={label}{style}];\n", edge.from, edge.to));
    }
    text.push_str("}\n");
    text
}

/// The topology for Mermaid. Spouts are rounded, bolts boxes, feedback dotted. Ends with a line break.
pub fn mermaid(spec: &TopologySpec) -> String {
    let mut text = String::from("flowchart LR\n");
    for (at, component) in spec.components.iter().enumerate() {
        let label = mermaid_quoted(&[&component.name, &tasks(component)]);
        text.push_str(&match component.kind {
            ComponentKind::Spout => format!("  c{at}([{label}])\n"),
            ComponentKind::Bolt => format!("  c{at}[{label}]\n"),
        });
    }
    for edge in edges(spec) {
        let arrow = if edge.feedback { "-.->" } else { "-->" };
        let label = mermaid_quoted(&[edge.stream, &edge.grouping]);
        text.push_str(&format!("  c{} {arrow}|{label}| c{}\n", edge.from, edge.to));
    }
    text
}

fn tasks(component: &ComponentSpec) -> String {
    counted(component.tasks as usize, "task")
}

/// An arrow of the graph, for a drawing program of one's own.
pub struct Edge<'a> {
    /// Index of the component that emits.
    pub from: u32,
    /// Index of the component that reads.
    pub to: u32,
    /// Name of the stream.
    pub stream: &'a str,
    /// The grouping, with its fields or name.
    pub grouping: String,
    /// It closes a cycle.
    pub feedback: bool,
}

/// The arrows between components, in the order of the subscriptions.
pub fn edges(spec: &TopologySpec) -> impl Iterator<Item = Edge<'_>> {
    let known = |component: u32| (component as usize) < spec.components.len();
    spec.subscriptions.iter().filter_map(move |subscription| {
        let stream = spec.streams.get(subscription.stream as usize)?;
        (known(stream.component) && known(subscription.to)).then(|| Edge {
            from: stream.component,
            to: subscription.to,
            stream: &stream.name,
            grouping: grouping(subscription, &stream.schema),
            feedback: subscription.feedback,
        })
    })
}

/// A double-quoted string of the DOT language, one line of the label per item.
fn dot_quoted(lines: &[&str]) -> String {
    let escaped: Vec<String> = lines
        .iter()
        .map(|line| line.replace('\\', "\\\\").replace('"', "\\\"").replace(|c: char| c.is_control(), " "))
        .collect();
    format!("\"{}\"", escaped.join("\\n"))
}

/// A quoted Mermaid label, one line per item. Mermaid has no backslash escapes; it knows `#…;` entities, and reads
/// backquotes in a label as Markdown and angle brackets as HTML.
fn mermaid_quoted(lines: &[&str]) -> String {
    let escaped: Vec<String> = lines.iter().map(|line| line.chars().map(mermaid_char).collect()).collect();
    format!("\"{}\"", escaped.join("<br/>"))
}

fn mermaid_char(c: char) -> String {
    match c {
        '"' => "#quot;".into(),
        '#' | '&' | '<' | '>' | '`' | '|' | '\\' | ';' | '*' => format!("#{};", c as u32),
        c if c.is_control() => " ".into(),
        c => c.into(),
    }
}

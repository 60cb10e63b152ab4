//! The topology as a picture that a browser shows: placed and drawn by `layout-rs`.

use layout::backends::svg::SVGWriter;
use layout::core::base::Orientation;
use layout::core::color::Color;
use layout::core::geometry::Point;
use layout::core::style::{LineStyleKind, StyleAttr};
use layout::std_shapes::shapes::{Arrow, Element, LineEndKind, ShapeKind};
use layout::topo::layout::VisualGraph;
use squall_topology::{ComponentKind, TopologySpec, render};

const SPOUT: u32 = 0xd8_ec_ff_ff;
const BOLT: u32 = 0xff_ff_ff_ff;
const FONT_PX: usize = 14;

/// Draws components as boxes, spouts rounded, and streams as arrows with their groupings; feedback is dashed.
pub(crate) fn draw(spec: &TopologySpec) -> String {
    let mut graph = VisualGraph::new(Orientation::LeftToRight);
    let handles: Vec<_> = spec
        .components
        .iter()
        .map(|component| {
            let spout = component.kind == ComponentKind::Spout;
            let tasks = format!("{} task{}", component.tasks, if component.tasks == 1 { "" } else { "s" });
            let label = format!("{}\n{tasks}", component.name);
            let width = label.lines().map(|line| line.chars().count()).max().unwrap_or(0) as f64;
            let size = Point::new(width * 9.0 + 30.0, 50.0);
            let (fill, rounded) = if spout { (SPOUT, 20) } else { (BOLT, 0) };
            let look = StyleAttr::new(Color::new(0x33_33_33_ff), 1, Some(Color::new(fill)), rounded, FONT_PX);
            graph.add_node(Element::create(ShapeKind::new_box(&label), look, Orientation::LeftToRight, size))
        })
        .collect();
    for edge in render::edges(spec) {
        let style = if edge.feedback { LineStyleKind::Dashed } else { LineStyleKind::Normal };
        let look = StyleAttr::new(Color::new(0x33_33_33_ff), 1, None, 0, FONT_PX);
        let label = format!("{} {}", edge.stream, edge.grouping);
        let arrow = Arrow::new(LineEndKind::None, LineEndKind::Arrow, style, &label, &look, &None, &None);
        graph.add_edge(arrow, handles[edge.from as usize], handles[edge.to as usize]);
    }
    let mut svg = SVGWriter::new();
    graph.do_it(false, false, false, &mut svg);
    let mut text = svg.finalize();
    text.push('\n');
    text
}

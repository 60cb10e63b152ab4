//! The topology as a picture that a browser shows: placed and drawn by `layout-rs`.

use layout::backends::svg::SVGWriter;
use layout::core::base::Orientation;
use layout::core::color::Color;
use layout::core::format::{ClipHandle, RenderBackend};
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
        let label = match edge.stream {
            "default" => edge.grouping.to_string(),
            stream => format!("{stream}: {}", edge.grouping),
        };
        let arrow = Arrow::new(LineEndKind::None, LineEndKind::Arrow, style, &label, &look, &None, &None);
        graph.add_edge(arrow, handles[edge.from as usize], handles[edge.to as usize]);
    }
    let mut layers = Layers { svg: SVGWriter::new(), texts: Vec::new(), boxes: Vec::new() };
    graph.do_it(false, false, false, &mut layers);
    let mut text = layers.finish().replace("font-family: Times, serif;", TEXT_STYLE);
    // Wider than the window it would be shown in part; so it shrinks to it.
    text = text.replacen("<svg ", "<svg style=\"max-width: 100%; height: auto\" ", 1);
    text.push('\n');
    text
}

/// Width of a letter, about.
const LETTER_PX: f64 = 7.5;

/// Labels stand on lines, their own and others', so each has an edge of white around it.
const TEXT_STYLE: &str = "font-family: sans-serif; paint-order: stroke; stroke: #fff; stroke-width: 4px;";

/// Draws shapes at once and texts last, so that no line runs over a text.
struct Layers {
    svg: SVGWriter,
    texts: Vec<(Point, String, StyleAttr)>,
    /// Corners of the boxes, top left and bottom right.
    boxes: Vec<(Point, Point)>,
}

impl Layers {
    fn finish(mut self) -> String {
        for (at, text, look) in &self.texts {
            let inside = |(from, to): &(Point, Point)| from.x < at.x && at.x < to.x && from.y < at.y && at.y < to.y;
            if !self.boxes.iter().any(inside) {
                // Its line must not show between the words either.
                let size = Point::new(text.chars().count() as f64 * LETTER_PX, FONT_PX as f64);
                let white = StyleAttr::new(Color::new(0xff_ff_ff_ff), 0, Some(Color::new(0xff_ff_ff_ff)), 0, FONT_PX);
                self.svg.draw_rect(at.sub(size.scale(0.5)), size, &white, None, None);
            }
            self.svg.draw_text(*at, text, look);
        }
        self.svg.finalize()
    }
}

impl RenderBackend for Layers {
    fn draw_rect(
        &mut self,
        at: Point,
        size: Point,
        look: &StyleAttr,
        properties: Option<String>,
        clip: Option<ClipHandle>,
    ) {
        self.boxes.push((at, at.add(size)));
        self.svg.draw_rect(at, size, look, properties, clip);
    }

    fn draw_line(&mut self, from: Point, to: Point, look: &StyleAttr, properties: Option<String>) {
        self.svg.draw_line(from, to, look, properties);
    }

    fn draw_circle(&mut self, at: Point, size: Point, look: &StyleAttr, properties: Option<String>) {
        self.svg.draw_circle(at, size, look, properties);
    }

    fn draw_text(&mut self, at: Point, text: &str, look: &StyleAttr) {
        self.texts.push((at, text.to_owned(), look.clone()));
    }

    fn draw_arrow(
        &mut self,
        path: &[(Point, Point)],
        dashed: bool,
        head: (bool, bool),
        look: &StyleAttr,
        properties: Option<String>,
        text: &str,
    ) {
        self.svg.draw_arrow(path, dashed, head, look, properties, text);
    }

    fn create_clip(&mut self, at: Point, size: Point, rounded: usize) -> ClipHandle {
        self.svg.create_clip(at, size, rounded)
    }
}

#[cfg(test)]
mod tests {
    use squall_topology::{ComponentSpec, Grouping, SchemaSpec, StreamSpec, SubscriptionSpec};

    use super::*;

    fn spec(components: u32, edges: impl IntoIterator<Item = (u32, u32)>) -> TopologySpec {
        let mut spec = TopologySpec { name: "drawn".into(), ..TopologySpec::default() };
        for at in 0..components {
            spec.components.push(ComponentSpec::bolt(format!("c{at} <&>")));
            let schema = SchemaSpec { name: "row".into(), fields: Vec::new(), id: 0, dynamic: true };
            spec.streams.push(StreamSpec { component: at, name: "default".into(), schema, direct: false });
        }
        for (from, to) in edges {
            let grouping = Grouping::Shuffle;
            let feedback = to <= from;
            spec.subscriptions.push(SubscriptionSpec { stream: from, to, port: 0, grouping, feedback });
        }
        spec
    }

    /// Circles, loops of one, islands and double edges included: the drawing library must lay out anything.
    #[test]
    fn any_graph_is_drawn_with_all_its_names() {
        let mut seed = 0x5eed_u64;
        let mut random = |bound: u64| {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            ((seed >> 33) % bound) as u32
        };
        for _ in 0..200 {
            let components = 1 + random(12);
            let count = random(20);
            let edges: Vec<_> =
                (0..count).map(|_| (random(u64::from(components)), random(u64::from(components)))).collect();
            let drawn = draw(&spec(components, edges.clone()));
            assert!(drawn.ends_with("</svg>\n"), "{edges:?}");
            for at in 0..components {
                assert!(drawn.contains(&format!(">c{at} &lt;&amp;&gt;<")), "c{at} of {components} with {edges:?}");
            }
        }
    }
}

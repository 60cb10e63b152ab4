//! One page per run: no script, no other file, no network. Plots are inline SVG whose colours follow the reader's light or dark setting.

use std::fmt::Write as _;

use squall_metrics::format::{count, duration_ns, duration_ns_or_none, rate};

use super::run::{Figures, RunReport};
use super::text::{headline, machine_line};

const STYLE: &str = include_str!("page.css");
/// Size of a plot, in its own units, and its margins.
const WIDTH: f64 = 720.0;
const HEIGHT: f64 = 300.0;
const LEFT: f64 = 84.0;
const RIGHT: f64 = 44.0;
const TOP: f64 = 14.0;
const BOTTOM: f64 = 48.0;

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

/// A line of a plot: its name, its class (which has the colour and the dashes), its points.
struct Line<'a> {
    name: &'a str,
    class: &'a str,
    points: Vec<(f64, f64)>,
}

/// An axis: from 0 to 1 along it, and its marks.
struct Axis {
    low: f64,
    high: f64,
    log: bool,
    marks: Vec<(f64, String)>,
}

impl Axis {
    /// A logarithmic axis of durations.
    fn durations(values: impl Iterator<Item = f64> + Clone) -> Axis {
        let low = values.clone().fold(f64::INFINITY, f64::min).max(1.0);
        let high = values.fold(0.0, f64::max).max(low * 10.0);
        let (low, high) = (10_f64.powf(low.log10().floor()), 10_f64.powf(high.log10().ceil()));
        let decades = (high / low).log10().round() as i32;
        let marks = (0..=decades).map(|d| low * 10_f64.powi(d)).map(|v| (v, duration_ns(v as u64))).collect();
        Axis { low, high, log: true, marks }
    }

    /// An even axis from 0.
    fn even(high: f64, name: impl Fn(f64) -> String) -> Axis {
        let high = if high > 0.0 { high } else { 1.0 };
        let step = 10_f64.powf((high / 4.0).log10().floor());
        let step = [1.0, 2.0, 5.0, 10.0].map(|f| f * step).into_iter().find(|s| high / s <= 6.0).unwrap_or(step * 10.0);
        let top = (high / step).ceil() * step;
        let marks = (0..=(top / step).round() as i32).map(|i| f64::from(i) * step).map(|v| (v, name(v))).collect();
        Axis { low: 0.0, high: top, log: false, marks }
    }

    fn place(&self, v: f64) -> f64 {
        let share = match self.log {
            true => (v.max(self.low) / self.low).ln() / (self.high / self.low).ln(),
            false => (v - self.low) / (self.high - self.low),
        };
        share.clamp(0.0, 1.0)
    }
}

fn plot(title: &str, x: &Axis, y: &Axis, x_name: &str, lines: &[Line<'_>]) -> String {
    let at_x = |v: f64| LEFT + x.place(v) * (WIDTH - LEFT - RIGHT);
    let at_y = |v: f64| HEIGHT - BOTTOM - y.place(v) * (HEIGHT - TOP - BOTTOM);
    let mut svg = format!(
        "<figure><figcaption>{}</figcaption><div class=\"plot\"><svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" aria-label=\"{}\">",
        escaped(title),
        escaped(title)
    );
    for (v, name) in &y.marks {
        let (at, right) = (at_y(*v), WIDTH - RIGHT);
        let _ = write!(
            svg,
            "<path class=\"grid\" d=\"M{LEFT} {at:.1}H{right:.1}\"/><text class=\"y\" x=\"{:.1}\" y=\"{:.1}\">{}</text>",
            LEFT - 8.0,
            at + 4.0,
            escaped(name)
        );
    }
    for (i, (v, name)) in x.marks.iter().enumerate() {
        let (at, bottom) = (at_x(*v), HEIGHT - BOTTOM);
        // On a narrow page letters are larger, and every other mark has room.
        let class = match i % 2 {
            1 => "x odd",
            _ if i + 1 == x.marks.len() => "x last",
            _ => "x",
        };
        let _ = write!(
            svg,
            "<path class=\"grid\" d=\"M{at:.1} {TOP}V{bottom:.1}\"/><text class=\"{class}\" x=\"{at:.1}\" y=\"{:.1}\">{}</text>",
            bottom + 16.0,
            escaped(name)
        );
    }
    let _ = write!(
        svg,
        "<text class=\"x\" x=\"{:.1}\" y=\"{:.1}\">{}</text>",
        (LEFT + WIDTH - RIGHT) / 2.0,
        HEIGHT - 6.0,
        escaped(x_name)
    );
    for line in lines {
        let points: Vec<String> = line.points.iter().map(|(a, b)| format!("{:.1},{:.1}", at_x(*a), at_y(*b))).collect();
        let _ = write!(
            svg,
            "<polyline class=\"{}\" points=\"{}\"><title>{}</title></polyline>",
            line.class,
            points.join(" "),
            escaped(line.name)
        );
        if let [only] = &line.points[..] {
            let _ = write!(
                svg,
                "<circle class=\"{}\" cx=\"{:.1}\" cy=\"{:.1}\" r=\"3\"/>",
                line.class,
                at_x(only.0),
                at_y(only.1)
            );
        }
    }
    svg += "</svg></div><p class=\"legend\">";
    for line in lines {
        let _ = write!(
            svg,
            "<span><svg class=\"key\" viewBox=\"0 0 28 8\" aria-hidden=\"true\"><path class=\"{}\" d=\"M0 4H28\"/></svg>{}</span>",
            line.class,
            escaped(line.name)
        );
    }
    svg + "</p></figure>"
}

fn percentile_plot(r: &RunReport) -> String {
    let beyond = |q: f64| 1.0 / (1.0 - q).max(1e-9);
    let line = |name, class, f: &Figures| {
        // Beyond what ten samples support there is nothing to see, and the fastest tenth would only squeeze the rest.
        let most = f.count as f64 / 10.0;
        let kept = f.spectrum.iter().filter(|(q, _)| (0.1..1.0).contains(q) && beyond(*q) <= most.max(2.0));
        Line { name, class, points: kept.map(|(q, v)| (beyond(*q), *v as f64)).collect() }
    };
    let lines = [
        line("from the intended time", "s1", &r.intended),
        line("from the time of sending", "s2", &r.actual),
        line("lateness of the generator", "s3", &r.late),
    ];
    let all = || lines.iter().flat_map(|l| l.points.iter());
    if all().next().is_none() {
        return "<p>No latencies: nothing came back after the warm-up.</p>".to_owned();
    }
    let high = all().map(|p| p.0).fold(10.0, f64::max);
    let names = ["0", "90 %", "99 %", "99.9 %", "99.99 %", "99.999 %", "99.9999 %", "99.99999 %"];
    let decades = (high.log10().ceil() as usize).clamp(1, names.len() - 1);
    let marks = (0..=decades).map(|d| (10_f64.powi(d as i32), names[d].to_owned())).collect();
    let x = Axis { low: 1.0, high: 10_f64.powi(decades as i32), log: true, marks };
    let y = Axis::durations(all().map(|p| p.1));
    plot("Latency by percentile", &x, &y, "percentile", &lines)
}

fn timeline_plots(r: &RunReport) -> String {
    // What is left of the last interval is too short for a rate.
    let usual = r.timeline.iter().map(|p| p.to_s - p.from_s).fold(0.0, f64::max);
    let points: Vec<_> = r.timeline.iter().filter(|p| p.to_s - p.from_s >= usual / 2.0).collect();
    let end = points.last().map_or(1.0, |p| p.to_s);
    let x = || Axis::even(end, |v| format!("{v} s"));
    let line = |name, class, of: fn(&crate::measure::totals::Point) -> Option<f64>| Line {
        name,
        class,
        points: points.iter().filter_map(|p| Some(((p.from_s + p.to_s) / 2.0, of(p)?))).collect(),
    };
    let latency = [
        line("p50", "s1", |p| p.p50_ns.map(|v| v as f64)),
        line("p99", "s2", |p| p.p99_ns.map(|v| v as f64)),
        line("largest", "s3", |p| p.max_ns.map(|v| v as f64)),
    ];
    let rates = [line("sent", "s1", |p| Some(p.sent_rate)), line("complete", "s2", |p| Some(p.complete_rate))];
    let mut html = String::new();
    let values = || latency.iter().flat_map(|l| l.points.iter()).map(|p| p.1);
    if values().next().is_some() {
        let y = Axis::durations(values().collect::<Vec<_>>().into_iter());
        html +=
            &plot("Latency over time, from the intended time", &x(), &y, "time since the start of the load", &latency);
    }
    let most = rates.iter().flat_map(|l| l.points.iter()).map(|p| p.1).fold(0.0, f64::max);
    html + &plot("Rate over time", &x(), &Axis::even(most, rate), "time since the start of the load", &rates)
}

fn waterfall(r: &RunReport) -> String {
    let mut before = 0.0;
    let hops: Vec<(&str, f64, f64, u64, u64)> = r
        .hops
        .iter()
        .filter_map(|h| {
            let p50 = h.p50_ns? as f64;
            let from = before;
            before += p50;
            Some((h.name.as_str(), from, p50, h.p99_ns.unwrap_or(0), h.count))
        })
        .collect();
    if hops.is_empty() {
        return "<p>No hops were sampled.</p>".to_owned();
    }
    let height = 34.0 * hops.len() as f64 + 10.0;
    let (left, right) = (170.0, 150.0);
    let scale = (WIDTH - left - right) / before.max(1.0);
    let mut svg = format!(
        "<figure><figcaption>Where the time goes: medians of sampled tuples, one after another</figcaption><div class=\"plot\"><svg viewBox=\"0 0 {WIDTH} {height}\" role=\"img\" aria-label=\"Hops and their medians\">"
    );
    for (i, (name, from, p50, p99, _)) in hops.iter().enumerate() {
        let y = 8.0 + 34.0 * i as f64;
        let x = left + from * scale;
        let width = (p50 * scale).max(2.0);
        let shown = duration_ns(*p50 as u64);
        let tail =
            if *p99 > 0 { format!("<tspan class=\"wide\">, p99 {}</tspan>", duration_ns(*p99)) } else { String::new() };
        let _ = write!(
            svg,
            "<text class=\"y\" x=\"{:.1}\" y=\"{:.1}\">{}</text><rect class=\"bar\" x=\"{x:.1}\" y=\"{y:.1}\" width=\"{width:.1}\" height=\"22\" rx=\"3\"/>\
             <text class=\"v\" x=\"{:.1}\" y=\"{:.1}\">{shown}{tail}</text>",
            left - 10.0,
            y + 16.0,
            escaped(name),
            x + width + 6.0,
            y + 16.0
        );
    }
    svg + "</svg></div></figure>"
}

fn latency_table(r: &RunReport) -> String {
    let mut html = "<div class=\"plot\"><table><thead><tr><th></th><th>p50</th><th>p90</th><th>p99</th><th>p99.9</th><th>p99.99</th><th>max</th><th>samples</th></tr></thead><tbody>".to_owned();
    let mut row = |name: &str, f: &Figures| {
        let _ = write!(html, "<tr><th scope=\"row\">{}</th>", escaped(name));
        f.columns().iter().for_each(|(_, v)| _ = write!(html, "<td>{}</td>", duration_ns_or_none(*v)));
        let _ = write!(html, "<td>{}</td></tr>", count(f.count));
    };
    row("from the intended time", &r.intended);
    row("from the time of sending", &r.actual);
    row("lateness of the generator", &r.late);
    r.hiccups.iter().for_each(|h| row(&format!("hiccups of core {}", h.core), &h.late));
    if r.gaps.count > 0 {
        row("gaps of the generating thread", &r.gaps);
    }
    html + "</tbody></table></div><p class=\"small\">– : fewer than ten samples lie beyond that percentile.</p>"
}

fn counts_table(r: &RunReport) -> String {
    let c = &r.counts;
    let rows = [
        ("due", r.due),
        ("sent", c.sent),
        ("complete", c.complete),
        ("lost", c.lost),
        ("duplicates", c.duplicates),
        ("reordered", c.reordered),
        ("corrupt", c.corrupt),
        ("unknown", c.unknown),
    ];
    let heads: String = rows.iter().map(|(n, _)| format!("<th>{n}</th>")).collect();
    let cells: String = rows.iter().map(|(_, n)| format!("<td>{}</td>", count(*n))).collect();
    format!("<div class=\"plot\"><table><thead><tr>{heads}</tr></thead><tbody><tr>{cells}</tr></tbody></table></div>")
}

/// The page of a run.
pub fn page(r: &RunReport) -> String {
    let v = &r.verdict;
    let word = v.word.text();
    let list = |items: &[String], class: &str| match items {
        [] => String::new(),
        items => format!(
            "<ul class=\"{class}\">{}</ul>",
            items.iter().map(|i| format!("<li>{}</li>", escaped(i))).collect::<String>()
        ),
    };
    let slos: String = r
        .slos
        .iter()
        .map(|c| {
            let holds = match c.holds {
                Some(true) => "holds",
                Some(false) => "does not hold",
                None => "cannot be told: too few samples",
            };
            format!("<li><code>{}</code> {holds}</li>", escaped(&c.slo))
        })
        .collect();
    let slos = if slos.is_empty() { String::new() } else { format!("<h2>SLOs</h2><ul>{slos}</ul>") };
    let interrupted = if r.interrupted { "<p>Interrupted: this is the part until then.</p>" } else { "" };
    let machine = serde_json::to_string_pretty(&r.machine).unwrap_or_default();
    let job = serde_json::to_string_pretty(&r.job).unwrap_or_default();
    format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\
         <meta name=\"color-scheme\" content=\"light dark\"><title>{word}: {target}</title><style>{STYLE}</style></head><body><main>\
         <h1><span class=\"word {class}\">{word}</span> {target}</h1><p>{head}</p>{interrupted}{reasons}\
         <p class=\"grade\">Grade <strong>{grade}</strong></p>{grades}\
         <h2>Latency</h2>{latency}{percentiles}<h2>Over time</h2>{timeline}<h2>Hops</h2>{hops}\
         <h2>Counts</h2>{counts}<p>Sent at {sent}, complete at {complete}; the link was full {blocked:.1} % of the time; {cores:.2} cores; {steal} ms stolen by the host; \
         {throttled} periods throttled.</p>{slos}{notes}\
         <h2>Machine and job</h2><p>{about}</p><details><summary>Machine</summary><pre>{machine}</pre></details><details><summary>Job</summary><pre>{job}</pre></details>\
         </main></body></html>\n",
        target = escaped(&r.job.target),
        class = word.to_lowercase(),
        head = escaped(&headline(r)),
        about = escaped(&machine_line(r)),
        reasons = list(&v.reasons, "reasons"),
        grade = v.grade,
        grades = list(&v.grade_reasons, "small"),
        latency = latency_table(r),
        percentiles = percentile_plot(r),
        timeline = timeline_plots(r),
        hops = waterfall(r),
        counts = counts_table(r),
        sent = rate(r.sent_rate),
        complete = rate(r.complete_rate),
        blocked = r.blocked_share * 100.0,
        cores = r.cpu_cores,
        steal = r.stolen.steal_ms,
        throttled = r.stolen.throttled_periods,
        notes = list(&r.notes, "small"),
        machine = escaped(&machine),
        job = escaped(&job),
    )
}

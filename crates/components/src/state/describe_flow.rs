//! The descriptions of windows, and of the bolts that change which rows go on and when.

use super::describe::{aggregate, by_option, keys_max_option, precision_option, quantile_options};
use super::{Aggregate, Batch, Beyond, Dedup, RateLimit, Window, Windows};
use crate::registry::{ConfigError, Described, Kind, OptionSpec, OptionType, Options};
use crate::rows::{on_error, on_error_option};

pub(super) fn described() -> Vec<Described> {
    vec![window(), dedup(), batch(), rate_limit()]
}

const AGGREGATES: &[&str] = &["count", "sum", "min", "max", "average", "distinct", "quantiles", "top-k"];

fn window() -> Described {
    let mut options = vec![
        OptionSpec::required(
            "type",
            OptionType::Word(&["tumbling", "sliding", "session"]),
            "Windows one after the other, overlapping ones, or ones that end with a pause.",
        ),
        OptionSpec::optional("size", OptionType::duration(), "Length of tumbling and sliding windows by time."),
        OptionSpec::optional("slide", OptionType::duration(), "Time between the beginnings of two sliding windows."),
        OptionSpec::optional(
            "rows",
            OptionType::at_least(1),
            "Size of tumbling and sliding windows by count, per key.",
        ),
        OptionSpec::optional(
            "slide_rows",
            OptionType::at_least(1),
            "Rows between the beginnings of two sliding windows.",
        ),
        OptionSpec::optional("gap", OptionType::duration(), "The pause that ends a session."),
        OptionSpec::with_default("longest", OptionType::duration(), "24h", "Length of a session, at most."),
        OptionSpec::with_default("aggregate", OptionType::Word(AGGREGATES), "count", "What is computed over a window."),
        OptionSpec::optional("field", OptionType::Field, "The field that is aggregated; not for count."),
        by_option(),
        OptionSpec::optional("as", OptionType::Text, "Name of the result's field. Left out: the aggregate's name."),
        OptionSpec::with_default("k", OptionType::integer(1, 100_000), "10", "Of top-k: how many values."),
        OptionSpec::with_default(
            "capacity",
            OptionType::integer(1, 100_000_000),
            "1000",
            "Of top-k: values counted at a time for each key and window.",
        ),
        precision_option(),
    ];
    options.extend(quantile_options());
    options.extend([keys_max_option("1000000"), on_error_option()]);
    Described {
        name: "window",
        aliases: &[
            "org.apache.storm.starter.bolt.RollingCountBolt",
            "org.apache.storm.starter.bolt.SlidingWindowSumBolt",
        ],
        kind: Kind::Bolt,
        summary: "An aggregate by key and window: tumbling, sliding or session, by arrival time or count.",
        options,
        outputs: "`default`: the fields of `by`, `start` and `end` (milliseconds since 1970; by count, row numbers of the key), then \
                  the result: `count`, `sum` …, p50 … of quantiles, `top` of top-k, a list of maps with `item`, `count`, `error`. \
                  `dead_letters`: the input's fields and `error`, with `on_error: dead_letters`.",
        example: "id: per-minute\nclassName: window\nconfig:\n  type: sliding\n  size: 1m\n  slide: 10s\n  by: word\n  aggregate: \
                  average\n  field: n\n",
        example_fields: &["word", "n"],
        factory: Box::new(|options, place| {
            let mut errors = Vec::new();
            let windows = windows(options).map_err(|e| errors.push(e)).ok();
            let name = options.word("aggregate");
            let field = options.maybe_text("field");
            if field.is_none() && name.value != "count" {
                let what = format!("`aggregate: {}` needs a `field`", name.value);
                errors.push(ConfigError::new(name.at, what, "name the field that is aggregated"));
            }
            let Some(windows) = windows.filter(|_| errors.is_empty()) else { return Err(errors) };
            let aggregate = match (name.value, field) {
                ("top-k", Some(field)) => {
                    let k = options.count("k");
                    Aggregate::Top { field, k, capacity: options.count("capacity").max(k) }
                }
                (other, field) => aggregate(other, options, field.unwrap_or_default()),
            };
            let mut window = Window::new(windows, aggregate).by(options.texts("by"));
            if let Some(rename) = options.maybe_text("as") {
                window = window.rename(rename);
            }
            window.keys_max(options.count("keys_max")).on_error(on_error(options)).declare(place)
        }),
    }
}

fn windows(options: &Options) -> Result<Windows, ConfigError> {
    let ty = options.word("type");
    let (size, rows) = (options.maybe_duration("size"), options.maybe_integer("rows"));
    let needs = |what: &str| Err(ConfigError::new(ty.at, format!("a {} window needs {what}", ty.value), "add it"));
    if let (Some(size), Some(_)) = (&size, &rows) {
        return Err(ConfigError::new(size.at, "the window has both `size` and `rows`", "keep one: time, or count"));
    }
    match ty.value {
        "session" => match options.maybe_duration("gap") {
            Some(gap) => Ok(Windows::Session { gap: gap.value, longest: options.duration("longest").value }),
            None => needs("`gap`, the pause that ends it"),
        },
        "sliding" => match (size, rows, options.maybe_duration("slide"), options.maybe_integer("slide_rows")) {
            (Some(size), _, Some(slide), _) => Ok(Windows::Time { size: size.value, slide: slide.value }),
            (_, Some(rows), _, Some(slide)) => {
                Ok(Windows::Count { size: rows.value as u64, slide: slide.value as u64 })
            }
            _ => needs("`size` and `slide`, or `rows` and `slide_rows`"),
        },
        _ => match (size, rows) {
            (Some(size), _) => Ok(Windows::Time { size: size.value, slide: size.value }),
            (_, Some(rows)) => Ok(Windows::Count { size: rows.value as u64, slide: rows.value as u64 }),
            _ => needs("`size` or `rows`"),
        },
    }
}

fn dedup() -> Described {
    Described {
        name: "dedup",
        aliases: &[],
        kind: Kind::Bolt,
        summary: "Passes on the first row of each key, within a bounded memory of keys.",
        options: vec![
            OptionSpec::optional(
                "by",
                OptionType::list(OptionType::Field),
                "The key: group the stream by the same fields. Left out: all fields.",
            ),
            OptionSpec::with_default(
                "keys",
                OptionType::integer(1, 1 << 32),
                "1000000",
                "Keys that a task remembers; the one passed longest ago is forgotten first.",
            ),
            OptionSpec::optional(
                "within",
                OptionType::duration(),
                "How long a key is remembered. Left out: as `keys` says.",
            ),
        ],
        outputs: "`default`: the input's fields. Duplicates are counted as `duplicates`.",
        example: "id: once\nclassName: dedup\nconfig:\n  by: word\n  within: 10m\n",
        example_fields: &["word", "n"],
        factory: Box::new(|options, place| {
            let dedup = Dedup::by(options.texts("by")).keys(options.count("keys"));
            match options.maybe_duration("within") {
                Some(within) => dedup.within(within.value).declare(place),
                None => dedup.declare(place),
            }
        }),
    }
}

fn batch() -> Described {
    Described {
        name: "batch",
        aliases: &[],
        kind: Kind::Bolt,
        summary: "Puts rows together into one row with a list, by count or time.",
        options: vec![
            OptionSpec::with_default("rows", OptionType::integer(1, 100_000), "100", "Rows of a full batch."),
            OptionSpec::optional(
                "within",
                OptionType::duration(),
                "Emits a batch that is not full when its first row has waited so long. Left out: only at the end of the run.",
            ),
            OptionSpec::with_default(
                "overlap",
                OptionType::integer(0, 100_000),
                "0",
                "So many rows are the last of one batch and the first of the next: for what compares neighbours.",
            ),
            OptionSpec::with_default("as", OptionType::Text, "rows", "The list's field."),
        ],
        outputs: "`default`: the list (`rows`, or as `as` says) of maps from the input's fields to values, and `count`.",
        example: "id: hundreds\nclassName: batch\nconfig:\n  rows: 100\n  within: 1s\n",
        example_fields: &["word", "n"],
        factory: Box::new(|options, place| {
            let batch = Batch::of(options.count("rows")).overlap(options.count("overlap")).name(options.text("as"));
            match options.maybe_duration("within") {
                Some(within) => batch.within(within.value).declare(place),
                None => batch.declare(place),
            }
        }),
    }
}

fn rate_limit() -> Described {
    Described {
        name: "rate-limit",
        aliases: &[],
        kind: Kind::Bolt,
        summary: "Passes rows on at a rate; the others wait, or are dropped and counted.",
        options: vec![
            OptionSpec::required("rate", OptionType::Float { min: 0.001, max: 1e9 }, "Rows a second of each task."),
            OptionSpec::optional(
                "burst",
                OptionType::Float { min: 1.0, max: 1e9 },
                "Rows that go on at once after a pause. Left out: a tenth of a second's, at least 1.",
            ),
            OptionSpec::with_default(
                "beyond",
                OptionType::Word(&["wait", "drop"]),
                "wait",
                "What becomes of rows beyond the rate: they wait, and the source with them, or are dropped and counted as \
                 `over_rate`.",
            ),
        ],
        outputs: "`default`: the input's fields.",
        example: "id: gently\nclassName: rate-limit\nconfig:\n  rate: 100\n  beyond: drop\n",
        example_fields: &["word", "n"],
        factory: Box::new(|options, place| {
            let mut limit = RateLimit::new(options.float("rate").value);
            if let Some(burst) = options.maybe_float("burst") {
                limit = limit.burst(burst.value);
            }
            let beyond = if options.word("beyond").value == "drop" { Beyond::Drop } else { Beyond::Wait };
            limit.beyond(beyond).declare(place)
        }),
    }
}

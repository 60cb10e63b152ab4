//! The descriptions of the bolts that remember.

use super::Aggregate;
use super::keyed::{Emitted, Keyed, TopK};
use crate::registry::{Described, Given, Kind, OptionSpec, OptionType, Options};
use crate::rows::{on_error, on_error_option};

pub(crate) fn described() -> Vec<Described> {
    let mut all = keyed();
    all.push(top_k());
    all.extend(super::describe_flow::described());
    all
}

/// The options that say what an aggregate is computed over.
fn measured_options(aggregate: &str) -> Vec<OptionSpec> {
    let mut options = Vec::new();
    if aggregate != "count" {
        options.push(OptionSpec::required(
            "field",
            OptionType::Field,
            "The field that is aggregated; nulls are passed over.",
        ));
    }
    if aggregate == "distinct" {
        options.push(precision_option());
    }
    if aggregate == "quantiles" {
        options.extend(quantile_options());
    }
    options
}

pub(super) fn precision_option() -> OptionSpec {
    OptionSpec::with_default(
        "precision",
        OptionType::integer(4, 16),
        "12",
        "A key takes 2^precision bytes once it has more than 128 values; the standard error is 1.04 / √(2^precision), 1.6 % at \
         12.",
    )
}

pub(super) fn quantile_options() -> [OptionSpec; 2] {
    let unit = OptionType::Float { min: 0.0, max: 1.0 };
    [
        OptionSpec::optional(
            "quantiles",
            OptionType::list(unit),
            "Which quantiles, each from 0 to 1. Left out: 0.5, 0.9 and 0.99.",
        ),
        OptionSpec::with_default(
            "accuracy",
            OptionType::Float { min: 0.001, max: 0.2 },
            "0.01",
            "Relative error of each quantile, at most.",
        ),
    ]
}

/// Reads the aggregate of this name.
pub(super) fn aggregate(name: &str, options: &Options, field: Given<String>) -> Aggregate {
    match name {
        "sum" => Aggregate::Sum(field),
        "min" => Aggregate::Min(field),
        "max" => Aggregate::Max(field),
        "average" => Aggregate::Average(field),
        "distinct" => Aggregate::Distinct { field, precision: options.count("precision") as u32 },
        "quantiles" => {
            let mut quantiles: Vec<f64> = options.floats("quantiles").into_iter().map(|q| q.value).collect();
            if quantiles.is_empty() {
                quantiles = vec![0.5, 0.9, 0.99];
            }
            Aggregate::Quantiles { field, quantiles, accuracy: options.float("accuracy").value }
        }
        _ => Aggregate::Count,
    }
}

struct Entry {
    name: &'static str,
    aliases: &'static [&'static str],
    summary: &'static str,
    example: &'static str,
}

const KEYED: [Entry; 7] = [
    Entry {
        name: "count",
        aliases: &["org.apache.storm.testing.TestWordCounter", "org.apache.storm.starter.bolt.WordCountBolt"],
        summary: "Counts rows by key.",
        example: "id: counts\nclassName: count\nconfig:\n  by: word\n",
    },
    Entry {
        name: "sum",
        aliases: &[],
        summary: "Sums a field by key.",
        example: "id: bytes\nclassName: sum\nconfig:\n  by: word\n  field: n\n",
    },
    Entry {
        name: "min",
        aliases: &[],
        summary: "The least value of a field by key.",
        example: "id: coldest\nclassName: min\nconfig:\n  by: word\n  field: n\n  emit: end\n",
    },
    Entry {
        name: "max",
        aliases: &[],
        summary: "The greatest value of a field by key.",
        example: "id: hottest\nclassName: max\nconfig:\n  by: word\n  field: n\n  emit: end\n",
    },
    Entry {
        name: "average",
        aliases: &[],
        summary: "The mean of a field by key.",
        example: "id: means\nclassName: average\nconfig:\n  by: word\n  field: n\n  emit: every\n  every: 10s\n",
    },
    Entry {
        name: "distinct",
        aliases: &[],
        summary: "About how many different values a field has, by key (HyperLogLog).",
        example: "id: visitors\nclassName: distinct\nconfig:\n  by: word\n  field: n\n  emit: end\n",
    },
    Entry {
        name: "quantiles",
        aliases: &[],
        summary: "Quantiles of a field by key, with a bounded relative error.",
        example: "id: latency\nclassName: quantiles\nconfig:\n  by: word\n  field: n\n  quantiles: [0.5, 0.999]\n  emit: end\n",
    },
];

fn keyed() -> Vec<Described> {
    KEYED.into_iter().map(keyed_entry).collect()
}

fn keyed_entry(entry: Entry) -> Described {
    let name = entry.name;
    let mut options = measured_options(name);
    options.extend([
        by_option(),
        OptionSpec::with_default(
            "emit",
            OptionType::Word(&["each", "every", "end"]),
            "each",
            "When: the key's new value after each row, all changed keys at a period, or every key once at the end of the run.",
        ),
        OptionSpec::with_default("every", OptionType::duration(), "10s", "The period of `emit: every`."),
        keys_max_option("10000000"),
    ]);
    if name != "quantiles" {
        options.push(OptionSpec::optional(
            "as",
            OptionType::Text,
            "Name of the result's field. Left out: the aggregate's name.",
        ));
    }
    options.push(on_error_option());
    Described {
        name,
        aliases: entry.aliases,
        kind: Kind::Bolt,
        summary: entry.summary,
        options,
        outputs: "`default`: the fields of `by`, then the result, named after the aggregate or by `as`; quantiles are named p50, \
                  p99_9 …. `dead_letters`: the input's fields and `error`, with `on_error: dead_letters`.",
        example: entry.example,
        example_fields: &["word", "n"],
        factory: Box::new(move |options, place| {
            let field = if name == "count" { Given::here("") } else { options.text("field") };
            let emitted = match options.word("emit").value {
                "every" => Emitted::Every(options.duration("every").value),
                "end" => Emitted::End,
                _ => Emitted::Each,
            };
            let mut keyed = Keyed::new(aggregate(name, options, field)).by(options.texts("by")).emitted(emitted);
            if let Some(rename) = (name != "quantiles").then(|| options.maybe_text("as")).flatten() {
                keyed = keyed.rename(rename);
            }
            keyed.keys_max(options.count("keys_max")).on_error(on_error(options)).declare(place)
        }),
    }
}

pub(super) fn by_option() -> OptionSpec {
    OptionSpec::optional(
        "by",
        OptionType::list(OptionType::Field),
        "The key: group the stream by the same fields. Left out: all rows of a task are one key.",
    )
}

pub(super) fn keys_max_option(default: &'static str) -> OptionSpec {
    let help = "Keys in one task, at most; one more ends the run with an error.";
    OptionSpec::with_default("keys_max", OptionType::integer(1, 1 << 32), default, help)
}

fn top_k() -> Described {
    Described {
        name: "top-k",
        aliases: &[
            "org.apache.storm.starter.bolt.TotalRankingsBolt",
            "org.apache.storm.starter.bolt.IntermediateRankingsBolt",
        ],
        kind: Kind::Bolt,
        summary: "The most frequent values of a field, with a bounded number of counters (Space-Saving).",
        options: vec![
            OptionSpec::required(
                "field",
                OptionType::Field,
                "The field whose values are counted; nulls are passed over.",
            ),
            OptionSpec::with_default("k", OptionType::integer(1, 100_000), "10", "How many values are emitted."),
            OptionSpec::with_default(
                "capacity",
                OptionType::integer(1, 100_000_000),
                "10000",
                "Values counted at a time: exact while there are no more; then a count is too high by at most its `error`.",
            ),
            by_option(),
            OptionSpec::optional(
                "every",
                OptionType::duration(),
                "Emits at this period, as far as something has changed. Left out: only at the end of the run.",
            ),
            keys_max_option("1000"),
        ],
        outputs: "`default`: the fields of `by`, `rank` from 1, the field, `count`, `error`; a row for each rank.",
        example: "id: trending\nclassName: top-k\nconfig:\n  field: word\n  k: 3\n",
        example_fields: &["word", "n"],
        factory: Box::new(|options, place| {
            let mut top = TopK::of(options.text("field"), options.count("k")).by(options.texts("by"));
            if let Some(every) = options.maybe_duration("every") {
                top = top.every(every.value);
            }
            top.capacity(options.count("capacity")).keys_max(options.count("keys_max")).declare(place)
        }),
    }
}

//! `ingest` and `egress` by name, for topologies in YAML.

use squall::RowStream;
use squall_components::registry::{
    ConfigError, Described, Given, Kind, NameTaken, OptionSpec, OptionType, Options, Registry,
};

use crate::egress::To;
use crate::hello::{Address, LinkOptions};
use crate::ingest::Source;
use crate::rows::{COLUMNS, Columns, EgressRows, IngestRows, NO_TICK, PART_COLUMNS};
use crate::schema::Schema;
use crate::{EGRESS_ENV, INGEST_ENV};

/// Fields that an ingest spout of rows may have.
const FIELDS_MAX: usize = 24;

/// Adds both to a registry.
///
/// # Errors
/// If a name is taken.
pub fn add(registry: &mut Registry) -> Result<(), NameTaken> {
    registry.add(ingest())?;
    registry.add(egress())
}

/// Where the component listens, and whether it is for one generator only, which then has started it.
fn address(options: &Options, env: &str) -> Result<(Address, bool), Vec<ConfigError>> {
    if let Ok(text) = std::env::var(env) {
        // A generator that starts a topology says where it will come; its word counts more than the file's.
        let wrong = |e| {
            vec![ConfigError::new(
                options
                    .maybe_text("listen")
                    .map_or_else(|| squall_components::registry::Span::NONE, |g: Given<String>| g.at),
                format!("{env} in the environment: {e}"),
                "unset it",
            )]
        };
        return text.parse().map(|a| (a, false)).map_err(wrong);
    }
    match options.maybe_text("listen") {
        Some(given) => match given.value.parse() {
            Ok(address) => Ok((address, true)),
            Err(e) => Err(vec![ConfigError::new(
                given.at,
                e,
                "write tcp:127.0.0.1:7100, unix:/run/load.in or shm:/run/load.in",
            )]),
        },
        None => Err(vec![ConfigError::new(
            squall_components::registry::Span::NONE,
            format!("there is no address: neither `listen` nor {env} in the environment"),
            "give `listen`, or have `tuplegen run --local` start the topology",
        )]),
    }
}

fn listen_option() -> OptionSpec {
    OptionSpec::optional(
        "listen",
        OptionType::Text,
        "Where a generator connects: tcp:HOST:PORT, unix:PATH, or shm:PATH for shared memory. Left out: where `tuplegen run --local` says.",
    )
}

fn ingest() -> Described {
    Described {
        name: "ingest",
        aliases: &[],
        kind: Kind::Spout,
        summary: "Emits what a load generator (`tuplegen`) sends.",
        options: vec![
            listen_option(),
            OptionSpec::optional(
                "fields",
                OptionType::Text,
                "The generator's fields with their types, as in id:u64,word:str; types: u64, i64, f64, str.",
            ),
        ],
        outputs: "`default`: the generator's fields, then `_seq`, `_due`, `_sent`, `_ingest`, `_intact`, which belong to `egress`.",
        example: "id: load\nclassName: ingest\nconfig:\n  listen: \"unix:/tmp/squall-load.in\"\n  fields: \"id:u64,word:str\"\n",
        example_fields: &[],
        factory: Box::new(|options, place| {
            let (address, again) = address(options, INGEST_ENV)?;
            place.one_task("a generator connects to one address").map_err(|e| vec![e])?;
            let fields = match options.maybe_text("fields") {
                Some(given) => given.value.parse::<Schema>().map_err(|e| {
                    vec![ConfigError::new(given.at, e.to_string(), "write name:type, separated by commas")]
                })?,
                None => Schema::default(),
            };
            if fields.0.len() > FIELDS_MAX {
                let what = format!("{} fields; an ingest spout has at most {FIELDS_MAX}", fields.0.len());
                return Err(vec![ConfigError::new(place.span(), what, "send fewer")]);
            }
            let names = fields.0.iter().map(|(name, _)| name.as_str()).chain(COLUMNS);
            let streams = vec![RowStream::new("default", names)];
            let source = Source::listen(address, LinkOptions::default(), again);
            Ok(place.spout(streams, move || IngestRows::new(&source, &fields)))
        }),
    }
}

fn egress() -> Described {
    Described {
        name: "egress",
        aliases: &[],
        kind: Kind::Sink,
        summary: "Hands tuples back to the load generator, which measures their latency and counts them.",
        options: vec![listen_option()],
        outputs: "None.",
        example: "id: back\nclassName: egress\nconfig:\n  listen: \"unix:/tmp/squall-load.out\"\n",
        example_fields: &COLUMNS,
        factory: Box::new(|options, place| {
            let (address, _) = address(options, EGRESS_ENV)?;
            place.one_task("a generator connects to one address").map_err(|e| vec![e])?;
            let at = place.span();
            let find = |name: &str| place.field(&Given { value: name.to_owned(), at });
            let mut stamps = [0; 5];
            for (place, name) in stamps.iter_mut().zip(COLUMNS) {
                *place = find(name).map_err(|e| vec![e])?;
            }
            let parts = match PART_COLUMNS.map(|name| find(name).ok()) {
                [Some(part), Some(parts)] => Some([part, parts]),
                _ => None,
            };
            let (to, columns) = (To::Listen(address, LinkOptions::default()), Columns { stamps, parts });
            Ok(place.bolt(Vec::new(), NO_TICK, move || EgressRows::new(to.clone(), columns)))
        }),
    }
}

#[cfg(test)]
mod tests {
    use std::thread;
    use std::time::Duration;

    use squall::Topology;
    use squall::testing::run_live;
    use squall_components::registry::{Config, Place, Registry, Span};

    use super::*;
    use crate::record::{FLAG_CORRUPT, FLAG_DERIVED, HEADER_BYTES, parse_return, push};
    use crate::{Role, Tag, connect};

    #[test]
    fn rows_go_from_the_ingest_to_the_egress_with_their_stamps_and_damage_is_told() {
        let dir = tempfile::tempdir().unwrap();
        let address = |name: &str| format!("unix:{}", dir.path().join(name).display());
        let (ingest_at, egress_at) = (address("in"), address("out"));
        let mut registry = Registry::empty();
        add(&mut registry).unwrap();
        let topology = Topology::new("rows");
        let declare = |name: &str, json: String, place: Place<'_>| {
            let config = Config::from(&serde_json::from_str::<serde_json::Value>(&json).unwrap());
            registry.get(name).unwrap().declare(&config, Span::NONE, place).unwrap_or_else(|e| panic!("{e:?}"))
        };
        let load = declare(
            "ingest",
            format!(r#"{{"listen": "{ingest_at}", "fields": "id:u64,word:str"}}"#),
            Place::new(&topology, "load"),
        );
        let load = load.stream("default").unwrap();
        assert_eq!(load.fields[..2], ["id", "word"]);
        let place = Place::new(&topology, "back").reads(&load.fields);
        let mut back = declare("egress", format!(r#"{{"listen": "{egress_at}"}}"#), place);
        back.subscribe(load.handle.shuffle());
        let generator = thread::spawn(move || {
            let schema: Schema = "id:u64,word:str".parse().unwrap();
            let options = LinkOptions::default();
            let mut rx = connect(&egress_at.parse().unwrap(), Role::Egress, &schema, &options).unwrap().rx.unwrap();
            let mut tx = connect(&ingest_at.parse().unwrap(), Role::Ingest, &schema, &options).unwrap().tx.unwrap();
            let mut chunk = Vec::new();
            for n in 0..10_u64 {
                push(&mut chunk, n, 100 + n, 200 + n, |to| {
                    to.extend_from_slice(&n.to_le_bytes());
                    to.extend_from_slice(&2_u32.to_le_bytes());
                    to.extend_from_slice(b"ab");
                });
            }
            // A byte of the last body.
            *chunk.last_mut().unwrap() ^= 1;
            assert!(tx.try_send(Tag::Data, &chunk).unwrap());
            let mut seen = Vec::new();
            while seen.len() < 10 {
                if let Some((Tag::Data, chunk)) = rx.peek().unwrap() {
                    let mut at = 0;
                    while at < chunk.len() {
                        let (r, len) = parse_return(&chunk[at..]).unwrap();
                        assert!(r.record.intact() && r.record.bytes().len() == HEADER_BYTES && r.ingest_ns > 0);
                        seen.push((r.record.seq, r.record.due_ns, r.record.sent_ns, r.flags));
                        at += len;
                    }
                    rx.release();
                }
            }
            seen
        });
        // A spout of a running topology waits for the next generator: the run is drained once this one is done.
        let ran = run_live(topology, Duration::from_secs(2));
        let seen = generator.join().unwrap();
        drop(ran);
        let due = |n: u64| (n, 100 + n, 200 + n, FLAG_DERIVED | if n == 9 { FLAG_CORRUPT } else { 0 });
        assert_eq!(seen, (0..10).map(due).collect::<Vec<_>>());
    }

    #[test]
    fn an_egress_says_which_column_it_misses() {
        let mut registry = Registry::empty();
        add(&mut registry).unwrap();
        let topology = Topology::new("rows");
        let config = Config::from(&serde_json::json!({ "listen": "unix:/tmp/x" }));
        let place = Place::new(&topology, "back").reads(&["_seq", "_due"]);
        let error = registry.get("egress").unwrap().declare(&config, Span::NONE, place).err().unwrap();
        assert!(error[0].to_string().contains("_sent"), "{error:?}");
    }
}

//! Random valid topologies, and a small fixed one.
//!
//! Every run draws the same cases. `PROPTEST_RNG_SEED=n` draws others; a failure prints its (shrunk) topology.
#![allow(dead_code, reason = "each test file uses some of it")]

use proptest::prelude::*;
use proptest::sample::Index;
use proptest::test_runner::RngSeed;
use squall_topology::{
    ComponentKind, ComponentSpec, Grouping, Machine, Placement, SchemaSpec, ShmUse, StreamSpec, SubscriptionSpec,
    TopologyConfig, TopologySpec,
};

/// Settings of all property tests here.
pub(crate) fn cases(count: u32) -> ProptestConfig {
    let seed = std::env::var("PROPTEST_RNG_SEED").ok().and_then(|text| text.parse().ok()).unwrap_or(0x5351);
    // Shown with a failure only.
    println!("PROPTEST_RNG_SEED={seed} draws these cases");
    ProptestConfig {
        cases: count,
        rng_seed: RngSeed::Fixed(seed),
        failure_persistence: None,
        ..ProptestConfig::default()
    }
}

/// Decisions from which a valid topology follows. Shrinks towards one spout.
#[derive(Clone, Debug)]
struct ComponentRecipe {
    bolt: bool,
    tasks: u32,
    executors: Index,
    side: bool,
    streams: Vec<bool>,
    inputs: Vec<(Index, u8)>,
    /// 0: none; 1: to itself; 2: to the source of its first input.
    feedback: u8,
    burst_mib: u64,
}

fn component_recipe() -> impl Strategy<Value = ComponentRecipe> {
    (
        prop::bool::weighted(0.85),
        1..=12u32,
        any::<Index>(),
        prop::bool::weighted(0.2),
        prop::collection::vec(prop::bool::weighted(0.15), 0..3),
        prop::collection::vec((any::<Index>(), any::<u8>()), 1..4),
        0..6u8,
        1..16u64,
    )
        .prop_map(|(bolt, tasks, executors, side, streams, inputs, feedback, burst_mib)| ComponentRecipe {
            bolt,
            tasks,
            executors,
            side,
            streams,
            inputs,
            feedback,
            burst_mib,
        })
}

/// A valid topology and a machine for it.
pub(crate) fn topology() -> impl Strategy<Value = (TopologySpec, Machine)> {
    let machine =
        prop::collection::btree_set(0..64usize, 0..12).prop_map(|cores| Machine { cores: cores.into_iter().collect() });
    let recipes = prop::collection::vec(component_recipe(), 1..8);
    (recipes, any::<bool>(), any::<Index>(), prop::option::of(1..5u32), machine).prop_map(
        |(recipes, backwards, workers, reactors, machine)| {
            let mut spec = build(&recipes);
            if backwards {
                declare_backwards(&mut spec);
            }
            let executors: u32 = spec.components.iter().map(|c| c.executors).sum();
            spec.config.workers = 1 + workers.index(executors.min(5) as usize) as u32;
            spec.config.reactors = reactors;
            spec.config.shm = [ShmUse::Auto, ShmUse::Off, ShmUse::Copy][workers.index(3)];
            spec.config.ackers = [None, Some(0), Some(1)][workers.index(9) / 3];
            (spec, machine)
        },
    )
}

/// The same graph with its components declared in the opposite order, so that index and topological order differ.
fn declare_backwards(spec: &mut TopologySpec) {
    let last = spec.components.len() as u32 - 1;
    spec.components.reverse();
    spec.streams.iter_mut().for_each(|stream| stream.component = last - stream.component);
    spec.subscriptions.iter_mut().for_each(|subscription| subscription.to = last - subscription.to);
}

fn build(recipes: &[ComponentRecipe]) -> TopologySpec {
    let mut spec = TopologySpec { name: "random".into(), ..TopologySpec::default() };
    for (at, recipe) in recipes.iter().enumerate() {
        let bolt = recipe.bolt && at > 0;
        let before = spec.streams.len() as u32;
        spec.components.push(ComponentSpec {
            kind: if bolt { ComponentKind::Bolt } else { ComponentKind::Spout },
            tasks: recipe.tasks,
            executors: 1 + recipe.executors.index(recipe.tasks as usize) as u32,
            placement: if recipe.side { Placement::SideThread } else { Placement::Reactor },
            burst_bytes: recipe.burst_mib << 20,
            ..ComponentSpec::bolt(format!("c{at}"))
        });
        // The first spout always has a stream, so that every bolt finds an input.
        let streams = if at == 0 && recipe.streams.is_empty() { &[false][..] } else { &recipe.streams[..] };
        for &direct in streams {
            spec.streams.push(stream(at as u32, &format!("s{}", spec.streams.len()), direct));
        }
        if !bolt {
            continue;
        }
        for (pick, grouping) in &recipe.inputs {
            let stream = pick.index(before as usize) as u32;
            subscribe(&mut spec, stream, at as u32, *grouping, false);
        }
        let source = spec.streams[spec.subscriptions[spec.subscriptions.len() - 1].stream as usize].component;
        let back_to = match recipe.feedback {
            1 => at as u32,
            2 if spec.components[source as usize].kind == ComponentKind::Bolt => source,
            _ => continue,
        };
        if (before as usize) < spec.streams.len() {
            subscribe(&mut spec, before, back_to, recipe.burst_mib as u8, true);
        }
    }
    spec
}

fn subscribe(spec: &mut TopologySpec, stream: u32, to: u32, grouping: u8, feedback: bool) {
    if spec.subscriptions.iter().any(|s| s.stream == stream && s.to == to) {
        return;
    }
    let grouping = if spec.streams[stream as usize].direct {
        Grouping::Direct
    } else {
        match grouping % 9 {
            0 => Grouping::Shuffle,
            1 => Grouping::LoadAwareShuffle,
            2 => Grouping::LocalOrShuffle,
            3 => Grouping::Fields(vec![0]),
            4 => Grouping::PartialKey(vec![1, 0]),
            5 | 6 => Grouping::All,
            7 => Grouping::Global,
            _ => Grouping::None,
        }
    };
    let port = spec.subscriptions.iter().filter(|s| s.to == to).count() as u16;
    spec.subscriptions.push(SubscriptionSpec { stream, to, port, grouping, feedback });
}

/// A stream of `Word(word: String, n: u64)`.
pub(crate) fn stream(component: u32, name: &str, direct: bool) -> StreamSpec {
    StreamSpec { component, name: name.into(), schema: word_schema(), direct }
}

pub(crate) fn word_schema() -> SchemaSpec {
    schema("Word", &[("word", "String"), ("n", "u64")], 0x0123_4567_89ab_cdef)
}

pub(crate) fn schema(name: &str, fields: &[(&str, &str)], id: u64) -> SchemaSpec {
    let fields = fields.iter().map(|(name, ty)| (name.to_string(), ty.to_string())).collect();
    SchemaSpec { name: name.into(), fields, id, dynamic: false }
}

pub(crate) fn subscription(stream: u32, to: u32, grouping: Grouping) -> SubscriptionSpec {
    SubscriptionSpec { stream, to, port: 0, grouping, feedback: false }
}

/// lines (side thread) → split → count → report, over two workers.
pub(crate) fn word_count() -> TopologySpec {
    TopologySpec {
        name: "word-count".into(),
        components: vec![
            ComponentSpec { placement: Placement::SideThread, ..ComponentSpec::spout("lines") },
            ComponentSpec { tasks: 2, executors: 2, ..ComponentSpec::bolt("split") },
            ComponentSpec { tasks: 4, executors: 2, tick_ms: Some(1000), ..ComponentSpec::bolt("count") },
            ComponentSpec::bolt("report"),
        ],
        streams: vec![
            StreamSpec {
                component: 0,
                name: "lines".into(),
                schema: schema("Line", &[("text", "String")], 1),
                direct: false,
            },
            stream(1, "words", false),
            StreamSpec {
                schema: schema("Total", &[("word", "String"), ("total", "u64")], 2),
                ..stream(2, "totals", false)
            },
            StreamSpec { schema: schema("Odd", &[("text", "String")], 3), ..stream(1, "odd", false) },
        ],
        subscriptions: vec![
            subscription(0, 1, Grouping::Shuffle),
            subscription(1, 2, Grouping::Fields(vec![0])),
            subscription(2, 3, Grouping::Global),
            SubscriptionSpec { port: 1, ..subscription(1, 3, Grouping::All) },
        ],
        config: TopologyConfig { workers: 2, ..TopologyConfig::default() },
    }
}

pub(crate) fn machine(cores: usize) -> Machine {
    Machine { cores: (0..cores).collect() }
}

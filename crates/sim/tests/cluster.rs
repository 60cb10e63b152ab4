//! The control plane under faults: some hundred seeds, or as many as `SQUALL_CLUSTER_SEEDS` says; `SQUALL_CLUSTER_SEED` replays one.

use std::collections::BTreeMap;
use std::time::Duration;

use squall_sim::cluster::{Options, World, run_seed};

fn from_env(name: &str) -> Option<u64> {
    let value = std::env::var(name).ok()?;
    Some(value.parse().unwrap_or_else(|_| panic!("{name} is {value:?}, which is no number")))
}

#[test]
fn whatever_fails_the_cluster_is_well_again_and_keeps_its_promises() {
    let seeds = match from_env("SQUALL_CLUSTER_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..from_env("SQUALL_CLUSTER_SEEDS").unwrap_or(300),
    };
    let many = seeds.end - seeds.start >= 300;
    let mut faults: BTreeMap<&str, u32> = BTreeMap::new();
    let (mut starts, mut submitted, mut killed, mut leaders, mut unplaced) = (0, 0, 0, 0, 0);
    let mut healed = Vec::new();
    for seed in seeds {
        let report = run_seed(seed).unwrap_or_else(|text| panic!("{text}"));
        for (kind, count) in report.faults {
            *faults.entry(kind).or_default() += count;
        }
        starts += report.starts;
        submitted += report.submitted;
        killed += report.killed;
        leaders += report.leaders;
        unplaced += report.unplaced;
        healed.push(report.healed);
    }
    healed.sort_unstable();
    println!(
        "{} seeds: {faults:?}; {starts} workers started, {submitted} submissions and {killed} kills answered, {leaders} leaders, \
         {unplaced} topologies without room; well again after {:?} (median), {:?} (longest)",
        healed.len(),
        healed[healed.len() / 2],
        healed[healed.len() - 1]
    );
    if many {
        assert!(faults.len() >= 9 && faults.values().all(|&count| count > 10), "every fault happened: {faults:?}");
        assert!(starts > 1000 && submitted > 500 && killed > 50 && leaders > 300, "there was something to lose");
    }
}

/// Of each host.
const SLOTS: usize = 4;

/// Three hosts, two nimbuses and some topologies, all well.
fn quiet(seed: u64) -> World {
    let options = Options {
        nimbuses: 2,
        hosts: 3,
        slots: SLOTS as u16,
        requests: 6,
        faults: Duration::from_secs(20),
        heal: Duration::from_secs(60),
        fault_every: None,
        loss: 0,
        delay: Duration::from_millis(5),
        skew: 5,
        session: Duration::from_secs(2),
    };
    let mut world = World::new(seed, options);
    world.run_for(Duration::from_secs(40)).unwrap();
    world.is_well().unwrap_or_else(|why| panic!("seed {seed}: {why}"));
    world
}

fn well_within(world: &mut World, limit: Duration) -> Duration {
    let (start, step) = (world.now(), Duration::from_millis(100));
    loop {
        world.run_for(step).unwrap_or_else(|why| panic!("{why}\n{}", world.last_events()));
        match world.is_well() {
            Ok(()) => return world.now() - start,
            Err(why) if world.now() - start > limit => panic!("{why}\n{}", world.last_events()),
            Err(_) => {}
        }
    }
}

#[test]
fn workers_outlive_nimbus_supervisors_and_coordinator_and_are_taken_over() {
    let mut some = 0;
    for seed in 0..20 {
        let mut world = quiet(seed);
        let before = world.processes();
        some += before.len();
        world.black_out(Duration::from_secs(30)).unwrap();
        well_within(&mut world, Duration::from_secs(20));
        assert_eq!(world.processes(), before, "seed {seed}: the same processes\n{}", world.last_events());
    }
    assert!(some > 50, "there were workers to lose");
}

#[test]
fn a_coordinator_that_was_away_finds_the_same_assignments_when_it_is_back() {
    for seed in 0..20 {
        let mut world = quiet(seed);
        let before = world.processes();
        world.coordinator_away(Duration::from_secs(30)).unwrap();
        world.run_for(Duration::from_secs(20)).unwrap();
        world.is_well().unwrap();
        assert_eq!(world.processes(), before, "seed {seed}: nothing is reassigned\n{}", world.last_events());
    }
}

#[test]
fn what_ran_on_a_host_that_is_cut_off_runs_elsewhere_within_a_session_and_a_second() {
    let mut nowhere = 0;
    for seed in 0..20 {
        let mut world = quiet(seed);
        let others = |world: &World| world.processes().into_iter().filter(|(host, _)| *host != 0).count();
        // Where they have fewer slots than there are workers, a topology has a worker less and its executors in the others.
        let (all, there) = (world.processes().len().min(2 * SLOTS), others(&world));
        world.cut_host(0, true);
        let limit = Duration::from_secs(3);
        let start = world.now();
        while others(&world) < all && world.now() - start < limit {
            world.run_for(Duration::from_millis(50)).unwrap();
        }
        // A client may have said of both other nodes that they take nothing new.
        if world.last_events().contains("is not placed whole: no free slot: 2 nodes") {
            nowhere += 1;
            continue;
        }
        assert_eq!(others(&world), all, "seed {seed}: {there} were elsewhere before\n{}", world.last_events());
        // What it still runs is stopped when it is back.
        world.cut_host(0, false);
        well_within(&mut world, Duration::from_secs(10));
    }
    assert!(nowhere <= 4, "{nowhere} of 20 worlds had no room: they show nothing");
}

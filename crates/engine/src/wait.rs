//! How a reactor waits when it has nothing to do (D9): spin briefly, then sleep in the kernel.
//!
//! A sleeper costs its waker 6–9 µs and wakes after 15–80 µs; a spinner answers at once but owns its core. So a hybrid
//! reactor spins only where every spinning thread can have a core of its own (elsewhere spinning steals the time of the
//! thread it waits for: it yields a few times and sleeps), and only for as long as that is likely to win.
//!
//! # What hybrid learns
//! An idle gap passes levels of doubling length, 2–4 µs, 4–8 µs … 64–128 µs. For each level it keeps the share of the
//! gaps that reached the level and ended in it, an average over about the last sixteen. From these follows, from the
//! last level back, what going on costs: the level's time, and what comes after it if the gap does not end there. Where
//! that is more than a sleep costs, it sleeps. Because each level counts only the gaps that reached it, a burst of a
//! thousand short gaps does not drown the one long gap behind it.
//!
//! The length of a gap that was slept through includes the wake-up, so it may have been shorter than it looks: such gaps
//! teach only what is certain. Now and then a gap is spun through whatever was learned, and counts for those that were
//! not: so a reactor that sleeps finds out that gaps have become short.
//!
//! Sans-IO: the reactor tells what happened and when.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use squall_topology::Plan;
use squall_tuple::ids::ReactorIx;

/// What an idle reactor does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum WaitStrategy {
    /// Never sleeps: the lowest latency, one whole core per reactor. Where threads outnumber cores: as `Hybrid`.
    Spin,
    /// Spins for as long as arrivals make it worth while, at most 128 µs, then sleeps. The default.
    #[default]
    Hybrid,
    /// Sleeps at once: the least CPU.
    Park,
}

impl fmt::Display for WaitStrategy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            WaitStrategy::Spin => "spin",
            WaitStrategy::Hybrid => "hybrid",
            WaitStrategy::Park => "park",
        })
    }
}

impl FromStr for WaitStrategy {
    type Err = String;

    fn from_str(s: &str) -> Result<Self, String> {
        match s {
            "spin" => Ok(WaitStrategy::Spin),
            "hybrid" => Ok(WaitStrategy::Hybrid),
            "park" => Ok(WaitStrategy::Park),
            other => Err(format!("unknown wait strategy {other:?}: use spin, hybrid or park")),
        }
    }
}

/// The strategy of each reactor: one for all, and exceptions by reactor. Written `hybrid,0=spin,3=park`; reactors are
/// numbered as `plan` prints them. Side reactors, which may block, always park.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct WaitPlan {
    default: WaitStrategy,
    exceptions: BTreeMap<ReactorIx, WaitStrategy>,
}

impl WaitPlan {
    /// Sets the strategy of one reactor.
    pub fn set(&mut self, reactor: ReactorIx, strategy: WaitStrategy) {
        self.exceptions.insert(reactor, strategy);
    }

    /// The strategy that a reactor is to have.
    pub fn of(&self, reactor: ReactorIx) -> WaitStrategy {
        self.exceptions.get(&reactor).copied().unwrap_or(self.default)
    }

    /// The highest reactor that is named, if any: a plan with fewer does not fit.
    pub fn last_named(&self) -> Option<ReactorIx> {
        self.exceptions.keys().next_back().copied()
    }
}

impl From<WaitStrategy> for WaitPlan {
    fn from(default: WaitStrategy) -> Self {
        WaitPlan { default, exceptions: BTreeMap::new() }
    }
}

impl fmt::Display for WaitPlan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.default)?;
        self.exceptions.iter().try_for_each(|(reactor, strategy)| write!(f, ",{reactor}={strategy}"))
    }
}

impl FromStr for WaitPlan {
    type Err = String;

    fn from_str(s: &str) -> Result<Self, String> {
        let mut parts = s.split(',');
        let mut plan = WaitPlan::from(parts.next().unwrap_or_default().parse::<WaitStrategy>()?);
        for part in parts {
            let (reactor, strategy) = part.split_once('=').ok_or_else(|| {
                format!("{part:?} names no reactor: write hybrid,0=spin with numbers as `plan` prints them")
            })?;
            let reactor = reactor.parse().map_err(|_| format!("{reactor:?} is no number of a reactor"))?;
            plan.set(reactor, strategy.parse()?);
        }
        Ok(plan)
    }
}

/// What the reactors of a plan do on a machine with so many cores for them.
pub(crate) struct Waits {
    /// By reactor: the strategy, and whether no other busy thread needs its core.
    by_reactor: Vec<(WaitStrategy, bool)>,
    /// Spinning was asked for and cannot be given.
    pub(crate) warning: Option<String>,
}

impl Waits {
    /// All workers of a plan run on one host, so all their threads count. `cores`: what affinity and CPU quota leave this
    /// process. `pin`: reactors are bound to the cores of the plan.
    pub(crate) fn new(plan: &Plan, asked: &WaitPlan, cores: usize, pin: bool) -> Waits {
        let side = |r: &ReactorIx| plan.reactors[*r as usize].side;
        let strategy = |r: ReactorIx| if side(&r) { WaitStrategy::Park } else { asked.of(r) };
        let all = 0..plan.reactors.len() as ReactorIx;
        // A side thread sleeps when idle, but whatever it waits for and computes needs a core, too.
        let threads = all.clone().filter(|r| side(r) || strategy(*r) != WaitStrategy::Park).count();
        let shares = |r: ReactorIx| {
            let core = plan.reactors[r as usize].core;
            pin && core.is_some() && plan.reactors.iter().filter(|other| other.core == core).count() > 1
        };
        let mut refused = 0;
        let by_reactor = all
            .map(|r| {
                let own_core = threads <= cores && !shares(r);
                match strategy(r) {
                    WaitStrategy::Spin if !own_core => {
                        refused += 1;
                        (WaitStrategy::Hybrid, false)
                    }
                    strategy => (strategy, own_core),
                }
            })
            .collect();
        let warning = (refused > 0).then(|| {
            format!(
                "{refused} reactors were to spin, but {threads} busy threads share {cores} cores: spinning threads never \
                 exceed the cores given, so these yield and sleep (hybrid); use fewer workers, reactors or side threads, \
                 let some reactors park, or give more cores"
            )
        });
        Waits { by_reactor, warning }
    }

    /// The waiter of one reactor.
    pub(crate) fn waiter(&self, reactor: ReactorIx) -> Waiter {
        let (strategy, own_core) = self.by_reactor[reactor as usize];
        Waiter::new(strategy, own_core)
    }

    /// What is in use on some reactors, for a report: one name, or one for each reactor that differs from the first.
    pub(crate) fn in_use(&self, reactors: &[ReactorIx]) -> WaitPlan {
        let of = |r: ReactorIx| self.by_reactor[r as usize].0;
        let default = reactors.first().map_or(WaitStrategy::default(), |r| of(*r));
        let exceptions = reactors.iter().map(|r| (*r, of(*r))).filter(|(_, strategy)| *strategy != default).collect();
        WaitPlan { default, exceptions }
    }
}

/// Every idle gap is watched for so long: it costs less than the decision is worth.
const LOOK_NS: u64 = 2_000;
/// Levels above it, each as long as all before.
const LEVELS: usize = 6;
/// What a sleep costs: 15–80 µs until the thread runs, and 6–9 µs of its waker's time.
const SLEEP_COST_NS: f32 = 100_000.0;
/// Share of the last gap in what is known of a level.
const LEARN: f32 = 1.0 / 16.0;
/// The same for a gap that was spun through to learn: it stands for many.
const LEARN_EXPLORED: f32 = 1.0 / 2.0;
/// A gap that was slept through and looks longer than this was longer than any spin.
const LONG_NS: u64 = 4 * level_start(LEVELS);
/// Of the gaps that would be slept through, one in so many is spun through to see how long gaps are.
const EXPLORE: u32 = 32;
/// Times a hybrid reactor without a core of its own yields.
const YIELDS: u32 = 50;

/// Where a level begins.
const fn level_start(level: usize) -> u64 {
    LOOK_NS << level
}

/// What to do now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Idle {
    Spin,
    Yield,
    Sleep,
}

/// What is known of the lengths of idle gaps.
#[derive(Debug)]
struct Gaps {
    /// By level: of the gaps that reached it, the share that ended in it.
    ends: [f32; LEVELS],
    /// How long spinning pays, as that says.
    budget_ns: u64,
}

impl Gaps {
    /// Nothing is known: spinning is worth a try.
    fn new() -> Self {
        let mut gaps = Gaps { ends: [0.5; LEVELS], budget_ns: 0 };
        gaps.decide();
        gaps
    }

    /// A gap reached this length, and `ended` there, as far as that is known.
    fn learn(&mut self, gap_ns: u64, ended: bool, rate: f32) {
        if gap_ns < LOOK_NS {
            return;
        }
        for (level, share) in self.ends.iter_mut().enumerate() {
            if gap_ns >= level_start(level + 1) {
                *share -= *share * rate;
            } else if gap_ns >= level_start(level) && ended {
                *share += (1.0 - *share) * rate;
            }
        }
        self.decide();
    }

    /// Optimal stopping, from the last level back.
    fn decide(&mut self) {
        let mut after = SLEEP_COST_NS;
        let mut budget_ns = level_start(LEVELS);
        for (level, share) in self.ends.iter().enumerate().rev() {
            let length = level_start(level) as f32;
            // A gap that ends in the level ends in its middle.
            let spinning = length * (1.0 - share / 2.0) + (1.0 - share) * after;
            if spinning < SLEEP_COST_NS {
                after = spinning;
            } else {
                after = SLEEP_COST_NS;
                budget_ns = level_start(level);
            }
        }
        self.budget_ns = budget_ns;
    }
}

/// Decides, turn by turn. A value: the reactor tells it what happened and when.
#[derive(Debug)]
pub(crate) struct Waiter {
    strategy: WaitStrategy,
    /// No other busy thread needs this core.
    own_core: bool,
    idle_since_ns: Option<u64>,
    yields: u32,
    gaps: Gaps,
    /// Sleeps since a gap was spun through to learn.
    slept: u32,
    /// Spin through this gap.
    exploring: bool,
    /// Length of this gap when it began to be slept through.
    slept_at_ns: Option<u64>,
}

impl Waiter {
    pub(crate) fn new(strategy: WaitStrategy, own_core: bool) -> Self {
        Waiter {
            strategy,
            own_core,
            idle_since_ns: None,
            yields: 0,
            gaps: Gaps::new(),
            slept: 0,
            exploring: false,
            slept_at_ns: None,
        }
    }

    /// Something happened in the turn that began at `now_ns`.
    #[inline]
    pub(crate) fn busy(&mut self, now_ns: u64) {
        let Some(since) = self.idle_since_ns.take() else { return };
        self.yields = 0;
        let gap_ns = now_ns.saturating_sub(since);
        let rate = if std::mem::take(&mut self.exploring) { LEARN_EXPLORED } else { LEARN };
        match self.slept_at_ns.take() {
            // Too long to have been short, too short to be called long: it may be the wake-up that took the time.
            Some(slept_at) if (level_start(LEVELS)..LONG_NS).contains(&gap_ns) => {
                self.gaps.learn(slept_at, false, rate);
            }
            _ => self.gaps.learn(gap_ns, true, rate),
        }
    }

    /// Nothing happened in the turn that began at `now_ns`.
    pub(crate) fn idle(&mut self, now_ns: u64) -> Idle {
        let first = self.idle_since_ns.is_none();
        let since = *self.idle_since_ns.get_or_insert(now_ns);
        match self.strategy {
            WaitStrategy::Spin => Idle::Spin,
            WaitStrategy::Park => Idle::Sleep,
            WaitStrategy::Hybrid if self.own_core => {
                if first && self.gaps.budget_ns < level_start(LEVELS) {
                    self.slept += 1;
                    self.exploring = self.slept.is_multiple_of(EXPLORE);
                }
                let budget = if self.exploring { level_start(LEVELS) } else { self.gaps.budget_ns };
                let length = now_ns.saturating_sub(since);
                if length < budget {
                    return Idle::Spin;
                }
                self.slept_at_ns.get_or_insert(length);
                Idle::Sleep
            }
            WaitStrategy::Hybrid => {
                self.yields += 1;
                if self.yields <= YIELDS { Idle::Yield } else { Idle::Sleep }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use squall_topology::TopologySpec;
    use squall_topology::{ComponentSpec, Grouping, Machine, Placement, SchemaSpec, StreamSpec, SubscriptionSpec};

    use super::*;

    const US: u64 = 1_000;

    /// A hybrid reactor with a core of its own, and what gaps cost it.
    struct Rig {
        waiter: Waiter,
        now: u64,
    }

    impl Rig {
        fn new() -> Self {
            Rig { waiter: Waiter::new(WaitStrategy::Hybrid, true), now: 1_000_000 }
        }

        /// One idle gap that an arrival ends after `gap_ns`: turns of 0.5 µs while it spins, and 50 µs to wake up.
        /// Returns the time spun, and whether it slept.
        fn gap(&mut self, gap_ns: u64) -> (u64, bool) {
            let arrival = self.now + gap_ns;
            let began = self.now;
            while self.now < arrival {
                match self.waiter.idle(self.now) {
                    Idle::Spin => self.now += US / 2,
                    Idle::Yield => panic!("it has a core"),
                    Idle::Sleep => {
                        let spun = self.now - began;
                        self.now = arrival + 50 * US;
                        self.waiter.busy(self.now);
                        self.now += US;
                        return (spun, true);
                    }
                }
            }
            let spun = self.now - began;
            self.waiter.busy(self.now);
            self.now += US;
            (spun, false)
        }

        /// Many gaps: how many were slept through, and the mean time spun in one.
        fn gaps(&mut self, gaps: impl IntoIterator<Item = u64>) -> (usize, u64) {
            let seen: Vec<_> = gaps.into_iter().map(|g| self.gap(g)).collect();
            (
                seen.iter().filter(|(_, slept)| *slept).count(),
                seen.iter().map(|(s, _)| s).sum::<u64>() / seen.len() as u64,
            )
        }
    }

    #[test]
    fn dense_arrivals_are_spun_through() {
        for gap in [1, 5, 20, 50, 80] {
            let mut rig = Rig::new();
            rig.gaps([gap * US; 32]);
            assert_eq!(rig.gaps([gap * US; 1000]).0, 0, "gaps of {gap} µs");
        }
    }

    #[test]
    fn sparse_arrivals_are_slept_through_after_a_short_look() {
        for gap in [300, 1_000, 100_000] {
            let mut rig = Rig::new();
            rig.gaps([gap * US; 64]);
            let (slept, spun) = rig.gaps([gap * US; 3200]);
            assert_eq!(slept, 3200, "gaps of {gap} µs");
            // The look, and of one gap in 32 everything.
            assert!(spun <= LOOK_NS + US + level_start(LEVELS) / u64::from(EXPLORE), "{spun} ns in gaps of {gap} µs");
        }
    }

    #[test]
    fn a_long_gap_behind_a_burst_is_judged_by_long_gaps() {
        // A thousand gaps of 3 µs, then one of 60 µs: the sleep would cost more.
        let mut rig = Rig::new();
        let burst = || (0..1000).map(|_| 3 * US).chain([60 * US]);
        for _ in 0..20 {
            rig.gaps(burst());
        }
        assert_eq!(rig.gaps(burst()).0, 0);
        // The same with 2 ms: then the core is given back soon, and the burst is still spun through.
        let mut rig = Rig::new();
        let burst = || (0..1000).map(|_| 3 * US).chain([2_000 * US]);
        for _ in 0..40 {
            rig.gaps(burst());
        }
        rig.gaps((0..1000).map(|_| 3 * US));
        assert_eq!(rig.gap(3 * US), (3 * US, false));
        let (spun, slept) = rig.gap(2_000 * US);
        assert!(slept && spun <= 8 * US, "spun {spun} ns");
    }

    #[test]
    fn a_change_of_regime_is_learned_within_sixty_four_arrivals() {
        let mut rig = Rig::new();
        for _ in 0..3 {
            rig.gaps([5 * US; 200]);
            assert_eq!(rig.gaps([5 * US; 100]).0, 0, "dense");
            rig.gaps([1_000 * US; 64]);
            let (slept, spun) = rig.gaps([1_000 * US; 100]);
            assert!(slept == 100 && spun <= LOOK_NS + 6 * US, "sparse: spun {spun} ns");
            rig.gaps([5 * US; 64]);
        }
    }

    #[test]
    fn short_gaps_are_found_again_even_where_waking_up_hides_them() {
        // Slept through, every gap looks 400 µs long: only spinning shows what it was.
        let mut waiter = Waiter::new(WaitStrategy::Hybrid, true);
        let mut now = 0;
        let mut slept_last = 0;
        for n in 0..400 {
            let arrival = now + if n < 100 { 1_000 * US } else { 10 * US };
            while now < arrival {
                if waiter.idle(now) == Idle::Sleep {
                    now = arrival + 400 * US;
                    slept_last = n;
                } else {
                    now += US / 2;
                }
            }
            waiter.busy(now);
            now += US;
        }
        assert!((99..164).contains(&slept_last), "slept in gap {slept_last}");
    }

    #[test]
    fn hybrid_without_a_core_yields_and_never_spins() {
        let mut w = Waiter::new(WaitStrategy::Hybrid, false);
        for _ in 0..3 {
            let seen: Vec<Idle> = (0..=u64::from(YIELDS)).map(|i| w.idle(i)).collect();
            assert_eq!(seen.iter().filter(|i| **i == Idle::Yield).count(), YIELDS as usize);
            assert_eq!(seen.last(), Some(&Idle::Sleep));
            w.busy(100);
        }
    }

    #[test]
    fn spin_never_sleeps_and_park_never_spins() {
        assert_eq!(Waiter::new(WaitStrategy::Spin, true).idle(u64::MAX), Idle::Spin);
        assert_eq!(Waiter::new(WaitStrategy::Park, true).idle(0), Idle::Sleep);
    }

    proptest! {
        /// Whatever the gaps were, a gap costs a bounded spin, and the next idle period begins with a look.
        #[test]
        fn spinning_is_bounded_from_both_sides(gaps in proptest::collection::vec(0u64..3_000_000, 1..300)) {
            let mut rig = Rig::new();
            for gap in gaps {
                let (spun, slept) = rig.gap(gap);
                prop_assert!(spun <= level_start(LEVELS) + US, "spun {} ns", spun);
                prop_assert!(!slept || spun >= LOOK_NS, "slept after {} ns", spun);
            }
        }

        /// On random gaps of one mean it never does much worse than the better of spinning through and sleeping at once.
        #[test]
        fn it_costs_little_more_than_the_better_of_the_two_simple_ways(mean_us in 1u64..2_000, seed: u64) {
            let mut random = seed | 1;
            let mut rig = Rig::new();
            let mut gap = || {
                random ^= random << 13;
                random ^= random >> 7;
                random ^= random << 17;
                let unit = (random >> 11) as f64 / (1u64 << 53) as f64;
                (-(1.0 - unit).ln() * (mean_us * US) as f64) as u64
            };
            for _ in 0..200 {
                rig.gap(gap());
            }
            let (mut ours, mut spin, mut sleep) = (0.0, 0.0, 0.0);
            for _ in 0..2000 {
                let g = gap();
                let (spun, slept) = rig.gap(g);
                ours += spun as f64 + if slept { f64::from(SLEEP_COST_NS) } else { 0.0 };
                let bound = level_start(LEVELS);
                spin += if g < bound { g as f64 } else { bound as f64 + f64::from(SLEEP_COST_NS) };
                sleep += if g == 0 { 0.0 } else { f64::from(SLEEP_COST_NS) };
            }
            prop_assert!(ours <= spin.min(sleep) * 1.3, "ours {} spin {} sleep {}", ours, spin, sleep);
        }
    }

    /// A chain of bolts, one executor each, `reactors` in a worker.
    fn plan(workers: u32, reactors: u32, side: bool, cores: &[usize]) -> Plan {
        let schema = SchemaSpec { name: "T".into(), fields: vec![("a".into(), "u64".into())], id: 7, dynamic: false };
        let mut spec = TopologySpec { name: "chain".into(), ..TopologySpec::default() };
        spec.config.workers = workers;
        spec.config.reactors = Some(reactors);
        spec.components.push(ComponentSpec::spout("c0"));
        let count = workers * reactors;
        for at in 1..count {
            spec.components.push(ComponentSpec::bolt(format!("c{at}")));
        }
        if side {
            let mut bolt = ComponentSpec::bolt("side");
            bolt.placement = Placement::SideThread;
            spec.components.push(bolt);
        }
        for at in 1..spec.components.len() as u32 {
            let stream =
                StreamSpec { component: at - 1, name: "default".into(), schema: schema.clone(), direct: false };
            spec.streams.push(stream);
            let grouping = Grouping::Shuffle;
            spec.subscriptions.push(SubscriptionSpec { stream: at - 1, to: at, port: 0, grouping, feedback: false });
        }
        Plan::new(spec, &Machine { cores: cores.to_vec() }).expect("a chain is a topology")
    }

    fn waits(plan: &Plan, asked: &str, cores: usize) -> (Vec<(WaitStrategy, bool)>, bool) {
        let waits = Waits::new(plan, &asked.parse().expect("a wait plan"), cores, true);
        (waits.by_reactor, waits.warning.is_some())
    }

    #[test]
    fn spinning_threads_of_all_workers_never_exceed_the_cores() {
        use WaitStrategy::{Hybrid, Park, Spin};
        let two = plan(2, 1, false, &[0, 1]);
        assert_eq!(waits(&two, "spin", 2), (vec![(Spin, true); 2], false));
        assert_eq!(waits(&two, "spin", 1), (vec![(Hybrid, false); 2], true), "a container with one CPU");
        assert_eq!(waits(&two, "hybrid", 1), (vec![(Hybrid, false); 2], false));
        let four = plan(2, 2, false, &[0, 1]);
        assert_eq!(waits(&four, "spin", 2), (vec![(Hybrid, false); 4], true));
        // Two park, so there are cores enough; but all four are pinned in pairs.
        assert_eq!(
            waits(&four, "spin,2=park,3=park", 2).0,
            [(Hybrid, false), (Hybrid, false), (Park, false), (Park, false)]
        );
        let unpinned = Waits::new(&four, &"spin,2=park,3=park".parse().expect("a wait plan"), 2, false);
        assert_eq!(unpinned.by_reactor, [(Spin, true), (Spin, true), (Park, true), (Park, true)]);
        // A side thread parks, and needs a core.
        let side = plan(1, 2, true, &[0, 1]);
        assert_eq!(waits(&side, "spin", 3), (vec![(Spin, true), (Spin, true), (Park, true)], false));
        assert_eq!(waits(&side, "spin", 2), (vec![(Hybrid, false), (Hybrid, false), (Park, false)], true));
    }

    #[test]
    fn a_wait_plan_is_read_as_it_is_written() {
        for text in ["spin", "hybrid,0=spin,3=park"] {
            assert_eq!(text.parse::<WaitPlan>().expect("it is one").to_string(), text);
        }
        let plan: WaitPlan = "hybrid,3=park".parse().expect("it is one");
        assert_eq!((plan.of(0), plan.of(3), plan.last_named()), (WaitStrategy::Hybrid, WaitStrategy::Park, Some(3)));
        for (text, part) in
            [("never", "use spin, hybrid or park"), ("spin,park", "names no reactor"), ("spin,x=park", "no number")]
        {
            let error = text.parse::<WaitPlan>().expect_err(text);
            assert!(error.contains(part), "{error}");
        }
    }
}

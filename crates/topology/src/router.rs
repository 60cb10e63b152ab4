//! Groupings: from a tuple to its target tasks, in Storm's terms (`GrouperFactory`).
//!
//! A [`Router`] serves one subscription for one cohort of senders: it is owned by one thread, deterministic for its seed,
//! and allocates nothing after [`Router::new`] (a custom grouping may). Targets are named by their index in the list given
//! to `new`, so that the caller can keep whatever it needs beside each.
//!
//! The fields grouping maps hash → key group → task by two multiplications. With g < G groups and t tasks, let
//! m = ⌈t·2³² ÷ G⌉; then ⌊g·m ÷ 2³²⌋ = ⌊g·t ÷ G⌋ whenever G² ≤ 2³², since the excess g·(m − t·2³² ÷ G) ÷ 2³² stays below
//! 1 ÷ G. Hence [`MAX_KEY_GROUPS`].
//!
//! Deliberately absent: the direct grouping (the emitter names the task, nothing is left to pick), and host and rack
//! locality (a plan has one machine).

use std::fmt;
use std::hint::select_unpredictable;

use squall_tuple::ids::TaskId;
use squall_tuple::{Key, hash_keys};

use crate::rng::{Rng, mix, scale};
use crate::spec::{Grouping, MAX_KEY_GROUPS};

/// What a grouping may ask of a tuple.
pub trait RouteKey {
    /// The value of a field; [`Key::Null`] if there is no such field.
    fn key(&self, field: u16) -> Key<'_>;

    /// The hash of some fields, equal for typed and dynamic tuples with equal values. Must be that of [`hash_keys`], which
    /// is the default.
    #[inline]
    fn key_hash(&self, fields: &[u16]) -> u64 {
        hash_keys(fields.iter().map(|&field| self.key(field)))
    }
}

impl<T: RouteKey + ?Sized> RouteKey for &T {
    #[inline]
    fn key(&self, field: u16) -> Key<'_> {
        (**self).key(field)
    }

    #[inline]
    fn key_hash(&self, fields: &[u16]) -> u64 {
        (**self).key_hash(fields)
    }
}

/// A grouping of the author's own.
///
/// One value serves all tasks of the sending component on one reactor, on that reactor's thread.
pub trait CustomGrouping {
    /// Called once, before the first tuple, with the target tasks in ascending order.
    fn prepare(&mut self, targets: &[TaskId]);

    /// Adds to `out` (which comes empty) the positions in `targets` of the tasks that get this tuple. None: nobody gets
    /// it. Order does not matter, and a task named twice gets it once. A position beyond `targets` panics.
    fn choose(&mut self, tuple: &dyn RouteKey, out: &mut Vec<u32>);
}

/// A task that may be picked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Target {
    /// The task.
    pub task: TaskId,
    /// It is in the sender's worker (for local-or-shuffle see [`crate::Plan::targets`]).
    pub local: bool,
}

/// Where a tuple goes, as positions in the list of targets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pick<'a> {
    /// To one target.
    One(u32),
    /// To every target.
    All,
    /// To these, ascending and without repeats: none, or two and more. From custom groupings only.
    Many(&'a [u32]),
}

/// The grouping of one subscription for one cohort of senders.
///
/// ```
/// use squall_topology::{Grouping, Pick, RouteKey, Router, Target};
/// use squall_tuple::Key;
///
/// struct Word(&'static str);
/// impl RouteKey for Word {
///     fn key(&self, _field: u16) -> Key<'_> {
///         Key::Str(self.0)
///     }
/// }
///
/// let targets: Vec<Target> = (4..8).map(|task| Target { task, local: true }).collect();
/// let mut router = Router::new(&Grouping::Fields(vec![0]), &targets, 1024, 7, None);
/// let Pick::One(index) = router.pick(&Word("storm")) else { panic!("fields picks one target") };
/// assert_eq!(router.pick(&Word("storm")), Pick::One(index), "equal keys meet in one task");
/// ```
pub struct Router {
    rule: Rule,
    targets: u32,
}

enum Rule {
    /// The only target, or the lowest.
    Always(u32),
    Turns(Turns),
    Fields(Fields),
    PartialKey(PartialKey),
    All,
    Uniform(Rng),
    LoadAware(Box<LoadAware>),
    Custom(Box<Custom>),
    Direct,
}

impl Router {
    /// A router to `targets`: all tasks of the subscriber, ascending (see [`crate::Plan::targets`]).
    ///
    /// Equal arguments give equal picks. `custom` is the value for [`Grouping::Custom`] and ignored otherwise. Panics if
    /// there is no target, if they are not ascending, if `key_groups` is 0 or beyond [`MAX_KEY_GROUPS`], or if a custom
    /// grouping is missing: a plan lets none of that happen.
    pub fn new(
        grouping: &Grouping,
        targets: &[Target],
        key_groups: u32,
        seed: u64,
        custom: Option<Box<dyn CustomGrouping>>,
    ) -> Router {
        assert!(!targets.is_empty(), "a router needs a target");
        assert!(targets.is_sorted_by(|a, b| a.task < b.task), "targets of a router ascend by task");
        assert!(
            (1..=MAX_KEY_GROUPS).contains(&key_groups),
            "{key_groups} key groups; 1 to {MAX_KEY_GROUPS} are possible"
        );
        let count = targets.len() as u32;
        let rng = Rng::new(seed);
        let rule = match grouping {
            Grouping::Custom(name) => {
                let grouping = custom.unwrap_or_else(|| panic!("no code was given for the custom grouping `{name}`"));
                Rule::Custom(Box::new(Custom::new(name, grouping, targets)))
            }
            Grouping::Direct => Rule::Direct,
            _ if count == 1 => Rule::Always(0),
            Grouping::Shuffle => Rule::Turns(Turns::new((0..count).collect(), rng)),
            Grouping::LocalOrShuffle => match local_or_all(targets)[..] {
                [only] => Rule::Always(only),
                ref some => Rule::Turns(Turns::new(some.to_vec(), rng)),
            },
            Grouping::LoadAwareShuffle => Rule::LoadAware(Box::new(LoadAware::new(targets, rng))),
            Grouping::Fields(fields) => Rule::Fields(Fields::new(fields, key_groups, count)),
            Grouping::PartialKey(fields) => Rule::PartialKey(PartialKey::new(fields, count)),
            Grouping::All => Rule::All,
            Grouping::Global => Rule::Always(0),
            Grouping::None => Rule::Uniform(rng),
        };
        Router { rule, targets: count }
    }

    /// The targets of one tuple. Allocates nothing; besides the hash of a key it takes about a nanosecond, 4 for partial key.
    ///
    /// Panics for the direct grouping, whose emitter names the task, and if a custom grouping panics or names a position
    /// beyond the targets.
    #[inline]
    pub fn pick(&mut self, tuple: &impl RouteKey) -> Pick<'_> {
        match &mut self.rule {
            Rule::Always(index) => Pick::One(*index),
            Rule::Turns(turns) => Pick::One(turns.next()),
            Rule::Fields(fields) => Pick::One(fields.target(tuple.key_hash(&fields.fields))),
            Rule::PartialKey(partial) => {
                let hash = tuple.key_hash(&partial.fields);
                Pick::One(partial.target(hash))
            }
            Rule::All => Pick::All,
            Rule::Uniform(rng) => Pick::One(rng.below(self.targets)),
            Rule::LoadAware(aware) => Pick::One(aware.ring.next()),
            Rule::Custom(custom) => custom.pick(tuple),
            Rule::Direct => direct_is_not_picked(),
        }
    }

    /// The target of the next tuple, if the rule needs to read nothing of it and costs next to nothing: one target, or
    /// turns. Then it is what [`Router::pick`] would give, and like it takes the turn. `None`: ask `pick`.
    #[inline(always)]
    pub fn pick_unread(&mut self) -> Option<u32> {
        match &mut self.rule {
            Rule::Always(index) => Some(*index),
            Rule::Turns(turns) => Some(turns.next()),
            _ => None,
        }
    }

    /// Whether [`Router::pick_unread`] never answers: the rule reads the tuple, or costs more than nothing.
    pub fn reads_tuples(&self) -> bool {
        !matches!(self.rule, Rule::Always(_) | Rule::Turns(_))
    }

    /// Tells the router how loaded each target is, 0 to 100 (percent of its inbox that is full). Storm does it about once
    /// a second. Only the load-aware grouping listens; it takes some microseconds and allocates nothing.
    ///
    /// Panics unless there is one value per target.
    pub fn set_load(&mut self, load: &[u8]) {
        assert_eq!(load.len(), self.targets as usize, "one load value per target");
        if let Rule::LoadAware(aware) = &mut self.rule {
            aware.set_load(load);
        }
    }

    /// Number of targets.
    pub fn targets(&self) -> u32 {
        self.targets
    }
}

impl fmt::Debug for Router {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rule = match self.rule {
            Rule::Always(_) => "always",
            Rule::Turns(_) => "turns",
            Rule::Fields(_) => "fields",
            Rule::PartialKey(_) => "partial key",
            Rule::All => "all",
            Rule::Uniform(_) => "uniform",
            Rule::LoadAware(_) => "load aware",
            Rule::Custom(_) => "custom",
            Rule::Direct => "direct",
        };
        f.debug_struct("Router").field("rule", &rule).field("targets", &self.targets).finish()
    }
}

#[cold]
#[inline(never)]
fn direct_is_not_picked() -> ! {
    panic!("the emitter of a direct stream names the task; its router is never asked")
}

/// Positions of the local targets, or of all if none is local.
fn local_or_all(targets: &[Target]) -> Vec<u32> {
    let positions = |wanted: fn(&Target) -> bool| -> Vec<u32> {
        (0..targets.len() as u32).filter(|&at| wanted(&targets[at as usize])).collect()
    };
    let local = positions(|target| target.local);
    if local.is_empty() { positions(|_| true) } else { local }
}

/// A list of targets, walked round and round.
struct Turns {
    order: Box<[u32]>,
    /// Below `order.len()`.
    next: usize,
}

impl Turns {
    fn new(mut order: Vec<u32>, mut rng: Rng) -> Turns {
        rng.shuffle(&mut order);
        Turns { order: order.into(), next: 0 }
    }

    #[inline]
    fn next(&mut self) -> u32 {
        let index = self.order[self.next];
        let after = self.next + 1;
        self.next = if after == self.order.len() { 0 } else { after };
        index
    }
}

struct Fields {
    fields: Box<[u16]>,
    groups: u32,
    /// ⌈tasks · 2³² ÷ groups⌉, see the module's header.
    ratio: u64,
}

impl Fields {
    fn new(fields: &[u16], groups: u32, tasks: u32) -> Fields {
        Fields { fields: fields.into(), groups, ratio: (u64::from(tasks) << 32).div_ceil(u64::from(groups)) }
    }

    /// `group_task(key_group(hash, groups), groups, tasks)`.
    #[inline]
    fn target(&self, hash: u64) -> u32 {
        ((u64::from(scale(hash, self.groups)) * self.ratio) >> 32) as u32
    }
}

/// Two candidates per key, the one this sender has sent less to (Nasir et al., "The power of both choices").
struct PartialKey {
    fields: Box<[u16]>,
    /// Tuples sent to each target.
    sent: Box<[u64]>,
}

impl PartialKey {
    fn new(fields: &[u16], targets: u32) -> PartialKey {
        PartialKey { fields: fields.into(), sent: vec![0; targets as usize].into() }
    }

    /// The second candidate is drawn from the other targets, so the two always differ (Storm's may coincide).
    #[inline]
    fn target(&mut self, hash: u64) -> u32 {
        let count = self.sent.len() as u32;
        let first = scale(hash, count);
        let other = scale(mix(hash), count - 1);
        let second = other + u32::from(other >= first);
        let (to_first, to_second) = (self.sent[first as usize], self.sent[second as usize]);
        // The better one is as good as random, so a branch would be guessed wrong half of the time.
        let index = select_unpredictable(to_second < to_first, second, first);
        self.sent[index as usize] += 1;
        index
    }
}

/// Storm's load-aware shuffle: a ring of precomputed choices, filled in proportion to weights that fall fast for the
/// loaded and rise slowly again, over the local targets while these are not busy.
struct LoadAware {
    rng: Rng,
    /// All targets, the local ones first.
    order: Box<[u32]>,
    local: usize,
    /// 0 to [`WEIGHT_MAX`] by target.
    weights: Box<[u32]>,
    wide: bool,
    /// What is dealt.
    ring: Turns,
}

/// Weight of a target that was never loaded.
const WEIGHT_MAX: u32 = 100;
/// Targets within this many percent of the least loaded gain weight.
const LOAD_TOLERANCE: u8 = 5;
/// Mean load of the local targets above which all are used (`topology.localityaware.higher.bound`).
const WIDEN_ABOVE: u32 = 80;
/// Mean load of the local targets below which only they are used (`topology.localityaware.lower.bound`).
const NARROW_BELOW: u32 = 20;

impl LoadAware {
    fn new(targets: &[Target], rng: Rng) -> LoadAware {
        let (mut order, far): (Vec<u32>, Vec<u32>) =
            (0..targets.len() as u32).partition(|&at| targets[at as usize].local);
        let local = order.len();
        order.extend(far);
        let capacity = (5 * targets.len()).max(1000);
        let mut aware = LoadAware {
            rng,
            order: order.into(),
            local,
            weights: vec![WEIGHT_MAX; targets.len()].into(),
            wide: local == 0,
            ring: Turns { order: vec![0; capacity].into(), next: 0 },
        };
        aware.fill_ring();
        aware
    }

    fn set_load(&mut self, load: &[u8]) {
        self.choose_scope(load);
        let scope = Self::scope(&self.order, self.local, self.wide);
        let least = scope.iter().map(|&at| load[at as usize]).min().expect("a scope is never empty");
        for &at in scope {
            let weight = &mut self.weights[at as usize];
            if load[at as usize] <= least.saturating_add(LOAD_TOLERANCE) {
                *weight = (*weight + 1).min(WEIGHT_MAX);
            } else {
                *weight = weight.saturating_sub(10);
            }
        }
        self.fill_ring();
    }

    fn choose_scope(&mut self, load: &[u8]) {
        if self.local == 0 {
            return;
        }
        let sum: u32 = self.order[..self.local].iter().map(|&at| u32::from(load[at as usize])).sum();
        let mean = sum / self.local as u32;
        if self.wide && mean < NARROW_BELOW {
            self.wide = false;
        } else if !self.wide && mean > WIDEN_ABOVE {
            self.wide = true;
        }
    }

    fn scope(order: &[u32], local: usize, wide: bool) -> &[u32] {
        if wide { order } else { &order[..local] }
    }

    fn fill_ring(&mut self) {
        let scope = Self::scope(&self.order, self.local, self.wide);
        let ring = &mut self.ring.order;
        let weight_of = |at: u32| self.weights[at as usize] as usize;
        // The least loaded has just gained weight, so the sum is above 0.
        let sum: usize = scope.iter().map(|&at| weight_of(at)).sum();
        let mut filled = 0;
        for &at in scope {
            let share = weight_of(at) * ring.len() / sum;
            ring[filled..filled + share].fill(at);
            filled += share;
        }
        for rest in filled..ring.len() {
            ring[rest] = ring[self.rng.below(rest as u32) as usize];
        }
        self.rng.shuffle(ring);
        self.ring.next = 0;
    }
}

struct Custom {
    name: String,
    grouping: Box<dyn CustomGrouping>,
    targets: u32,
    chosen: Vec<u32>,
}

impl Custom {
    fn new(name: &str, mut grouping: Box<dyn CustomGrouping>, targets: &[Target]) -> Custom {
        let tasks: Vec<TaskId> = targets.iter().map(|target| target.task).collect();
        grouping.prepare(&tasks);
        Custom { name: name.into(), grouping, targets: targets.len() as u32, chosen: Vec::with_capacity(targets.len()) }
    }

    fn pick(&mut self, tuple: &dyn RouteKey) -> Pick<'_> {
        self.chosen.clear();
        self.grouping.choose(tuple, &mut self.chosen);
        // Two deliveries of one tuple to one task would cancel out in its acks.
        self.chosen.sort_unstable();
        self.chosen.dedup();
        if let Some(&last) = self.chosen.last() {
            assert!(
                last < self.targets,
                "the custom grouping `{}` chose target {last}, but the targets are 0 to {}",
                self.name,
                self.targets - 1
            );
        }
        match self.chosen[..] {
            [only] => Pick::One(only),
            ref several => Pick::Many(several),
        }
    }
}

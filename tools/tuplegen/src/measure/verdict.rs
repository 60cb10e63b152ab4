//! What a run is worth: one word, its reasons, an exit code, a grade.
//!
//! Judged in this order: an error (1), an invalid measurement (5), failed correctness (4), a failed SLO (3), ok (0). A usage error (2)
//! never comes to a run. Steal, ticks, trend and noise lower the grade, and invalidate with `--strict`.

use serde::{Deserialize, Serialize};
use squall_machine::{Machine, Stolen};
use squall_metrics::format;

use super::account::Counts;
use super::slo::Checked;
use super::totals::{Point, Totals, quantile};

/// Fewer of the tuples due than this share sent: invalid.
pub const SENT_SHARE_MIN: f64 = 0.999;
/// The median of the lateness, as a share of the median latency, from which on the generator was measured.
const LATE_SHARE_MAX: f64 = 0.1;
/// The generator's lateness, 99 %, in nanoseconds.
const LATE_P99_MAX_NS: u64 = 10_000_000;
/// Share of the run stolen by the host, of one core, from which on the grade suffers.
const STEAL_SHARE_MAX: f64 = 0.01;
/// Share of the generating thread's time lost in gaps of more than 20 µs.
const TICK_SHARE_MAX: f64 = 0.01;
/// A median that grows by this factor from the first third of the run to the last is a trend.
const TREND_MAX: f64 = 1.5;

/// The word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Word {
    /// All conditions hold.
    Pass,
    /// An SLO or correctness failed.
    Fail,
    /// The figures do not measure what was asked for.
    Invalid,
    /// The run broke off.
    Error,
}

impl Word {
    /// As it is printed.
    pub fn text(self) -> &'static str {
        match self {
            Word::Pass => "PASS",
            Word::Fail => "FAIL",
            Word::Invalid => "INVALID",
            Word::Error => "ERROR",
        }
    }
}

/// The whole judgement.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Verdict {
    /// In one word.
    pub word: Word,
    /// 0 ok, 1 error, 3 SLO failed, 4 correctness failed, 5 measurement invalid.
    pub exit_code: u8,
    /// Why, the weightiest first; empty for a clean pass.
    pub reasons: Vec<String>,
    /// A (a quiet machine) to F.
    pub grade: char,
    /// What lowers the grade.
    pub grade_reasons: Vec<String>,
}

/// What is allowed to happen to tuples.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Allowed {
    /// Lost ones.
    pub loss: bool,
    /// Ones that come twice: at-least-once.
    pub duplicates: bool,
    /// Ones that overtake: several tasks.
    pub reorder: bool,
}

/// What is judged.
pub struct Facts<'a> {
    /// What broke the run off.
    pub error: Option<String>,
    /// Tuples due.
    pub due: u64,
    /// What became of the others.
    pub counts: Counts,
    /// Whether tuples had times at which they were due, other than those at which they were sent.
    pub open_loop: bool,
    /// The figures.
    pub totals: &'a Totals,
    /// What the machine took away.
    pub stolen: Stolen,
    /// The conditions.
    pub slos: &'a [Checked],
    /// What may happen.
    pub allowed: Allowed,
    /// What an oracle of the workload found wrong.
    pub wrong: Option<String>,
    /// From the start to the end, in nanoseconds.
    pub length_ns: u64,
    /// The machine.
    pub machine: &'a Machine,
    /// Threads that wanted a core of their own.
    pub threads: usize,
    /// What was slower or other than asked for: I/O driver, waiting ….
    pub fallbacks: &'a [String],
    /// 99 % of the hiccups of each core of the run, in nanoseconds.
    pub hiccups: &'a [(usize, Option<u64>)],
    /// Bound of those, `--noise-gate`.
    pub noise_gate_ns: u64,
    /// Whether what lowers the grade invalidates.
    pub strict: bool,
}

/// Judges a run.
pub fn judge(f: &Facts<'_>) -> Verdict {
    let (grade, noise, machine) = grade(f);
    let invalid = invalid(f, if f.strict { &noise } else { &[] });
    let incorrect = incorrect(f);
    let failed: Vec<String> = f
        .slos
        .iter()
        .filter(|c| c.holds == Some(false))
        .map(|c| format!("SLO {} does not hold: {}", c.slo, shown(c)))
        .collect();
    let error: Vec<String> = f.error.iter().cloned().collect();
    let order =
        [(error, Word::Error, 1), (invalid, Word::Invalid, 5), (incorrect, Word::Fail, 4), (failed, Word::Fail, 3)];
    let found = order.iter().find(|(reasons, ..)| !reasons.is_empty());
    let (word, exit_code) = found.map_or((Word::Pass, 0), |(_, word, code)| (*word, *code));
    let reasons = order.into_iter().flat_map(|(reasons, ..)| reasons).collect();
    let grade_reasons = noise.into_iter().chain(machine).collect();
    Verdict { word, exit_code, reasons, grade, grade_reasons }
}

fn shown(c: &Checked) -> String {
    match c.value {
        Some(v) if c.slo.starts_with("rate") => format!("{:.3} %", v * 100.0),
        Some(v) if ["loss", "dup", "reorder", "corrupt"].iter().any(|w| c.slo.starts_with(w)) => format!("{v}"),
        Some(v) => format::duration_ns(v as u64),
        None => "–".to_owned(),
    }
}

fn invalid(f: &Facts<'_>, strict: &[String]) -> Vec<String> {
    let mut reasons = Vec::new();
    let share = sent_share(f.due, f.counts.sent);
    if share < SENT_SHARE_MIN {
        reasons.push(format!(
            "only {} of {} tuples due were sent by the end of the drain ({:.2} %): the rate was not reached",
            format::count(f.counts.sent),
            format::count(f.due),
            share * 100.0
        ));
    }
    if f.open_loop {
        let (late, latency) = (quantile(&f.totals.late, 0.5), quantile(&f.totals.intended, 0.5));
        if let (Some(late), Some(latency)) = (late, latency)
            && late as f64 > LATE_SHARE_MAX * latency as f64
        {
            reasons.push(format!(
                "the generator was late: p50 {} against a measured p50 of {}",
                format::duration_ns(late),
                format::duration_ns(latency)
            ));
        }
        if let Some(late) = quantile(&f.totals.late, 0.99).filter(|late| *late > LATE_P99_MAX_NS) {
            reasons.push(format!("the generator was late: p99 {}, more than 10 ms", format::duration_ns(late)));
        }
    }
    if f.stolen.throttled_periods > 0 {
        reasons.push(format!(
            "the control group ran out of its CPU quota {} times, {} ms in all: raise cpu.max",
            f.stolen.throttled_periods, f.stolen.throttled_ms
        ));
    }
    for c in f.slos.iter().filter(|c| c.holds.is_none()) {
        reasons.push(format!("SLO {} names a percentile with fewer than 10 samples beyond it: run longer", c.slo));
    }
    reasons.extend(strict.iter().map(|r| format!("{r} (--strict)")));
    reasons
}

fn incorrect(f: &Facts<'_>) -> Vec<String> {
    let c = &f.counts;
    let mut reasons: Vec<String> = f.wrong.iter().cloned().collect();
    let mut say = |n: u64, allowed: bool, what: &str| {
        if n > 0 && !allowed {
            reasons.push(format!("{} {what}", format::count(n)));
        }
    };
    say(c.lost, f.allowed.loss, "tuples lost: sent, and not back by the end of the drain");
    say(c.duplicates, f.allowed.duplicates, "duplicates");
    say(c.reordered, f.allowed.reorder, "tuples overtaken by later ones");
    say(c.corrupt, false, "corrupt: came back other than they were sent");
    say(c.unknown, false, "came back that were never sent");
    reasons
}

/// Share of the tuples due that were sent; 1 without any.
pub fn sent_share(due: u64, sent: u64) -> f64 {
    if due == 0 { 1.0 } else { sent as f64 / due as f64 }
}

/// The grade, what the run's noise took from it, what the machine did.
fn grade(f: &Facts<'_>) -> (char, Vec<String>, Vec<String>) {
    let mut worst = 0;
    let mut noise = Vec::new();
    let mut machine = Vec::new();
    let mut lower = |to: &mut Vec<String>, grade: usize, why: String| {
        worst = worst.max(grade);
        to.push(why);
    };
    let ms = (f.length_ns as f64 / 1e6).max(1.0);
    let steal = f.stolen.steal_ms as f64 / ms;
    if steal > STEAL_SHARE_MAX {
        lower(&mut noise, 3, format!("the host stole {:.1} % of a core", steal * 100.0));
    }
    let gaps = &f.totals.gaps;
    let lost: f64 = gaps
        .iter_recorded()
        .filter(|b| b.value_iterated_to() > 20_000)
        .map(|b| b.value_iterated_to() as f64 * b.count_at_value() as f64)
        .sum();
    let ticks = lost / (f.length_ns as f64).max(1.0);
    if ticks > TICK_SHARE_MAX {
        lower(&mut noise, 3, format!("the generating thread was kept from running {:.1} % of the time", ticks * 100.0));
    }
    for (core, p99) in f.hiccups {
        if let Some(p99) = p99.filter(|p| *p > f.noise_gate_ns) {
            lower(&mut noise, 3, format!("hiccups of core {core}: p99 {}", format::duration_ns(p99)));
        }
    }
    if let Some(factor) = trend(&f.totals.timeline).filter(|t| *t > TREND_MAX) {
        lower(&mut noise, 4, format!("latency was not steady: its median grew {factor:.1} times during the run"));
    }
    let m = f.machine;
    if m.virtual_machine {
        lower(&mut machine, 2, "a virtual machine".to_owned());
    }
    if m.isolated.is_empty() {
        lower(&mut machine, 1, "no isolated cores".to_owned());
    }
    if m.cores.len() < f.threads {
        lower(&mut machine, 3, format!("{} threads share {} cores", f.threads, m.cores.len()));
    }
    if m.quota_cores.is_some() {
        lower(&mut machine, 2, "a CPU quota".to_owned());
    }
    if m.governor.as_deref().is_some_and(|g| g != "performance") {
        lower(&mut machine, 1, format!("governor {}", m.governor.as_deref().unwrap_or("")));
    }
    if m.clock_source.as_deref().is_some_and(|c| c != "tsc") {
        lower(&mut machine, 1, format!("clock source {}", m.clock_source.as_deref().unwrap_or("")));
    }
    for fallback in f.fallbacks {
        lower(&mut machine, 2, fallback.clone());
    }
    (['A', 'B', 'C', 'D', 'E', 'F'][worst], noise, machine)
}

/// How the median of the last third compares with that of the first.
pub fn trend(timeline: &[Point]) -> Option<f64> {
    let medians: Vec<f64> = timeline.iter().filter_map(|p| p.p50_ns.map(|v| v as f64)).collect();
    let third = medians.len() / 3;
    if third == 0 {
        return None;
    }
    let mid = |part: &[f64]| {
        let mut part = part.to_vec();
        part.sort_by(f64::total_cmp);
        part[part.len() / 2]
    };
    Some(mid(&medians[medians.len() - third..]) / mid(&medians[..third]).max(1.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A run of 100,000 tuples of 20 µs, with nothing wrong.
    fn judged(change: impl FnOnce(&mut Facts<'_>, &mut Totals)) -> Verdict {
        let mut totals = Totals::new(std::time::UNIX_EPOCH);
        totals.intended.record_n(20_000, 100_000).unwrap();
        totals.late.record_n(100, 100_000).unwrap();
        let machine = Machine::look(env!("CARGO_MANIFEST_DIR"));
        let counts = Counts { sent: 100_000, returned: 100_000, complete: 100_000, ..Counts::default() };
        let none = Totals::new(std::time::UNIX_EPOCH);
        let mut facts = Facts {
            error: None,
            due: 100_000,
            counts,
            open_loop: true,
            totals: &none,
            stolen: Stolen::default(),
            slos: &[],
            allowed: Allowed::default(),
            wrong: None,
            length_ns: 10_000_000_000,
            machine: &machine,
            threads: 1,
            fallbacks: &[],
            hiccups: &[],
            noise_gate_ns: 1_000_000,
            strict: false,
        };
        change(&mut facts, &mut totals);
        judge(&Facts { totals: &totals, ..facts })
    }

    fn checked(holds: Option<bool>) -> Vec<Checked> {
        vec![Checked { slo: "p99<50us".to_owned(), value: Some(60_000.0), holds }]
    }

    #[test]
    fn each_code_has_its_cause_and_the_order_of_judgement_holds() {
        let (bad, unknown) = (checked(Some(false)), checked(None));
        let code = |change: &dyn Fn(&mut Facts<'_>, &mut Totals)| {
            // Slices in facts must outlive it: they are taken from here.
            judged(|f, t| change(f, t)).exit_code
        };
        assert_eq!(code(&|_, _| {}), 0);
        assert_eq!(judged(|f, _| f.slos = Box::leak(bad.clone().into_boxed_slice())).exit_code, 3);
        assert_eq!(
            judged(|f, _| f.slos = Box::leak(unknown.clone().into_boxed_slice())).exit_code,
            5,
            "too few samples"
        );
        assert_eq!(code(&|f, _| f.counts.lost = 1), 4);
        assert_eq!(code(&|f, _| f.counts.duplicates = 1), 4);
        assert_eq!(code(&|f, _| f.counts.reordered = 1), 4);
        assert_eq!(code(&|f, _| f.counts.corrupt = 1), 4);
        assert_eq!(code(&|f, _| f.wrong = Some("the words differ".into())), 4);
        assert_eq!(code(&|f, _| f.due = 100_101), 5, "99.9 % were sent, and not one more may be missing");
        assert_eq!(code(&|f, _| f.due = 100_100), 0);
        assert_eq!(code(&|f, _| f.stolen.throttled_periods = 1), 5);
        assert_eq!(code(&|_, t| t.late.record_n(2_500, 200_000).unwrap()), 5, "p50 above a tenth");
        assert_eq!(code(&|_, t| t.late.record_n(11_000_000, 2_000).unwrap()), 5, "p99 above 10 ms");
        assert_eq!(code(&|f, _| f.error = Some("killed".into())), 1);
        let all = judged(|f, _| {
            f.slos = Box::leak(bad.clone().into_boxed_slice());
            f.counts.lost = 1;
        });
        assert_eq!((all.exit_code, all.reasons.len()), (4, 2));
        assert_eq!(code(&|f, _| (f.counts.lost, f.due) = (1, 200_000)), 5, "invalid before incorrect");
        assert_eq!(code(&|f, _| (f.error, f.due) = (Some("killed".into()), 200_000)), 1, "an error before invalid");
    }

    #[test]
    fn noise_lowers_the_grade_and_invalidates_only_when_strict() {
        let noisy = judged(|f, _| f.stolen.steal_ms = 5_000);
        assert!(noisy.exit_code == 0 && noisy.grade >= 'D' && noisy.grade_reasons[0].contains("stole"), "{noisy:?}");
        let strict = judged(|f, _| (f.stolen.steal_ms, f.strict) = (5_000, true));
        assert_eq!((strict.exit_code, strict.word), (5, Word::Invalid));
        let gated = judged(|f, _| f.hiccups = &[(3, Some(2_000_000))]);
        assert!(gated.grade >= 'D' && gated.exit_code == 0);
        let late = judged(|_, t| {
            let point = |p50| Point {
                from_s: 0.0,
                to_s: 1.0,
                sent_rate: 0.0,
                complete_rate: 0.0,
                p50_ns: Some(p50),
                p99_ns: None,
                max_ns: None,
                late_p99_ns: None,
            };
            t.timeline = [10, 10, 10, 20, 20, 20].map(point).into();
        });
        assert!(late.grade >= 'E' && late.grade_reasons.iter().any(|r| r.contains("steady")), "{late:?}");
    }

    #[test]
    fn what_is_allowed_does_not_fail() {
        let allowed = Allowed { loss: true, duplicates: true, reorder: true };
        let v = judged(|f, _| {
            f.allowed = allowed;
            (f.counts.lost, f.counts.duplicates, f.counts.reordered) = (1, 1, 1);
        });
        assert_eq!(v.exit_code, 0);
        assert_eq!(judged(|f, _| (f.allowed, f.counts.corrupt) = (allowed, 1)).exit_code, 4);
    }
}

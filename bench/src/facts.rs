//! What the floors reach on a quiet two-core machine of the class this was written on (two virtual cores of an AMD EPYC, Linux
//! 6.18, near placement). A floor that is much slower there was disturbed, or made slower, and the row says nothing.
//!
//! Where a measurement gave a range, the slower end stands here. Rows without a line were not measured then.

use crate::measure::Side;
use crate::scenario::{Link, Row, Scenario};

/// How much slower a floor may be before its row is void.
const SLACK: f64 = 1.3;

#[derive(Clone, Copy)]
enum Figure {
    P50Ns(f64),
    Rate(f64),
}

use Figure::{P50Ns, Rate};

#[rustfmt::skip]
const FLOORS: &[(Scenario, Link, usize, Figure)] = &[
    (Scenario::Rtt(Link::Ring), Link::Ring,    64, P50Ns(180.0)),
    (Scenario::Rtt(Link::Shm),  Link::Shm,     64, P50Ns(90.0)),
    (Scenario::Rtt(Link::Shm),  Link::Shm,   1024, P50Ns(270.0)),
    (Scenario::Rtt(Link::Shm),  Link::Shm,  16384, P50Ns(4_200.0)),
    (Scenario::Rtt(Link::Uds),  Link::Uds,     64, P50Ns(5_200.0)),
    (Scenario::Rtt(Link::Tcp),  Link::Tcp,     64, P50Ns(9_300.0)),
    (Scenario::Rtt(Link::Tcp),  Link::Tcp,  16384, P50Ns(14_800.0)),
    (Scenario::ConstNull,       Link::Ring,    32, Rate(207e6)),
    (Scenario::ConstNull,       Link::Shm,     32, Rate(126e6)),
    (Scenario::ConstNull,       Link::Tcp,     32, Rate(32e6)),
    (Scenario::SmallBatches,    Link::Tcp,     32, Rate(0.2e6)),
];

/// Why a row with this floor is void.
pub(crate) fn too_slow(row: &Row, floor: &Side) -> Option<String> {
    let (.., figure) = FLOORS.iter().find(|(s, l, size, _)| (*s, *l, *size) == (row.scenario, row.link, row.size))?;
    let (slower, is, known) = match figure {
        P50Ns(known) => (floor.p50? / known, format!("p50 {:.0} ns", floor.p50?), format!("{known:.0} ns")),
        Rate(known) => {
            let rate = floor.rate?;
            (known / rate, format!("rate {:.1} M/s", rate / 1e6), format!("{:.1} M/s", known / 1e6))
        }
    };
    (slower > SLACK).then(|| {
        format!("the floor's {is} is {slower:.1} × slower than the {known} it has on a quiet machine: measure again")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(name: &str) -> Row {
        Scenario::named(name)[0].rows()[0].clone()
    }

    #[test]
    fn a_floor_is_too_slow_beyond_the_slack_and_not_before() {
        let p50 = |ns| Side { p50: Some(ns), ..Side::default() };
        assert_eq!(too_slow(&row("rtt-shm"), &p50(90.0 * 1.29)), None);
        let why = too_slow(&row("rtt-shm"), &p50(90.0 * 1.31)).unwrap();
        assert!(why.contains("p50 118 ns") && why.contains("90 ns"), "{why}");
        let slow = Side { rate: Some(0.1e6), ..Side::default() };
        assert!(too_slow(&row("small-batches"), &slow).is_some());
        assert_eq!(too_slow(&row("wordcount"), &slow), None, "nothing is known of it");
    }

    #[test]
    fn every_line_names_a_row() {
        for (scenario, link, size, _) in FLOORS {
            assert!(scenario.rows().iter().any(|r| (r.link, r.size) == (*link, *size)), "{scenario:?} {link} {size}");
        }
    }
}

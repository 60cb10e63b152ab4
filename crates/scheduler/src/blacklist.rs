//! Nodes that come and go are left alone for a while, longer each time.

use std::collections::BTreeMap;
use std::time::Duration;

/// Bounds of a [`Blacklist`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BlacklistOptions {
    /// Losses within [`BlacklistOptions::window`] that are borne. Default 2: the third lists the node, as in Storm.
    pub tolerated: u32,
    /// How long a loss counts. Default 5 minutes.
    pub window: Duration,
    /// How long the first listing lasts; each loss after it doubles that. Default 30 s.
    pub first: Duration,
    /// The longest listing. Default 30 minutes.
    pub longest: Duration,
}

impl Default for BlacklistOptions {
    fn default() -> Self {
        BlacklistOptions {
            tolerated: 2,
            window: Duration::from_secs(300),
            first: Duration::from_secs(30),
            longest: Duration::from_secs(1800),
        }
    }
}

/// What is remembered of a node: at most `tolerated + 1` times of loss.
#[derive(Clone, Debug, Default)]
struct Record {
    losses: Vec<Duration>,
    /// Listings so far; forgotten after a window without a loss.
    listings: u32,
    until: Duration,
}

/// Remembers losses of nodes. All times are of one monotonic clock.
#[derive(Clone, Debug, Default)]
pub struct Blacklist {
    options: BlacklistOptions,
    nodes: BTreeMap<String, Record>,
}

impl Blacklist {
    /// An empty list.
    pub fn new(options: BlacklistOptions) -> Self {
        Blacklist { options, nodes: BTreeMap::new() }
    }

    /// A node was lost.
    pub fn lost(&mut self, node: &str, now: Duration) {
        let BlacklistOptions { tolerated, window, first, longest } = self.options;
        let record = self.nodes.entry(node.to_owned()).or_default();
        let calm = record.losses.last().map(|last| now.saturating_sub(record.until.max(*last)));
        if calm.is_some_and(|calm| calm > window) {
            *record = Record::default();
        }
        record.losses.retain(|&at| now.saturating_sub(at) <= window);
        record.losses.push(now);
        if record.losses.len() > tolerated as usize || record.listings > 0 {
            let lasts = first.saturating_mul(1u32.checked_shl(record.listings).unwrap_or(u32::MAX)).min(longest);
            record.until = now + lasts;
            record.listings += 1;
            record.losses = vec![now];
        }
    }

    /// The node is not to get anything new.
    pub fn listed(&self, node: &str, now: Duration) -> bool {
        self.nodes.get(node).is_some_and(|record| record.until > now)
    }

    /// When the next listing ends: then nodes may be used again.
    pub fn next_end(&self, now: Duration) -> Option<Duration> {
        self.nodes.values().map(|record| record.until).filter(|until| *until > now).min()
    }

    /// Forgets nodes that were calm for longer than the window.
    pub fn forget(&mut self, now: Duration) {
        let window = self.options.window;
        self.nodes.retain(|_, record| {
            let last = record.losses.last().copied().unwrap_or_default().max(record.until);
            now.saturating_sub(last) <= window
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(secs: u64) -> Duration {
        Duration::from_secs(secs)
    }

    #[test]
    fn the_third_loss_within_the_window_lists_a_node_and_each_further_one_twice_as_long() {
        let mut list = Blacklist::new(BlacklistOptions::default());
        list.lost("a", at(0));
        list.lost("a", at(10));
        assert!(!list.listed("a", at(10)));
        list.lost("a", at(20));
        assert!(list.listed("a", at(49)) && !list.listed("a", at(50)));
        assert_eq!(list.next_end(at(20)), Some(at(50)));
        list.lost("a", at(60));
        assert!(list.listed("a", at(119)) && !list.listed("a", at(120)));
        for loss in 0..20 {
            list.lost("a", at(130 + loss));
        }
        assert!(list.listed("a", at(149 + 1799)) && !list.listed("a", at(149 + 1800)), "half an hour at most");
        assert!(!list.listed("b", at(130)));
    }

    #[test]
    fn losses_far_apart_do_not_add_up_and_calm_is_forgiven() {
        let mut list = Blacklist::new(BlacklistOptions::default());
        for loss in 0..10 {
            list.lost("a", at(loss * 301));
            assert!(!list.listed("a", at(loss * 301)));
        }
        for loss in 0..3 {
            list.lost("b", at(loss));
        }
        assert!(list.listed("b", at(3)));
        list.lost("b", at(32 + 301));
        assert!(!list.listed("b", at(32 + 301)), "five minutes after the listing it begins anew");
        list.forget(at(10_000));
        assert!(list.nodes.is_empty());
    }
}

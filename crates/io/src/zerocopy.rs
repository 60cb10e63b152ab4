//! Which sends go out without a copy into the kernel.
//!
//! A zero-copy send pins the pages of its buffers and tells later, by a notification, when the network is done with them. It saves the copy of
//! large sends to a real network card. Elsewhere it costs: on loopback and virtual links the kernel copies after all (it says so in the
//! notification), 12–25 % of throughput and 2–3 µs a round trip; and a small one may wait for the peer's acknowledgement, up to 40 ms, before its
//! buffers come back. So each stream tries a few and keeps to what they showed.

use std::fmt;
use std::str::FromStr;

/// Whether sends may go out without a copy into the kernel: `auto` or `off` in text. io_uring over TCP only; other streams always copy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum ZeroCopy {
    /// Large sends of a stream on which the first few were not copied by the kernel after all. The default.
    #[default]
    Auto,
    /// Never. For networks where the notifications come late and buffers are short.
    Off,
}

impl fmt::Display for ZeroCopy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            ZeroCopy::Auto => "auto",
            ZeroCopy::Off => "off",
        })
    }
}

impl FromStr for ZeroCopy {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "auto" => Ok(ZeroCopy::Auto),
            "off" => Ok(ZeroCopy::Off),
            _ => Err(format!("`{text}` is no choice for zero-copy sends: write auto or off")),
        }
    }
}

/// Smallest send that is worth it: break-even on network cards was seen at 4–8 KiB; twice that, since a batch that large is one of many.
pub(crate) const MIN_BYTES: usize = 16 << 10;
/// Buffers of a stream that may wait for their notifications; beyond that sends are copied, so nobody ever waits for one.
pub(crate) const WAITING_MAX: usize = 8;
/// Notifications in a row that say "copied" after which a stream stops: a connection does not change its network card.
const COPIES_TO_STOP: u8 = 4;

/// The decision for one stream. A value: told of reports, asked per send.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ZeroCopyPolicy {
    state: State,
    /// Notifications that said "copied" since the last that did not.
    copies: u8,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// One at a time, until a notification shows what it is worth.
    Trial,
    On,
    /// For good.
    Off,
}

impl ZeroCopyPolicy {
    pub(crate) fn new(allowed: bool) -> Self {
        ZeroCopyPolicy { state: if allowed { State::Trial } else { State::Off }, copies: 0 }
    }

    /// Whether a send of `bytes` should go without a copy while `waiting` buffers wait for notifications.
    pub(crate) fn wants(&self, bytes: usize, waiting: usize) -> bool {
        bytes >= MIN_BYTES
            && match self.state {
                State::Off => false,
                State::Trial => waiting == 0,
                State::On => waiting < WAITING_MAX,
            }
    }

    /// A notification came.
    pub(crate) fn notified(&mut self, copied: bool) {
        self.copies = if copied { self.copies.saturating_add(1) } else { 0 };
        if self.copies >= COPIES_TO_STOP {
            self.state = State::Off;
        } else if !copied && self.state == State::Trial {
            self.state = State::On;
        }
    }

    /// The kernel refuses such sends on this socket.
    pub(crate) fn refused(&mut self) {
        self.state = State::Off;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_choice_is_read_as_it_is_written() {
        for choice in [ZeroCopy::Auto, ZeroCopy::Off] {
            assert_eq!(choice.to_string().parse(), Ok(choice));
        }
        assert!("on".parse::<ZeroCopy>().expect_err("no such choice").contains("auto or off"));
    }

    #[test]
    fn small_sends_are_copied() {
        let mut policy = ZeroCopyPolicy::new(true);
        policy.notified(false);
        assert!(!policy.wants(MIN_BYTES - 1, 0) && policy.wants(MIN_BYTES, 0));
    }

    #[test]
    fn the_first_go_one_at_a_time_and_then_up_to_the_limit_of_waiting_buffers() {
        let mut policy = ZeroCopyPolicy::new(true);
        assert!(policy.wants(MIN_BYTES, 0) && !policy.wants(MIN_BYTES, 1));
        policy.notified(false);
        assert!(policy.wants(MIN_BYTES, WAITING_MAX - 1) && !policy.wants(MIN_BYTES, WAITING_MAX));
    }

    #[test]
    fn a_stream_on_which_the_kernel_copies_stops_after_four_and_for_good() {
        let mut policy = ZeroCopyPolicy::new(true);
        for _ in 0..COPIES_TO_STOP {
            assert!(policy.wants(MIN_BYTES, 0));
            policy.notified(true);
        }
        assert!(!policy.wants(usize::MAX, 0));
        policy.notified(false);
        assert!(!policy.wants(usize::MAX, 0), "a late notification does not begin it again");
    }

    #[test]
    fn a_copy_now_and_then_does_not_stop_it() {
        let mut policy = ZeroCopyPolicy::new(true);
        for _ in 0..100 {
            (0..COPIES_TO_STOP - 1).for_each(|_| policy.notified(true));
            policy.notified(false);
        }
        assert!(policy.wants(MIN_BYTES, 0));
    }

    #[test]
    fn switched_off_or_refused_means_never() {
        assert!(!ZeroCopyPolicy::new(false).wants(usize::MAX, 0));
        let mut policy = ZeroCopyPolicy::new(true);
        policy.refused();
        policy.notified(false);
        assert!(!policy.wants(usize::MAX, 0));
    }
}

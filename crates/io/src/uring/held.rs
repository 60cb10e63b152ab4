//! Buffers that the kernel has taken without a copy and still reads: each waits for the notification of the send that took it, or its last part.
//!
//! Sends are notified in any order and let go of in theirs: a long buffer may be spread over several, and is then free after all of them.

use std::collections::VecDeque;

struct Taken<B> {
    number: u16,
    notified: bool,
    /// Buffers that end in this send.
    bufs: Vec<B>,
}

pub(super) struct Held<B> {
    sends: VecDeque<Taken<B>>,
}

impl<B> Held<B> {
    pub(super) fn new() -> Self {
        Held { sends: VecDeque::new() }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.sends.is_empty()
    }

    /// How much waits, in buffers, or in sends that completed none.
    pub(super) fn waiting(&self) -> usize {
        self.sends.iter().map(|send| send.bufs.len().max(1)).sum()
    }

    /// Zero-copy send `number` took bytes and will be notified; the buffers that it completed follow by `hold`.
    pub(super) fn taken_by(&mut self, number: u16) {
        self.sends.push_back(Taken { number, notified: false, bufs: Vec::new() });
    }

    /// A buffer that waits for the last zero-copy send, and those before it.
    pub(super) fn hold(&mut self, buf: B) {
        self.sends.back_mut().expect("`taken_by` comes first").bufs.push(buf);
    }

    /// The kernel is done with what the send `number` took. Gives out the buffers that wait for nothing any more.
    pub(super) fn notified(&mut self, number: u16, mut free: impl FnMut(B)) {
        if let Some(send) = self.sends.iter_mut().find(|send| send.number == number) {
            send.notified = true;
        }
        while let Some(send) = self.sends.pop_front_if(|send| send.notified) {
            send.bufs.into_iter().for_each(&mut free);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn free(held: &mut Held<u32>, number: u16) -> Vec<u32> {
        let mut out = Vec::new();
        held.notified(number, |buf| out.push(buf));
        out
    }

    #[test]
    fn a_buffer_is_free_after_its_send_and_those_before_it_whatever_the_order_of_the_notifications() {
        let mut held = Held::new();
        held.taken_by(1);
        held.hold(10);
        held.hold(11);
        held.taken_by(2);
        held.taken_by(3);
        // It began in send 2.
        held.hold(30);
        assert_eq!(held.waiting(), 4);
        assert_eq!(free(&mut held, 3), []);
        assert_eq!(free(&mut held, 1), [10, 11]);
        assert_eq!(free(&mut held, 2), [30]);
        assert!(held.is_empty());
    }

    #[test]
    fn a_send_that_completed_no_buffer_is_waited_for_too() {
        let mut held: Held<u32> = Held::new();
        held.taken_by(u16::MAX);
        assert!(!held.is_empty() && held.waiting() == 1, "the kernel reads a part of the next buffer");
        assert_eq!(free(&mut held, 7), []);
        assert!(!held.is_empty());
        assert_eq!(free(&mut held, u16::MAX), []);
        assert!(held.is_empty());
    }
}

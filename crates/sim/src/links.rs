//! Links between simulated reactors that behave like the real ones and check every transfer.
//!
//! A ring copies a batch and shows its credit at once; a socket takes the batch's buffer and tells credit in quarters of
//! the window. Both deliver in order, any time later, and refuse when they hold their number of batches.
//!
//! Checked at every transfer, from accounts that are kept here and not in the engine (D2):
//! - a sender has room by its own view of the credit before it sends;
//! - what is sent and not yet consumed never exceeds the window, or a quarter of it and the last batch;
//! - a receiver returns only what it has received, each byte once;
//! - batches of a link are numbered without gaps, name their sender, and keep to the batch size of their link unless
//!   they hold a single tuple.

use std::cell::RefCell;
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use squall_engine::{BatchPool, Net, Offered};
use squall_topology::{LinkKind, Plan};
use squall_tuple::ids::ReactorIx;
use squall_tuple::rkyv::util::AlignedVec;
use squall_tuple::{Batch, BatchBuf, BatchHeader, BatchKind, DestRef};

/// Room that the receiving end of a socket leaves for the header of the largest tuple, as the engine's wires do.
const SOCKET_SLACK: usize = 4096;

/// A batch under way.
pub(crate) enum Parcel {
    /// A copy: what a ring holds.
    Copy(AlignedVec<64>),
    /// The sender's buffer: what a socket sends. It goes back to the sender's pool.
    Buf(BatchBuf),
}

impl Parcel {
    pub(crate) fn bytes(&self) -> &[u8] {
        match self {
            Parcel::Copy(bytes) => bytes,
            Parcel::Buf(buf) => buf,
        }
    }

    /// The header, which the engine wrote.
    pub(crate) fn header(&self) -> BatchHeader {
        BatchHeader::parse(self.bytes()).expect("checked when it was offered")
    }

    pub(crate) fn recycle(self, pool: &BatchPool) {
        if let Parcel::Buf(buf) = self {
            pool.give(buf);
        }
    }
}

/// Bytes of one sender for one inbox, each cumulative.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
struct Account {
    sent: u64,
    delivered: u64,
    consumed: u64,
    /// Of the consumed bytes: those that the receiver has put on the way back.
    told: u64,
    /// Of those: what the sender knows of.
    returned: u64,
}

/// One direction between two reactors.
struct Link {
    kind: LinkKind,
    /// Batches, and the inboxes that each is charged to.
    queue: VecDeque<(Parcel, Vec<u32>)>,
    next_seq: u64,
    /// By inbox of the receiver.
    accounts: BTreeMap<u32, Account>,
    /// Credit on its way to the sender.
    credit: VecDeque<(u32, u64)>,
}

/// What happened on all links.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct LinkTotals {
    pub(crate) batches: u64,
    pub(crate) marks: u64,
    /// Records in batches of acks.
    pub(crate) acks: u64,
    /// Batches that hold one tuple larger than a batch.
    pub(crate) large: u64,
    /// Offers refused because the link was full.
    pub(crate) refused: u64,
    /// Most bytes under way to an inbox, in percent of the window.
    pub(crate) fullest_percent: u64,
}

/// All links of a plan.
pub(crate) struct Links {
    plan: Arc<Plan>,
    count: usize,
    links: Vec<Link>,
    link_batches: usize,
    window: u64,
    pub(crate) totals: LinkTotals,
    violation: Option<String>,
}

impl Links {
    pub(crate) fn new(plan: Arc<Plan>, link_batches: usize) -> Self {
        let count = plan.reactors.len();
        let kind = |at: usize| {
            let link = plan.link_between((at / count) as u32, (at % count) as u32);
            link.map_or(LinkKind::Local, |l| plan.links[l as usize].kind)
        };
        let link = |at| Link {
            kind: kind(at),
            queue: VecDeque::new(),
            next_seq: 0,
            accounts: BTreeMap::new(),
            credit: VecDeque::new(),
        };
        Links {
            count,
            links: (0..count * count).map(link).collect(),
            link_batches,
            window: plan.spec.config.credit_bytes,
            totals: LinkTotals::default(),
            violation: None,
            plan,
        }
    }

    /// `None`: the wire is as it should be.
    pub(crate) fn violation(&self) -> Option<String> {
        self.violation.clone()
    }

    fn link(&mut self, from: ReactorIx, to: ReactorIx) -> &mut Link {
        &mut self.links[from as usize * self.count + to as usize]
    }

    fn get(&self, from: ReactorIx, to: ReactorIx) -> &Link {
        &self.links[from as usize * self.count + to as usize]
    }

    fn violate(&mut self, from: ReactorIx, to: ReactorIx, what: String) {
        self.violation.get_or_insert_with(|| format!("link from reactor {from} to {to}: {what}"));
    }

    pub(crate) fn has_batch(&self, from: ReactorIx, to: ReactorIx) -> bool {
        !self.get(from, to).queue.is_empty()
    }

    /// Whether credit that `from` gave is on its way to `to`.
    pub(crate) fn has_credit(&self, from: ReactorIx, to: ReactorIx) -> bool {
        !self.get(to, from).credit.is_empty()
    }

    pub(crate) fn idle(&self) -> bool {
        self.links.iter().all(|l| l.queue.is_empty())
    }

    /// The inboxes of `to` that are charged for a batch: those that read its stream by the same kind of edge, ordinary or
    /// feedback, as the targets of its tuples.
    fn charged(&self, batch: &Batch<'_>, to: ReactorIx) -> Vec<u32> {
        let stream = batch.stream();
        let target = batch.iter().next().and_then(|frame| match frame.dest() {
            DestRef::Task(task) => Some(task),
            DestRef::List(mut tasks) => tasks.next(),
            DestRef::Set(set) => self.plan.task_sets[set as usize].tasks.first().copied(),
        });
        let subs = self.plan.subscribers_of(stream).iter().map(|s| &self.plan.spec.subscriptions[*s as usize]);
        let of = |task| subs.clone().find(|s| s.to == self.plan.component_of(task));
        let feedback = target.and_then(of).is_some_and(|s| s.feedback);
        subs.filter(|s| s.feedback == feedback).filter_map(|s| self.plan.inbox_at(s.to, to)).collect()
    }

    /// The largest batch that the receiving end of a link accepts.
    pub(crate) fn largest_batch(&self, from: ReactorIx, to: ReactorIx) -> usize {
        let config = &self.plan.spec.config;
        let own =
            if self.get(from, to).kind == LinkKind::Socket { config.socket_batch_bytes } else { config.batch_bytes };
        (config.max_tuple_bytes as usize + SOCKET_SLACK).max(own as usize)
    }

    /// Takes the oldest batch of a link; the receiver has it now.
    pub(crate) fn deliver(&mut self, from: ReactorIx, to: ReactorIx) -> Option<Parcel> {
        let link = self.link(from, to);
        let (parcel, charged) = link.queue.pop_front()?;
        for inbox in charged {
            link.accounts.entry(inbox).or_default().delivered += parcel.bytes().len() as u64;
        }
        Some(parcel)
    }

    /// Hands over the oldest credit that `from` gave to `to`.
    pub(crate) fn return_credit(&mut self, from: ReactorIx, to: ReactorIx) -> bool {
        let link = self.link(to, from);
        let Some((inbox, returned)) = link.credit.pop_front() else { return false };
        let account = link.accounts.entry(inbox).or_default();
        account.returned = account.returned.max(returned);
        true
    }

    /// At the end of a run: everything sent was consumed, so nobody could wait for credit that was lost.
    pub(crate) fn check_settled(&mut self) {
        for at in 0..self.links.len() {
            let open = self.links[at].accounts.iter().find(|(_, a)| a.consumed != a.sent);
            if let Some((inbox, account)) = open {
                let component = self.plan.inboxes[*inbox as usize].component;
                let name = &self.plan.spec.components[component as usize].name;
                let what = format!("the run is over, but the inbox of {name} keeps credit: {account:?}");
                self.violate((at / self.count) as u32, (at % self.count) as u32, what);
            }
        }
    }

    /// What is under way where, for the report of a stall.
    pub(crate) fn describe(&self) -> Vec<String> {
        let mut lines = Vec::new();
        for (at, link) in self.links.iter().enumerate() {
            let (from, to) = (at / self.count, at % self.count);
            if !link.queue.is_empty() {
                lines.push(format!("link {from}→{to}: {} batches wait", link.queue.len()));
            }
            for (inbox, a) in link.accounts.iter().filter(|(_, a)| a.sent != a.returned) {
                let component = self.plan.inboxes[*inbox as usize].component;
                let name = &self.plan.spec.components[component as usize].name;
                lines.push(format!("link {from}→{to}, inbox of {name}: {a:?} of a window of {}", self.window));
            }
        }
        lines
    }

    fn offer(&mut self, from: ReactorIx, to: ReactorIx, batch: BatchBuf) -> Offered {
        if self.get(from, to).queue.len() >= self.link_batches {
            self.totals.refused += 1;
            return Offered::Refused(batch);
        }
        let charged = self.check_offer(from, to, &batch).unwrap_or_else(|what| {
            self.violate(from, to, what);
            Vec::new()
        });
        self.totals.batches += 1;
        let link = self.link(from, to);
        link.next_seq += 1;
        if link.kind == LinkKind::Socket {
            link.queue.push_back((Parcel::Buf(batch), charged));
            return Offered::Taken;
        }
        let mut copy = AlignedVec::with_capacity(batch.len());
        copy.extend_from_slice(&batch);
        link.queue.push_back((Parcel::Copy(copy), charged));
        Offered::Copied(batch)
    }

    fn consume(&mut self, from: ReactorIx, me: ReactorIx, inbox: u32, bytes: u64) {
        let window = self.window;
        let link = self.link(from, me);
        let socket = link.kind == LinkKind::Socket;
        let account = link.accounts.entry(inbox).or_default();
        account.consumed += bytes;
        let (consumed, delivered) = (account.consumed, account.delivered);
        if !socket {
            account.told = consumed;
            link.credit.push_back((inbox, consumed));
        } else if consumed - account.told >= window / 4 {
            // All that is owed goes in one message, as on the wire.
            for (inbox, account) in link.accounts.iter_mut().filter(|(_, a)| a.told != a.consumed) {
                account.told = account.consumed;
                link.credit.push_back((*inbox, account.consumed));
            }
        }
        if consumed > delivered {
            let what = format!("inbox {inbox} returned {consumed} bytes of the {delivered} that it got");
            self.violate(from, me, what);
        }
    }

    /// Checks a batch that is sent, and charges it. Returns the inboxes charged.
    fn check_offer(&mut self, from: ReactorIx, to: ReactorIx, batch: &BatchBuf) -> Result<Vec<u32>, String> {
        let header = BatchHeader::parse(batch).map_err(|e| format!("a malformed batch was sent: {e}"))?;
        let due = self.get(from, to).next_seq;
        if header.link_seq != due || header.source_reactor != from {
            return Err(format!(
                "batch {} of reactor {} was sent, {due} was due",
                header.link_seq, header.source_reactor
            ));
        }
        if header.kind == BatchKind::Ack {
            if self.plan.link_between(from, to).is_none() {
                return Err("acks were sent where the plan has no link".into());
            }
            self.totals.acks += u64::from(header.count);
            return Ok(Vec::new());
        }
        let charged = self.charged(&batch.view(), to);
        if charged.is_empty() {
            return Err(format!("a batch of stream {} was sent, which nobody there reads", header.stream));
        }
        if header.kind != BatchKind::Data {
            self.totals.marks += 1;
            return Ok(Vec::new());
        }
        let config = &self.plan.spec.config;
        let socket = self.get(from, to).kind == LinkKind::Socket;
        let limit = if socket { config.socket_batch_bytes } else { config.batch_bytes };
        if header.byte_len > limit {
            if header.count > 1 {
                return Err(format!(
                    "{} tuples in a batch of {} bytes, the limit is {limit}",
                    header.count, header.byte_len
                ));
            }
            self.totals.large += 1;
        }
        let (bytes, window) = (u64::from(header.byte_len), self.window);
        for inbox in &charged {
            let a = self.link(from, to).accounts.entry(*inbox).or_default();
            // D2: the sender's view lags behind, so its room is never more than the true one.
            let out = a.sent - a.returned;
            if out + bytes > window && out > window / 4 {
                return Err(format!("{bytes} bytes sent with {out} of {window} under way to inbox {inbox}"));
            }
            a.sent += bytes;
            let fullest = (a.sent - a.consumed) * 100 / window;
            self.totals.fullest_percent = self.totals.fullest_percent.max(fullest);
        }
        Ok(charged)
    }
}

/// All links as one reactor sees them.
pub(crate) struct View<'a> {
    pub(crate) me: ReactorIx,
    pub(crate) links: &'a RefCell<Links>,
}

impl Net for View<'_> {
    fn offer(&mut self, to: ReactorIx, batch: BatchBuf) -> Offered {
        self.links.borrow_mut().offer(self.me, to, batch)
    }

    fn backlog(&self, to: ReactorIx) -> usize {
        self.links.borrow().get(self.me, to).queue.len()
    }

    fn consumed(&self, to: ReactorIx, inbox: u32) -> u64 {
        self.links.borrow().get(self.me, to).accounts.get(&inbox).map_or(0, |a| a.returned)
    }

    fn consume(&mut self, from: ReactorIx, inbox: u32, bytes: u64) {
        self.links.borrow_mut().consume(from, self.me, inbox, bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scenario::{ComponentScript, GroupScript, Scenario, SubScript};
    use crate::tuples::{Draft, Item};
    use squall_tuple::OpenBatch;

    /// Links from reactor 0, which has a spout, to reactor 1, which has its subscriber; a window of 256 bytes.
    fn links() -> Links {
        let components = vec![ComponentScript::spout("a", 1), ComponentScript::bolt("b")];
        let scenario = Scenario::tiny(0, components, vec![SubScript::new(0, 1, GroupScript::Shuffle)]);
        let (plan, _) = crate::topology::build(&scenario).unwrap();
        assert_eq!(plan.link_between(0, 1).map(|l| plan.links[l as usize].kind), Some(LinkKind::Ring));
        Links::new(plan, 8)
    }

    /// Sends one batch with one tuple; returns its bytes.
    fn send(links: &mut Links, seq: u64, pad: u32) -> u64 {
        let schema = links.plan.spec.streams[0].schema.clone();
        let mut buf = BatchBuf::with_capacity(4096);
        buf.open(&OpenBatch {
            kind: BatchKind::Data,
            stream: 0,
            schema_id: schema.id,
            dynamic: false,
            source_reactor: 0,
            epoch: 0,
        });
        buf.push_plain::<Item, Item>(0, 1, 0, &Draft { id: 1, key: 0, depth: 0, pad }.item()).unwrap();
        buf.seal(seq, 0, false);
        let bytes = buf.len() as u64;
        assert!(matches!(links.offer(0, 1, buf), Offered::Copied(_)));
        bytes
    }

    #[test]
    fn a_batch_that_is_sent_without_room_is_noticed() {
        let mut links = links();
        send(&mut links, 0, 0);
        assert_eq!(links.violation(), None);
        send(&mut links, 1, 100);
        assert!(links.violation().unwrap().contains("under way to inbox"), "{:?}", links.violation());
    }

    #[test]
    fn credit_that_is_returned_twice_or_not_at_all_is_noticed() {
        let mut links = links();
        let bytes = send(&mut links, 0, 0);
        links.deliver(0, 1).unwrap();
        links.consume(0, 1, 0, bytes);
        links.check_settled();
        assert_eq!(links.violation(), None);
        links.consume(0, 1, 0, bytes);
        assert!(links.violation().unwrap().contains("returned"), "{:?}", links.violation());

        let mut links = self::links();
        send(&mut links, 0, 0);
        links.deliver(0, 1).unwrap();
        links.check_settled();
        assert!(links.violation().unwrap().contains("keeps credit"), "{:?}", links.violation());
    }

    #[test]
    fn a_batch_out_of_number_is_noticed() {
        let mut links = links();
        send(&mut links, 1, 0);
        assert!(links.violation().unwrap().contains("0 was due"), "{:?}", links.violation());
    }
}

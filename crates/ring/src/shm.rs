//! A link between two processes of a host: one memfd with the rings, credit boards and sleep flags of both directions.
//!
//! One side creates the segment and passes its descriptor on (how is not told here), the other opens it. Each side then holds a [`ShmLink`]: the
//! same ends that threads of one process use, over the mapping. Only positions, commit words, credits and flags are shared beside the records.
//!
//! ```text
//! | header | claims | sleep flags | cursors ->, <- | credit ->, <- | pad to a page | records -> | records <- |
//! ```
//!
//! Limits: rings of 256 B to 1 GiB, equal in both directions; up to 65,536 inboxes a side. The size follows from [`ShmSizes`] alone, which both
//! sides derive from their plan: no length is taken from the other side.
//!
//! Invariants: the file is sealed against shrinking and growing before anybody else sees it, so no access can raise SIGBUS; each side is taken
//! once, so there is one producer and one consumer a ring; a segment is never used again after its first pair of processes.
//!
//! Pages come by first touch; [`ShmLink::touch`] lets each producer place its own ring. Huge pages: a memfd of huge pages when the system has some
//! reserved and the segment fills at least half of those it takes; else, for segments of 2 MiB and more, transparent ones where the kernel gives
//! them to shared memory; else normal ones. [`ShmLink::pages`] says which.
//!
//! Deliberately absent: names in a file system (nothing to clean up: the memory is gone with its last holder), more than two processes, the news
//! that a peer was killed (a socket beside the segment tells that), waiting.

use crate::bytes::{self, CONTROL_BYTES, Consumer, Producer, capacity_for};
use crate::credit::{self, CreditSource, CreditView};
use crate::memory::{Arc, Memory, Ordering, PAD};
use crate::sleep::SleepFlag;
use rustix::fs::{FallocateFlags, MemfdFlags, SealFlags};
use std::fmt;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

const MAGIC: u64 = u64::from_le_bytes(*b"SqlShm\0\x01");
const PAGE: usize = 4096;
const HUGE_PAGE: usize = 2 << 20;
const INBOXES_MAX: usize = 1 << 16;
/// `f_type` of a file of huge pages.
const HUGETLBFS_MAGIC: u64 = 0x9584_58f6;
const SEALS: SealFlags = SealFlags::SHRINK.union(SealFlags::GROW).union(SealFlags::SEAL);

/// What both sides must agree on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ShmSizes {
    /// Bytes of the ring of each direction, as [`byte_ring`](crate::byte_ring) rounds them.
    pub ring_bytes: usize,
    /// Inboxes of the side that creates the segment.
    pub creator_inboxes: usize,
    /// Inboxes of the side that opens it.
    pub opener_inboxes: usize,
}

impl ShmSizes {
    /// Bytes of the segment in normal pages. With huge pages it is rounded up to whole ones, at most to twice its size.
    ///
    /// # Panics
    /// Beyond the module's limits.
    pub fn segment_bytes(&self) -> usize {
        Layout::of(self).total
    }
}

/// What is behind a segment's addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pages {
    /// Reserved huge pages (`vm.nr_hugepages`).
    Reserved,
    /// The kernel was asked for transparent huge pages and gives them to shared memory.
    Transparent,
    /// Pages of 4 KiB (or whatever the machine's normal size is).
    Normal,
}

impl fmt::Display for Pages {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Pages::Reserved => "reserved huge pages",
            Pages::Transparent => "transparent huge pages",
            Pages::Normal => "normal pages",
        })
    }
}

/// How far the process on the other side is believed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Trust {
    /// It runs this code and leaves published records alone, so they are read in place. Positions and lengths are checked all the same.
    #[default]
    Peer,
    /// It may do anything to the memory at any time: records must be copied out ([`Consumer::copy_record`]) before they are looked at. Such a
    /// segment is never of reserved huge pages, under which a hole that the peer punches could raise SIGBUS here.
    Nothing,
}

/// Why there is no segment.
#[derive(Debug, thiserror::Error)]
pub enum ShmError {
    /// The kernel gave no memory to share.
    #[error("shared memory could not be had ({step}: {source}); {}", remedy(source))]
    Unavailable {
        /// The call.
        step: &'static str,
        /// Its error.
        source: io::Error,
    },
    /// The descriptor that came is not what a working peer sends.
    #[error(
        "the shared memory that was offered is refused: {what}; both ends must run the same build with the same plan"
    )]
    Refused {
        /// What is wrong with it.
        what: String,
    },
}

fn remedy(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::OutOfMemory | io::ErrorKind::StorageFull => {
            "free some memory, raise the memory limit of this container, or lower the topology's ring size"
        }
        io::ErrorKind::PermissionDenied => "a seccomp filter or security module forbids memfd_create: permit it",
        io::ErrorKind::Unsupported => "the kernel lacks memfd_create: it needs Linux 3.17 or later",
        _ => "raise the limit of open files (ulimit -n) if the cause names it",
    }
}

fn unavailable(step: &'static str) -> impl Fn(rustix::io::Errno) -> ShmError {
    move |source| ShmError::Unavailable { step, source: source.into() }
}

fn refused(what: impl Into<String>) -> ShmError {
    ShmError::Refused { what: what.into() }
}

/// Who a side is: index of its own parts.
#[derive(Clone, Copy)]
enum Side {
    Creator = 0,
    Opener = 1,
}

/// Where everything lies. Parts that a side writes as a reactor are indexed by it; rings and boards by the side that sends the batches.
struct Layout {
    capacity: usize,
    inboxes: [usize; 2],
    claim: [usize; 2],
    sleep: [usize; 2],
    ring: [bytes::Place; 2],
    board: [credit::Place; 2],
    total: usize,
}

impl Layout {
    fn of(sizes: &ShmSizes) -> Layout {
        let inboxes = [sizes.creator_inboxes, sizes.opener_inboxes];
        assert!(inboxes.iter().all(|n| *n <= INBOXES_MAX), "{inboxes:?} inboxes; the most is {INBOXES_MAX} a side");
        let capacity = capacity_for(sizes.ring_bytes).expect("a ring of at most 1 GiB");
        let mut end = 0;
        let mut take = |bytes: usize| {
            let at = end;
            end += bytes.next_multiple_of(PAD);
            at
        };
        take(HEADER_WORDS * 8);
        let claim = [take(PAD), take(PAD)];
        let sleep = [take(PAD), take(PAD)];
        let control = [take(CONTROL_BYTES), take(CONTROL_BYTES)];
        // The board of a direction counts the receiver's inboxes.
        let board =
            [inboxes[1], inboxes[0]].map(|inboxes| credit::Place { at: take(credit::Place::bytes(inboxes)), inboxes });
        let ring_span = capacity.next_multiple_of(PAGE);
        let first = end.next_multiple_of(PAGE);
        let lines = [first, first + ring_span];
        let ring = [0, 1].map(|d| bytes::Place { control: control[d], lines: lines[d], capacity });
        Layout { capacity, inboxes, claim, sleep, ring, board, total: first + 2 * ring_span }
    }

    fn header(&self) -> [u64; HEADER_WORDS] {
        [MAGIC, self.total as u64, self.capacity as u64, self.inboxes[0] as u64, self.inboxes[1] as u64]
    }
}

const HEADER_WORDS: usize = 5;

/// One side of a segment. Its parts move to the reactor that uses them; the memory is given back with the last of them.
pub struct ShmLink {
    /// Records to the peer.
    pub producer: Producer,
    /// Records from the peer.
    pub consumer: Consumer,
    /// What the peer has consumed of our records.
    pub credit: CreditView,
    /// What we have consumed of the peer's.
    pub source: CreditSource,
    /// Raised while we sleep.
    pub sleep: SleepFlag,
    /// Raised while the peer sleeps.
    pub peer_sleep: SleepFlag,
    pages: Pages,
    trust: Trust,
}

impl ShmLink {
    /// Makes a segment and takes its creator's side. The descriptor is for the other process; close it when it has been sent.
    ///
    /// # Errors
    /// [`ShmError::Unavailable`], naming the call and the remedy.
    ///
    /// # Panics
    /// If `sizes` exceed the module's limits.
    pub fn create(sizes: ShmSizes, trust: Trust) -> Result<(ShmLink, OwnedFd), ShmError> {
        let layout = Layout::of(&sizes);
        let reserved = if trust == Trust::Peer { reserved_pages(layout.total) } else { None };
        let (fd, pages, bytes) = match reserved {
            Some((fd, bytes)) => (fd, Pages::Reserved, bytes),
            None => (normal_pages(layout.total)?, Pages::Normal, layout.total),
        };
        rustix::fs::fcntl_add_seals(&fd, SEALS).map_err(unavailable("seal"))?;
        let memory = map(fd.as_fd(), bytes)?;
        for (at, word) in layout.header().into_iter().enumerate() {
            // Relaxed: whoever opens the segment got its descriptor after this, through the kernel.
            memory.store(at * 8, word, Ordering::Relaxed);
        }
        Ok((ShmLink::over(memory, &layout, Side::Creator, pages, trust)?, fd))
    }

    /// Takes the other side of the segment behind `fd`, which is closed.
    ///
    /// # Errors
    /// [`ShmError::Refused`] if the segment is not sealed, too small, of another version or other sizes, or its side was taken before;
    /// [`ShmError::Unavailable`] if it cannot be mapped.
    ///
    /// # Panics
    /// If `sizes` exceed the module's limits.
    pub fn open(fd: OwnedFd, sizes: ShmSizes, trust: Trust) -> Result<ShmLink, ShmError> {
        let layout = Layout::of(&sizes);
        let seals = rustix::fs::fcntl_get_seals(&fd).map_err(|_| refused("it is no memfd"))?;
        if !seals.contains(SEALS) {
            return Err(refused("it is not sealed against a change of its size"));
        }
        let (pages, page) = pages_of(fd.as_fd())?;
        if pages == Pages::Reserved && trust == Trust::Nothing {
            return Err(refused("it is made of reserved huge pages, and the peer is not trusted"));
        }
        let bytes = layout.total.next_multiple_of(page);
        let size = rustix::fs::fstat(&fd).map_err(unavailable("fstat"))?.st_size;
        if size < bytes as i64 {
            return Err(refused(format!("it has {size} bytes where {bytes} are due")));
        }
        let memory = map(fd.as_fd(), bytes)?;
        for (at, due) in layout.header().into_iter().enumerate() {
            let word = memory.load(at * 8, Ordering::Relaxed);
            if word != due {
                return Err(refused(format!("word {at} of its header is {word:#x} where {due:#x} is due")));
            }
        }
        ShmLink::over(memory, &layout, Side::Opener, pages, trust)
    }

    /// Both sides of a segment in one process, for tests.
    ///
    /// # Errors
    /// As [`create`](Self::create) and [`open`](Self::open).
    pub fn pair(sizes: ShmSizes, trust: Trust) -> Result<(ShmLink, ShmLink), ShmError> {
        let (creator, fd) = ShmLink::create(sizes, trust)?;
        Ok((creator, ShmLink::open(fd, sizes, trust)?))
    }

    fn over(memory: Memory, layout: &Layout, side: Side, pages: Pages, trust: Trust) -> Result<ShmLink, ShmError> {
        let (mine, theirs) = match side {
            Side::Creator => (0, 1),
            Side::Opener => (1, 0),
        };
        // Pairs with itself: of two that want a side, one gets it. So the ends below are the only ones of their kind.
        if memory.swap(layout.claim[mine], 1, Ordering::AcqRel) != 0 {
            return Err(refused("this side of it was taken before"));
        }
        let pages = match pages {
            Pages::Normal if layout.total >= HUGE_PAGE && shared_pages_may_be_huge() && memory.advise_huge() => {
                Pages::Transparent
            }
            other => other,
        };
        let memory = Arc::new(memory);
        Ok(ShmLink {
            producer: Producer::over(Arc::clone(&memory), layout.ring[mine]),
            consumer: Consumer::over(Arc::clone(&memory), layout.ring[theirs]),
            credit: CreditView::over(Arc::clone(&memory), layout.board[mine]),
            source: CreditSource::over(Arc::clone(&memory), layout.board[theirs]),
            sleep: SleepFlag::over(Arc::clone(&memory), layout.sleep[mine]),
            peer_sleep: SleepFlag::over(memory, layout.sleep[theirs]),
            pages,
            trust,
        })
    }

    /// Touches every page of our own ring, so that it lies on the node of the calling thread and no push meets a page fault. Before the first
    /// push.
    pub fn touch(&mut self) {
        self.producer.touch(PAGE);
    }

    /// What is behind the addresses.
    pub fn pages(&self) -> Pages {
        self.pages
    }

    /// How far the peer is believed, as it was said at the start.
    pub fn trust(&self) -> Trust {
        self.trust
    }
}

fn map(fd: BorrowedFd<'_>, bytes: usize) -> Result<Memory, ShmError> {
    Memory::map(fd, bytes).map_err(|source| ShmError::Unavailable { step: "mmap", source })
}

fn normal_pages(bytes: usize) -> Result<OwnedFd, ShmError> {
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    let fd = rustix::fs::memfd_create(c"squall-link", flags).map_err(unavailable("memfd_create"))?;
    rustix::fs::ftruncate(&fd, bytes as u64).map_err(unavailable("ftruncate"))?;
    Ok(fd)
}

/// A memfd of reserved huge pages and its size, where that suits and can be had. The pages are taken at once: later is SIGBUS, not an error.
fn reserved_pages(bytes: usize) -> Option<(OwnedFd, usize)> {
    let rounded = bytes.next_multiple_of(HUGE_PAGE);
    if rounded > 2 * bytes {
        return None;
    }
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING | MemfdFlags::HUGETLB | MemfdFlags::HUGE_2MB;
    let fd = rustix::fs::memfd_create(c"squall-link", flags).ok()?;
    rustix::fs::ftruncate(&fd, rounded as u64).ok()?;
    rustix::fs::fallocate(&fd, FallocateFlags::empty(), 0, rounded as u64).ok()?;
    Some((fd, rounded))
}

/// Kind and size of the pages of an offered file.
fn pages_of(fd: BorrowedFd<'_>) -> Result<(Pages, usize), ShmError> {
    let fs = rustix::fs::fstatfs(fd).map_err(unavailable("fstatfs"))?;
    if fs.f_type as u64 != HUGETLBFS_MAGIC {
        return Ok((Pages::Normal, PAGE));
    }
    match fs.f_bsize as usize {
        HUGE_PAGE => Ok((Pages::Reserved, HUGE_PAGE)),
        other => Err(refused(format!("its pages have {other} bytes"))),
    }
}

/// Whether the kernel gives transparent huge pages to shared memory that asks for them.
fn shared_pages_may_be_huge() -> bool {
    let setting = std::fs::read_to_string("/sys/kernel/mm/transparent_hugepage/shmem_enabled").unwrap_or_default();
    ["[always]", "[within_size]", "[advise]", "[force]"].iter().any(|chosen| setting.contains(chosen))
}

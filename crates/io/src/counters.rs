//! What a driver has done since it was made.

/// Counts since the driver was made, exact. Plain numbers: a driver lives on one thread, which exports them when it likes.
///
/// A driver copies no byte in user space: the kernel writes into the receive window and reads from the caller's buffers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct IoCounters {
    /// System calls made, doorbell reads and those of adding and closing streams included, [`Bell::ring`](crate::Bell::ring) by others not.
    pub syscalls: u64,
    /// Send operations that took bytes. Several buffers leave in one.
    pub sends: u64,
    /// Send operations that took less than they were given: the peer is slower than we are.
    pub sends_short: u64,
    /// Buffers that left as a whole: `buffers_out ÷ sends` is how many leave together.
    pub buffers_out: u64,
    /// Send operations that asked the kernel not to copy (io_uring, see [`ZeroCopy`](crate::ZeroCopy)); also in `sends`.
    pub zc_sent: u64,
    /// Of those, how many the kernel copied after all, as its notifications say. The notification may come long after the send.
    pub zc_copied: u64,
    /// Receive operations that brought bytes.
    pub recvs: u64,
    /// Times a receive stopped because the stream's window was full; it goes on once the reader has consumed.
    pub recvs_starved: u64,
    /// Pieces of windows (an eighth of one) given back to the kernel after the reader had consumed them (io_uring's incremental buffers).
    pub chunks_recycled: u64,
    /// Bytes received.
    pub bytes_in: u64,
    /// Bytes the kernel took from us.
    pub bytes_out: u64,
    /// Times [`Driver::wait`](crate::Driver::wait) slept and was woken by an event or the doorbell; timeouts are not counted.
    pub wakeups: u64,
    /// Doorbell signals seen; rings close together are seen as one.
    pub bells: u64,
}

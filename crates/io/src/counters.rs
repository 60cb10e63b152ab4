//! What a driver has done since it was made.

/// Counts since the driver was made, exact. Plain numbers: a driver lives on one thread, which exports them when it likes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct IoCounters {
    /// System calls made, doorbell reads included, [`Bell::ring`](crate::Bell::ring) by others not.
    pub syscalls: u64,
    /// Send operations that took bytes. Several buffers leave in one.
    pub sends: u64,
    /// Send operations that took less than they were given: the peer is slower than we are.
    pub sends_short: u64,
    /// Zero-copy sends that completed. The drivers count those they make: today none.
    pub zc_sent: u64,
    /// Of those: copied by the kernel after all, as it reported.
    pub zc_copied: u64,
    /// Receive operations that brought bytes.
    pub recvs: u64,
    /// Times a receive found every receive buffer in use (io_uring only); it goes on by itself.
    pub recvs_starved: u64,
    /// Bytes received.
    pub bytes_in: u64,
    /// Bytes the kernel took from us.
    pub bytes_out: u64,
    /// Times [`Driver::wait`](crate::Driver::wait) slept and was woken by an event or the doorbell; timeouts are not counted.
    pub wakeups: u64,
    /// Doorbell signals seen; rings close together are seen as one.
    pub bells: u64,
}

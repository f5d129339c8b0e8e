//! The options that `copy` and `send_file` have in common.

/// The common builder methods of `CopyOptions` and `SendFileOptions`, which both hold a `plan`,
/// `bounds` and a `control`.
macro_rules! one_way_options {
    () => {
        /// First byte to read when the source is a file. The position of the file then stays as it
        /// is. Default: the current position, which advances by the bytes delivered.
        #[must_use]
        pub fn start(mut self, byte: u64) -> Self {
            self.plan.start = Some(byte);
            self
        }

        /// Whether the destination is shut down for writing when done. Default `false`.
        #[must_use]
        pub fn end_destination(mut self, end: bool) -> Self {
            self.plan.pass_end_on = end;
            self
        }

        /// With `false`, all bytes are copied through a buffer in user space, and no pipe is used, so
        /// that later changes of a source file cannot alter the bytes that were sent. Default `true`.
        #[must_use]
        pub fn zero_copy(mut self, zero_copy: bool) -> Self {
            self.plan.copy_only = !zero_copy;
            self
        }

        /// Whether the peer of the destination knows how many bytes to expect, as with a
        /// `Content-Length`. If a call hangs when the transfer ends, such a connection is ended, and
        /// any other one is reset, so that a truncated stream never looks complete. Default `false`.
        #[must_use]
        pub fn framed(mut self, framed: bool) -> Self {
            self.plan.framed = framed;
            self
        }

        /// Wanted capacity of the kernel pipe in bytes, rounded and capped by the kernel.
        #[must_use]
        pub fn pipe_size(mut self, bytes: usize) -> Self {
            // The kernel rounds up to a page, so 1 byte stands for 0.
            self.plan.pipe_size = std::num::NonZeroUsize::new(bytes.max(1));
            self
        }

        /// Limits the bytes per second. The transfer waits before it reads, so that backpressure
        /// reaches the sender.
        #[must_use]
        pub fn rate_limit(mut self, limiter: crate::RateLimiter) -> Self {
            self.bounds.limiter = Some(limiter);
            self
        }

        /// Longest time without one byte moved, after which the transfer fails with
        /// [`Reason::IdleTimeout`](crate::Reason::IdleTimeout). Waiting for a limiter does not
        /// count.
        #[must_use]
        pub fn idle_timeout(mut self, limit: std::time::Duration) -> Self {
            self.bounds.idle_timeout = Some(limit);
            self
        }

        /// The handle to watch and abort the transfer.
        #[must_use]
        pub fn control(mut self, control: crate::Control) -> Self {
            self.control = control;
            self
        }
    };
}

pub(crate) use one_way_options;

//! Descriptors that JavaScript passes as numbers.

use std::os::fd::BorrowedFd;

/// Borrows the descriptor of a number for one call of `work`. Negative numbers stand for no
/// descriptor, and give `None`.
pub(crate) fn with_descriptor<T>(number: i32, work: impl FnOnce(BorrowedFd<'_>) -> T) -> Option<T> {
    if number < 0 {
        return None;
    }
    #[allow(
        unsafe_code,
        reason = "a descriptor crosses from JavaScript as a number"
    )]
    // SAFETY: the owner in JavaScript has to keep the descriptor open during this call. Its own
    // thread cannot close it meanwhile, but another worker thread can, and so can an `fs.close` that
    // already runs on libuv's thread pool. The number is then closed or refers to another file, as
    // for every call of Node on a number. Memory stays safe, because `work` only passes the number
    // to system calls, and a closed one gives EBADF.
    let descriptor = unsafe { BorrowedFd::borrow_raw(number) };
    Some(work(descriptor))
}

//! Descriptors that cross from JavaScript as numbers.

use std::os::fd::BorrowedFd;

/// Lends a descriptor to one piece of work; nothing is done with a number that can be none.
pub(crate) fn with_descriptor<T>(number: i32, work: impl FnOnce(BorrowedFd<'_>) -> T) -> Option<T> {
    if number < 0 {
        return None;
    }
    #[allow(
        unsafe_code,
        reason = "a descriptor crosses from JavaScript as a number"
    )]
    // SAFETY: it is borrowed for the length of `work` only; JavaScript, which could close it
    // meanwhile, does not run. A number that is not open gives EBADF.
    let descriptor = unsafe { BorrowedFd::borrow_raw(number) };
    Some(work(descriptor))
}

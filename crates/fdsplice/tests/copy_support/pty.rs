//! Pseudo-terminals for the tests of copies.

use std::ffi::{c_int, c_uint};
use std::os::fd::{AsFd, OwnedFd};
use std::thread;
use std::time::{Duration, Instant};

use rustix::fs::{Mode, OFlags, open};
use rustix::io::{Errno, ioctl_fionread};
use rustix::ioctl::{Getter, Opcode, Setter, ioctl};
use rustix::termios::{OptionalActions, tcgetattr, tcsetattr};

/// `TIOCSPTLCK` and `TIOCGPTN` (`ioctl_tty(2)`).
const UNLOCK: Opcode = 0x4004_5431;
const NUMBER: Opcode = 0x8004_5430;

/// A master and its terminal in raw mode, which passes all bytes unchanged. Both block.
pub(crate) fn pair() -> (OwnedFd, OwnedFd) {
    let (master, terminal) = cooked();
    let mut settings = tcgetattr(&terminal).expect("settings");
    settings.make_raw();
    tcsetattr(&terminal, OptionalActions::Now, &settings).expect("settings");
    (master, terminal)
}

/// A master and its terminal in line mode with echo.
pub(crate) fn cooked() -> (OwnedFd, OwnedFd) {
    let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC;
    let master = open("/dev/ptmx", flags, Mode::empty()).expect("a pseudo-terminal");
    let number = unlocked(&master).expect("its number");
    let terminal = open(format!("/dev/pts/{number}"), flags, Mode::empty()).expect("a terminal");
    (master, terminal)
}

/// Waits until a master holds no unread bytes. Closing its terminal earlier may lose bytes that the
/// kernel has accepted (seen on Linux 6.18: some KiB, in 1 of 300 tries, also with plain writes and
/// reads of another program).
pub(crate) fn drained(master: &OwnedFd) {
    const QUIET: Duration = Duration::from_millis(20);
    let deadline = Instant::now() + super::PROMPT;
    let mut since = Instant::now();
    while since.elapsed() < QUIET && Instant::now() < deadline {
        if ioctl_fionread(master).expect("a count") > 0 {
            since = Instant::now();
        }
        thread::sleep(Duration::from_millis(2));
    }
}

#[allow(
    unsafe_code,
    reason = "no safe call without a further feature of rustix"
)]
fn unlocked(master: &OwnedFd) -> Result<c_uint, Errno> {
    // SAFETY: one call reads an int at the given address, the other one stores an int there.
    unsafe {
        ioctl(master.as_fd(), Setter::<UNLOCK, c_int>::new(0))?;
        ioctl(master.as_fd(), Getter::<NUMBER, c_uint>::new())
    }
}

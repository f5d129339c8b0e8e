//! A descriptor of a transfer, and its status. Neither closing one nor querying the status waits for
//! the server of a file system that may stop answering (FUSE, NFS).

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{AtFlags, FileType, StatxFlags, fstat, major, makedev, statx};
use rustix::io::Errno;

use crate::threads::{self, Running};

/// What a descriptor refers to.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Status {
    pub(crate) file_type: FileType,
    /// The device of its file system, and its inode.
    pub(crate) identity: (u64, u64),
    /// The device that a device file stands for.
    pub(crate) device: u64,
}

impl Status {
    /// `fstat` asks the server of a network file system. The type and the identity of a file never
    /// change, so what the kernel knows already is right.
    pub(crate) fn of(fd: impl AsFd) -> Result<Self, Errno> {
        let fd = fd.as_fd();
        let flags = AtFlags::EMPTY_PATH | AtFlags::STATX_DONT_SYNC;
        let wanted = StatxFlags::TYPE | StatxFlags::INO;
        match statx(fd, c"", flags, wanted) {
            Ok(found) => Ok(Self {
                file_type: FileType::from_raw_mode(found.stx_mode.into()),
                identity: (
                    makedev(found.stx_dev_major, found.stx_dev_minor),
                    found.stx_ino,
                ),
                device: makedev(found.stx_rdev_major, found.stx_rdev_minor),
            }),
            Err(errno @ (Errno::BADF | Errno::IO | Errno::NOMEM)) => Err(errno),
            // An older kernel, or a seccomp filter of a container.
            Err(_) => fstat(fd).map(|found| Self {
                file_type: FileType::from_raw_mode(found.st_mode),
                identity: (found.st_dev, found.st_ino),
                device: found.st_rdev,
            }),
        }
    }
}

/// The size of a file as the kernel knows it, without asking a server.
pub(crate) fn known_size(fd: impl AsFd) -> Result<u64, Errno> {
    let fd = fd.as_fd();
    let flags = AtFlags::EMPTY_PATH | AtFlags::STATX_DONT_SYNC;
    match statx(fd, c"", flags, StatxFlags::SIZE) {
        Ok(found) => Ok(found.stx_size),
        Err(errno @ (Errno::BADF | Errno::IO | Errno::NOMEM)) => Err(errno),
        // An older kernel, or a seccomp filter of a container.
        Err(_) => fstat(fd).map(|found| u64::try_from(found.st_size).unwrap_or(0)),
    }
}

/// An owned descriptor.
#[derive(Debug)]
pub(crate) struct Descriptor {
    /// `None` only after its owner has taken it, and while the value is dropped.
    fd: Option<OwnedFd>,
    /// The device of a file system on which `close(2)` may block; otherwise 0.
    blocks_on: u64,
}

impl Descriptor {
    /// A descriptor on which `close` does not block: of a socket, a pipe or a local device.
    pub(crate) fn local(fd: OwnedFd) -> Self {
        Self {
            fd: Some(fd),
            blocks_on: 0,
        }
    }

    /// A descriptor of any kind. File systems with a server have no block device below them, so
    /// their device has the major number 0. Other file systems have that too, such as tmpfs and
    /// overlayfs; closing their files elsewhere only costs time.
    pub(crate) fn new(fd: OwnedFd, status: &Status) -> Self {
        let (device, _) = status.identity;
        let blocks = status.file_type == FileType::RegularFile && major(device) == 0;
        Self {
            fd: Some(fd),
            blocks_on: if blocks { device } else { 0 },
        }
    }

    /// The slot, for an owner that takes the descriptor out.
    pub(super) fn slot(&mut self) -> &mut Option<OwnedFd> {
        &mut self.fd
    }

    /// Closes it. Returns the call if that may block.
    pub(crate) fn close(mut self) -> Option<Running<()>> {
        let fd = self.fd.take()?;
        if self.is_remote() {
            threads::close(fd, self.blocks_on)
        } else {
            None
        }
    }

    /// Whether calls on it may wait for a server.
    pub(crate) fn is_remote(&self) -> bool {
        self.blocks_on != 0
    }
}

impl AsFd for Descriptor {
    fn as_fd(&self) -> BorrowedFd<'_> {
        let fd = self.fd.as_ref();
        fd.expect("a descriptor is open until it is dropped")
            .as_fd()
    }
}

impl Drop for Descriptor {
    fn drop(&mut self) {
        if let Some(fd) = self.fd.take()
            && self.blocks_on != 0
        {
            threads::close_detached(fd, self.blocks_on);
        }
    }
}

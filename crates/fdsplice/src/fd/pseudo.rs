//! File systems whose files have sizes that say nothing about their contents: those of the kernel, which
//! make the contents when they are read, and FUSE servers that ask for direct I/O. Such files are read
//! to their end.

use std::os::fd::BorrowedFd;

use rustix::fs::{Stat, fstatfs, major};
use rustix::io::Errno;
use rustix::mm::{MapFlags, ProtFlags, mmap, munmap};

/// The types of these file systems (`statfs(2)`, `linux/magic.h`).
const TYPES: [u32; 24] = [
    0x0000_9fa0, // procfs
    0x6265_6572, // sysfs
    0x0027_e0eb, // cgroup
    0x6367_7270, // cgroup2
    0x6462_6720, // debugfs
    0x7472_6163, // tracefs
    0x7363_6673, // securityfs
    0xf97c_ff8c, // selinuxfs
    0x4341_5d53, // smackfs
    0x5a3c_69f0, // apparmorfs
    0xcafe_4a11, // bpffs
    0x6265_6570, // configfs
    0xde5e_81e4, // efivarfs
    0x6165_676c, // pstore
    0x4249_4e4d, // binfmt_misc
    0x0765_5821, // resctrl
    0x6573_5543, // fusectl
    0x6e73_6673, // nsfs
    0x0000_1cd1, // devpts
    0x1980_0202, // mqueue
    0x6759_6969, // rpc_pipefs
    0x6e66_7364, // nfsd
    0xabba_1974, // xenfs
    0x0000_9fa1, // openpromfs
];

const FUSE: u32 = 0x6573_5546;

/// The size of the contents of a regular file; 0 if it is not known, as for files of procfs and sysfs,
/// whatever size they report.
pub(crate) fn true_size_of(file: BorrowedFd<'_>, stat: &Stat) -> u64 {
    let size = u64::try_from(stat.st_size).unwrap_or(0);
    if size == 0 || has_true_size(file, stat) {
        size
    } else {
        0
    }
}

/// Whether the size of a file is that of its contents.
fn has_true_size(file: BorrowedFd<'_>, stat: &Stat) -> bool {
    // None of these file systems is on a device, and most regular files are: no call for those.
    #[allow(
        clippy::useless_conversion,
        reason = "the integer depends on the platform"
    )]
    if major(stat.st_dev.into()) != 0 {
        return true;
    }
    let Ok(found) = fstatfs(file) else {
        return true;
    };
    #[allow(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::unnecessary_cast,
        reason = "types have 32 bits; the integer depends on the platform"
    )]
    let kind = found.f_type as u32;
    if kind == FUSE {
        is_cached(file)
    } else {
        !TYPES.contains(&kind)
    }
}

/// Whether the kernel caches the file by its size. With direct I/O (`FOPEN_DIRECT_IO`), FUSE reads what
/// its server returns, and refuses a shared mapping with `ENODEV` (`fuse_file_mmap` in `fs/fuse/file.c`).
/// The server is not asked, which a read would do.
#[allow(unsafe_code, reason = "rustix has no safe call for mmap")]
fn is_cached(file: BorrowedFd<'_>) -> bool {
    const LENGTH: usize = 1;
    // SAFETY: the kernel chooses the address of a new mapping. Nothing refers to it, and it is removed
    // at once.
    unsafe {
        match mmap(
            std::ptr::null_mut(),
            LENGTH,
            ProtFlags::READ,
            MapFlags::SHARED,
            file,
            0,
        ) {
            Ok(mapping) => {
                let _ = munmap(mapping, LENGTH);
                true
            }
            Err(errno) => errno != Errno::NODEV,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::os::fd::AsFd;

    use rustix::fs::fstat;

    use super::*;

    fn trusted(path: &str) -> bool {
        let file = File::open(path).expect("the file exists");
        has_true_size(file.as_fd(), &fstat(&file).expect("fstat works"))
    }

    const SYSFS: &str = "/sys/kernel/mm/transparent_hugepage/enabled";

    #[test]
    fn sizes_of_files_that_the_kernel_makes_are_not_trusted() {
        assert!(!trusted("/proc/version"));
        if std::path::Path::new(SYSFS).exists() {
            assert!(!trusted(SYSFS));
        }
        assert!(trusted("Cargo.toml"));
    }

    #[test]
    fn a_file_without_a_page_cache_cannot_be_mapped() {
        let file = rustix::fs::memfd_create("size", rustix::fs::MemfdFlags::CLOEXEC)
            .expect("memfd_create works");
        assert!(has_true_size(
            file.as_fd(),
            &fstat(&file).expect("fstat works")
        ));
        assert!(is_cached(file.as_fd()));
        if let Ok(file) = File::open(SYSFS) {
            assert!(!is_cached(file.as_fd()));
        }
    }
}

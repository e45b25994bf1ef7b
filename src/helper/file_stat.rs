//! What is known of a file, whichever process has looked.

use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;

/// The part of stat(2) that is used, with links followed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileStat {
    /// Type and permissions, as in stat(2).
    pub mode: u32,
    /// The path itself is a symbolic link.
    pub is_link: bool,
    /// The number of hard links.
    pub links: u64,
    /// The inode's number.
    pub inode: u64,
    /// Bytes.
    pub size: u64,
    /// Seconds since 1970 of the last modification.
    pub mtime: i64,
    /// Nanoseconds of the last modification.
    pub mtime_nanos: i64,
}

impl FileStat {
    /// Of what was found at the end of the links.
    #[must_use]
    pub fn new(meta: &Metadata, is_link: bool) -> FileStat {
        FileStat {
            mode: meta.mode(),
            is_link,
            links: meta.nlink(),
            inode: meta.ino(),
            size: meta.size(),
            mtime: meta.mtime(),
            mtime_nanos: meta.mtime_nsec(),
        }
    }

    /// True for a regular file.
    #[must_use]
    pub fn is_file(&self) -> bool {
        self.mode & 0o170_000 == 0o100_000
    }

    /// True for a directory.
    #[must_use]
    pub fn is_dir(&self) -> bool {
        self.mode & 0o170_000 == 0o040_000
    }
}

/// Types of file systems (statfs(2), `f_type`) whose calls wait for a device of this machine at most: not for a server, and
/// not for another process as FUSE does.
const LOCAL: &[u32] = &[
    0xef53,      // ext2, ext3, ext4
    0x5846_5342, // xfs
    0x9123_683e, // btrfs
    0xf2f5_2010, // f2fs
    0x0102_1994, // tmpfs
    0x8584_58f6, // ramfs
    0x794c_7630, // overlayfs
    0x2405_1905, // ubifs
    0x72b6,      // jffs2
    0x4d44,      // vfat
    0x2011_bab0, // exfat
    0x7366_746e, // ntfs3
    0x2fc1_2fc1, // zfs
    0xca45_1a4e, // bcachefs
    0x7371_7368, // squashfs
    0xe0f5_e1e2, // erofs
    0x3153_464a, // jfs
    0x5265_4973, // reiserfs
    0x3434,      // nilfs2
    0x9660,      // iso9660
    0x1501_3346, // udf
];

/// True if calls on this type of file system can't hang.
#[must_use]
pub fn is_local(f_type: u32) -> bool {
    LOCAL.contains(&f_type)
}

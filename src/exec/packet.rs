//! Packets between two processes of firelink, with descriptors in them (unix(7), `SOCK_SEQPACKET` and `SCM_RIGHTS`).

use std::io::{self, IoSlice, IoSliceMut};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use nix::errno::Errno;
use nix::libc;
use nix::sys::inotify::AddWatchFlags;
use nix::sys::socket::{
    AddressFamily, ControlMessage, ControlMessageOwned, MsgFlags, SockFlag, SockType, recvmsg, sendmsg, socketpair,
};

/// The most bytes of a packet. The kernel's default send buffer (`net.core.wmem_default`, 208 KiB) holds a few of them.
pub const MAX_PACKET: usize = 48 * 1024;

/// Two sockets that are connected with each other; close-on-exec.
///
/// # Errors
/// The error of socketpair(2).
pub fn packet_pair() -> io::Result<(OwnedFd, OwnedFd)> {
    Ok(socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::SOCK_CLOEXEC)?)
}

/// Sends a packet of at most [`MAX_PACKET`] bytes, with at most one descriptor. It has one byte at least: none is the end.
///
/// # Errors
/// The error of sendmsg(2): `EPIPE` when the other process has closed its socket.
pub fn send_packet(socket: BorrowedFd<'_>, bytes: &[u8], fd: Option<BorrowedFd<'_>>) -> io::Result<()> {
    debug_assert!(!bytes.is_empty() && bytes.len() <= MAX_PACKET, "{} bytes", bytes.len());
    let fds: Vec<RawFd> = fd.iter().map(AsRawFd::as_raw_fd).collect();
    let rights = [ControlMessage::ScmRights(&fds)];
    let rights = if fds.is_empty() { &rights[..0] } else { &rights[..] };
    loop {
        match sendmsg::<()>(socket.as_raw_fd(), &[IoSlice::new(bytes)], rights, MsgFlags::MSG_NOSIGNAL, None) {
            Ok(_) => return Ok(()),
            Err(Errno::EINTR) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
}

/// Receives a packet, and the descriptor in it; `None` when the other process has closed its socket.
///
/// # Errors
/// The error of recvmsg(2): `EAGAIN` when the socket is non-blocking and empty.
pub fn receive_packet(socket: BorrowedFd<'_>) -> io::Result<Option<(Vec<u8>, Option<OwnedFd>)>> {
    let mut bytes = vec![0; MAX_PACKET];
    let mut space = nix::cmsg_space!(RawFd);
    let mut slices = [IoSliceMut::new(&mut bytes)];
    let flags = MsgFlags::MSG_CMSG_CLOEXEC;
    let (length, fd) = loop {
        match recvmsg::<()>(socket.as_raw_fd(), &mut slices, Some(&mut space), flags) {
            Ok(message) => {
                let rights = message.cmsgs()?.find_map(|message| match message {
                    ControlMessageOwned::ScmRights(fds) => fds.first().copied(),
                    _ => None,
                });
                // SAFETY: the kernel has just made this descriptor for us, nobody else knows it, and there is room for one.
                break (message.bytes, rights.map(|fd| unsafe { OwnedFd::from_raw_fd(fd) }));
            }
            Err(Errno::EINTR) => {}
            Err(errno) => return Err(errno.into()),
        }
    };
    bytes.truncate(length);
    Ok((length > 0).then_some((bytes, fd)))
}

/// Adds a watch to the inotify instance of another process, and returns its descriptor (inotify_add_watch(2)).
///
/// # Errors
/// The error of inotify_add_watch(2).
pub fn add_watch(inotify: BorrowedFd<'_>, path: &std::path::Path, mask: AddWatchFlags) -> io::Result<i32> {
    use nix::NixPath;
    let watch = path.with_nix_path(|path| {
        // SAFETY: the descriptor is borrowed and so open; the string ends with a NUL and lives until the call returns.
        unsafe { libc::inotify_add_watch(inotify.as_raw_fd(), path.as_ptr(), mask.bits()) }
    })?;
    Ok(Errno::result(watch)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};
    use std::os::fd::AsFd;

    #[test]
    fn a_packet_comes_whole_with_its_descriptor_and_the_end_is_seen() {
        let (here, there) = packet_pair().unwrap();
        let (mut read, write) = std::io::pipe().unwrap();
        send_packet(here.as_fd(), b"first", Some(write.as_fd())).unwrap();
        send_packet(here.as_fd(), &[7; MAX_PACKET], None).unwrap();
        drop((here, write));
        let (bytes, fd) = receive_packet(there.as_fd()).unwrap().unwrap();
        assert_eq!(bytes, b"first");
        std::fs::File::from(fd.unwrap()).write_all(b"through it").unwrap();
        let mut text = String::new();
        read.read_to_string(&mut text).unwrap();
        assert_eq!(text, "through it");
        let (bytes, fd) = receive_packet(there.as_fd()).unwrap().unwrap();
        assert_eq!((bytes, fd.is_none()), (vec![7; MAX_PACKET], true));
        assert!(receive_packet(there.as_fd()).unwrap().is_none());
    }
}

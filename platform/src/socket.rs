//! One system call a function: what every backend and the tests need of sockets. No policy, no retries but for EINTR.

#![expect(unsafe_code, reason = "the system calls take pointers; each block passes memory that outlives its call")]

use std::io;
use std::mem;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6, TcpListener};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

/// Connections that wait to be accepted. The kernel takes the smaller of this and `net.core.somaxconn`.
pub const BACKLOG: i32 = 2048;

cfg_if::cfg_if! {
    if #[cfg(target_os = "macos")] {
        /// No `MSG_NOSIGNAL` here, and `MSG_DONTWAIT` counts for receiving only: see `prepare`.
        const SEND_FLAGS: i32 = libc::MSG_DONTWAIT;
    } else {
        const SEND_FLAGS: i32 = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;
    }
}

/// Names a descriptor that somebody else keeps open; the contract's `listen` and `watch` ask that of their caller.
#[must_use]
pub(crate) fn borrow<'a>(descriptor: RawFd) -> BorrowedFd<'a> {
    // SAFETY: it is not -1, as it came from an open descriptor. Should its owner have closed it against the contract, a
    // system call on it fails, or reaches another file of this process: wrong, but no memory is touched through it.
    unsafe { BorrowedFd::borrow_raw(descriptor) }
}

/// A negative result is `errno`; anything else is a count or a descriptor.
fn check(result: i32) -> io::Result<i32> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

/// As [`check`], for calls that return a number of bytes.
fn check_bytes(result: isize) -> io::Result<usize> {
    usize::try_from(result).map_err(|_| io::Error::last_os_error())
}

/// Reads what is there without waiting; 0 is the peer's end. The descriptor need not be non-blocking.
pub fn receive(socket: BorrowedFd<'_>, into: &mut [u8]) -> io::Result<usize> {
    loop {
        // SAFETY: `into` is writable for its whole length, and the kernel keeps nothing after the call.
        let result =
            unsafe { libc::recv(socket.as_raw_fd(), into.as_mut_ptr().cast(), into.len(), libc::MSG_DONTWAIT) };
        match check_bytes(result) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            other => return other,
        }
    }
}

/// Bytes that the peer of a TCP socket has acknowledged; none where the kernel does not tell.
#[cfg(target_os = "linux")]
#[must_use]
pub fn acknowledged(socket: BorrowedFd<'_>) -> Option<u64> {
    /// The kernel's `struct tcp_info` up to `tcpi_bytes_acked`, which is there since Linux 4.1. The one of `libc` ends before it.
    #[repr(C)]
    struct TcpInfo {
        before: [u8; 120],
        bytes_acked: u64,
    }
    let mut information = TcpInfo { before: [0; 120], bytes_acked: 0 };
    let mut length = libc::socklen_t::try_from(size_of::<TcpInfo>()).ok()?;
    let into = (&raw mut information).cast();
    // SAFETY: the kernel writes at most `length` bytes, which are there and may have any value, and says how many it wrote.
    let result =
        unsafe { libc::getsockopt(socket.as_raw_fd(), libc::IPPROTO_TCP, libc::TCP_INFO, into, &raw mut length) };
    (result == 0 && length as usize == size_of::<TcpInfo>()).then_some(information.bytes_acked)
}

/// Bytes that the peer of a TCP socket has acknowledged: the kernel does not tell.
#[cfg(not(target_os = "linux"))]
#[must_use]
pub const fn acknowledged(_socket: BorrowedFd<'_>) -> Option<u64> {
    None
}

/// Sends what fits of both parts, in order, without waiting and without SIGPIPE.
pub fn send(socket: BorrowedFd<'_>, head: &[u8], body: &[u8]) -> io::Result<usize> {
    let descriptor = socket.as_raw_fd();
    loop {
        let result = if body.is_empty() || head.is_empty() {
            let only = if head.is_empty() { body } else { head };
            // SAFETY: `only` is readable for its whole length, and the kernel has copied it when the call returns.
            unsafe { libc::send(descriptor, only.as_ptr().cast(), only.len(), SEND_FLAGS) }
        } else {
            let mut parts =
                [head, body].map(|part| libc::iovec { iov_base: part.as_ptr().cast_mut().cast(), iov_len: part.len() });
            // SAFETY: all zero is a valid msghdr: no name, no parts, no control data.
            let mut message: libc::msghdr = unsafe { mem::zeroed() };
            message.msg_iov = parts.as_mut_ptr();
            message.msg_iovlen = 2;
            // SAFETY: `message` points to two parts that live until the call returns; sendmsg only reads them.
            unsafe { libc::sendmsg(descriptor, &raw const message, SEND_FLAGS) }
        };
        match check_bytes(result) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            other => return other,
        }
    }
}

/// Takes the next connection of a backlog: close-on-exec, non-blocking, with its peer's address. EINTR is the caller's.
pub fn accept(listener: BorrowedFd<'_>) -> io::Result<(OwnedFd, Option<SocketAddr>)> {
    // SAFETY: all zero is a valid sockaddr_storage, of family "unspecified".
    let mut address: libc::sockaddr_storage = unsafe { mem::zeroed() };
    let mut address_bytes = mem::size_of::<libc::sockaddr_storage>() as libc::socklen_t;
    let (name, name_bytes) = ((&raw mut address).cast::<libc::sockaddr>(), &raw mut address_bytes);
    cfg_if::cfg_if! {
        if #[cfg(target_os = "macos")] {
            // SAFETY: `name` has room for any address, and `name_bytes` says so.
            let accepted = check(unsafe { libc::accept(listener.as_raw_fd(), name, name_bytes) })?;
            // SAFETY: the call has just returned this descriptor, and nobody else knows it.
            let socket = unsafe { OwnedFd::from_raw_fd(accepted) };
            set_close_on_exec_and_non_blocking(&socket)?;
            // Not known to be inherited from the listener here. A Unix socket refuses it, and so does one that was reset
            // already, which must not look like a failure of the listener.
            let _ = set_no_delay(socket.as_fd());
        } else {
            let flags = libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC;
            // SAFETY: `name` has room for any address, and `name_bytes` says so.
            let accepted = check(unsafe { libc::accept4(listener.as_raw_fd(), name, name_bytes, flags) })?;
            // SAFETY: the call has just returned this descriptor, and nobody else knows it.
            let socket = unsafe { OwnedFd::from_raw_fd(accepted) };
        }
    }
    Ok((socket, internet_address(&address)))
}

/// This end of a connection; none for a Unix socket.
#[must_use]
pub fn local_address(socket: BorrowedFd<'_>) -> Option<SocketAddr> {
    // SAFETY: all zero is a valid sockaddr_storage, of family "unspecified".
    let mut address: libc::sockaddr_storage = unsafe { mem::zeroed() };
    let mut address_bytes = mem::size_of::<libc::sockaddr_storage>() as libc::socklen_t;
    let name = (&raw mut address).cast::<libc::sockaddr>();
    // SAFETY: `name` has room for any address, and `address_bytes` says so.
    check(unsafe { libc::getsockname(socket.as_raw_fd(), name, &raw mut address_bytes) }).ok()?;
    internet_address(&address)
}

/// Makes [`send`] keep its word on a socket of any origin. Elsewhere the flags of each send do that.
#[cfg(target_os = "macos")]
pub(crate) fn prepare(socket: BorrowedFd<'_>) -> io::Result<()> {
    // xnu, bsd/kern/uipc_socket.c, sosendcheck: only a non-blocking socket sends without waiting.
    set_non_blocking(socket)?;
    // One that both ends have closed refuses it, but may have bytes to read. Nor does the signal end a process that Rust or
    // CPython has started: both ignore it.
    let _ = set_option(socket, libc::SOL_SOCKET, libc::SO_NOSIGPIPE, &1i32);
    Ok(())
}

/// macOS has no `accept4`: a fork in another thread between the two calls hands the descriptor on to what it executes.
#[cfg(target_os = "macos")]
fn set_close_on_exec_and_non_blocking(socket: &OwnedFd) -> io::Result<()> {
    // SAFETY: fcntl with these commands takes an integer and touches no memory.
    check(unsafe { libc::fcntl(socket.as_raw_fd(), libc::F_SETFD, libc::FD_CLOEXEC) })?;
    // SAFETY: as above.
    check(unsafe { libc::fcntl(socket.as_raw_fd(), libc::F_SETFL, libc::O_NONBLOCK) })?;
    Ok(())
}

/// An internet address, or none for any other family.
fn internet_address(address: &libc::sockaddr_storage) -> Option<SocketAddr> {
    match i32::from(address.ss_family) {
        libc::AF_INET => {
            // SAFETY: the family says that the kernel wrote a sockaddr_in, and the storage is aligned for it.
            let v4 = unsafe { &*(&raw const *address).cast::<libc::sockaddr_in>() };
            let ip = Ipv4Addr::from(u32::from_be(v4.sin_addr.s_addr));
            Some(SocketAddr::V4(SocketAddrV4::new(ip, u16::from_be(v4.sin_port))))
        }
        libc::AF_INET6 => {
            // SAFETY: the family says that the kernel wrote a sockaddr_in6, and the storage is aligned for it.
            let v6 = unsafe { &*(&raw const *address).cast::<libc::sockaddr_in6>() };
            let ip = Ipv6Addr::from(v6.sin6_addr.s6_addr);
            Some(SocketAddr::V6(SocketAddrV6::new(ip, u16::from_be(v6.sin6_port), v6.sin6_flowinfo, v6.sin6_scope_id)))
        }
        _ => None,
    }
}

/// Sets an option whose value is a plain C struct or integer.
fn set_option<T>(socket: BorrowedFd<'_>, level: i32, name: i32, value: &T) -> io::Result<()> {
    let bytes = mem::size_of::<T>() as libc::socklen_t;
    // SAFETY: `value` is readable for `bytes`; the kernel copies it.
    check(unsafe { libc::setsockopt(socket.as_raw_fd(), level, name, (&raw const *value).cast(), bytes) }).map(drop)
}

/// Sends small answers at once. On Linux a listener hands this on to what it accepts.
pub fn set_no_delay(socket: BorrowedFd<'_>) -> io::Result<()> {
    set_option(socket, libc::IPPROTO_TCP, libc::TCP_NODELAY, &1i32)
}

/// Has `accept` say EAGAIN instead of waiting. Shared by all who hold the socket.
pub fn set_non_blocking(socket: BorrowedFd<'_>) -> io::Result<()> {
    // SAFETY: fcntl with these commands takes an integer and touches no memory.
    let flags = check(unsafe { libc::fcntl(socket.as_raw_fd(), libc::F_GETFL) })?;
    // SAFETY: as above.
    check(unsafe { libc::fcntl(socket.as_raw_fd(), libc::F_SETFL, flags | libc::O_NONBLOCK) }).map(drop)
}

/// Makes the coming close a reset: what was not sent is thrown away, and the peer is told.
pub fn set_reset_on_close(socket: BorrowedFd<'_>) -> io::Result<()> {
    set_option(socket, libc::SOL_SOCKET, libc::SO_LINGER, &libc::linger { l_onoff: 1, l_linger: 0 })
}

/// Tells the peer that nothing more will be sent.
pub fn shutdown_write(socket: BorrowedFd<'_>) -> io::Result<()> {
    // SAFETY: takes two integers.
    check(unsafe { libc::shutdown(socket.as_raw_fd(), libc::SHUT_WR) }).map(drop)
}

/// Reads no more. Who polls the socket for reading is told; the peer is not.
pub fn shutdown_read(socket: BorrowedFd<'_>) -> io::Result<()> {
    // SAFETY: takes two integers.
    check(unsafe { libc::shutdown(socket.as_raw_fd(), libc::SHUT_RD) }).map(drop)
}

/// Breaks the connection at once, by a reset where the protocol has one, and tells all who poll it. It stays open as a file.
pub fn disconnect(socket: BorrowedFd<'_>) {
    // SAFETY: all zero is a valid sockaddr, of family "unspecified": the one that dissolves a connection.
    let nobody: libc::sockaddr = unsafe { mem::zeroed() };
    let bytes = mem::size_of::<libc::sockaddr>() as libc::socklen_t;
    // SAFETY: `nobody` is readable for `bytes`.
    if unsafe { libc::connect(socket.as_raw_fd(), &raw const nobody, bytes) } < 0 {
        // A Unix socket knows no such thing.
        // SAFETY: takes two integers.
        unsafe { libc::shutdown(socket.as_raw_fd(), libc::SHUT_RDWR) };
    }
}

/// The error that waits on a socket, which is cleared by asking.
#[must_use]
pub fn take_error(socket: BorrowedFd<'_>) -> Option<io::Error> {
    let (mut code, mut bytes) = (0i32, mem::size_of::<i32>() as libc::socklen_t);
    let (value, value_bytes) = ((&raw mut code).cast(), &raw mut bytes);
    // SAFETY: `value` has room for an integer, and `value_bytes` says so.
    let result = unsafe { libc::getsockopt(socket.as_raw_fd(), libc::SOL_SOCKET, libc::SO_ERROR, value, value_bytes) };
    match check(result) {
        Err(error) => Some(error),
        Ok(_) if code != 0 => Some(io::Error::from_raw_os_error(code)),
        Ok(_) => None,
    }
}

/// Whether both directions have ended, as after a reset: an end alone is only of the peer's direction.
#[cfg(target_os = "linux")]
pub(crate) fn is_hung_up(socket: BorrowedFd<'_>) -> bool {
    let mut asked = libc::pollfd { fd: socket.as_raw_fd(), events: 0, revents: 0 };
    // SAFETY: `asked` is one entry, and lives through the call, which does not wait.
    unsafe { libc::poll(&raw mut asked, 1, 0) > 0 && asked.revents & libc::POLLHUP != 0 }
}

/// Whether an error of `accept` means that this machine has no room now: for descriptors, or for memory.
#[must_use]
pub fn is_exhaustion(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EMFILE | libc::ENFILE | libc::ENOBUFS | libc::ENOMEM))
}

/// Whether an error of `accept` belongs to the one connection that failed, so that the next may do better.
#[must_use]
pub fn is_of_one_connection(error: &io::Error) -> bool {
    // accept(2): "Linux accept() passes already-pending network errors on the new socket as an error code."
    let code = error.raw_os_error().unwrap_or(0);
    let network =
        [libc::ENETDOWN, libc::EPROTO, libc::ENOPROTOOPT, libc::EHOSTDOWN, libc::EHOSTUNREACH, libc::ENETUNREACH];
    [libc::EINTR, libc::ECONNABORTED, libc::EPERM, libc::ETIMEDOUT].contains(&code) || network.contains(&code)
}

/// A listening TCP socket that others may share the port of: close-on-exec, non-blocking, `TCP_NODELAY` for all it accepts.
pub fn listen_shared(address: SocketAddr, backlog: i32) -> io::Result<TcpListener> {
    let family = if address.is_ipv4() { libc::AF_INET } else { libc::AF_INET6 };
    cfg_if::cfg_if! {
        if #[cfg(target_os = "macos")] {
            // SAFETY: takes three integers.
            let descriptor = check(unsafe { libc::socket(family, libc::SOCK_STREAM, 0) })?;
            // SAFETY: the call has just returned this descriptor, and nobody else knows it.
            let socket = unsafe { OwnedFd::from_raw_fd(descriptor) };
            set_close_on_exec_and_non_blocking(&socket)?;
        } else {
            let kind = libc::SOCK_STREAM | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
            // SAFETY: takes three integers.
            let descriptor = check(unsafe { libc::socket(family, kind, 0) })?;
            // SAFETY: the call has just returned this descriptor, and nobody else knows it.
            let socket = unsafe { OwnedFd::from_raw_fd(descriptor) };
        }
    }
    let fd = socket.as_fd();
    set_option(fd, libc::SOL_SOCKET, libc::SO_REUSEADDR, &1i32)?;
    set_option(fd, libc::SOL_SOCKET, libc::SO_REUSEPORT, &1i32)?;
    set_no_delay(fd)?;
    bind(fd, address)?;
    // SAFETY: takes two integers.
    check(unsafe { libc::listen(fd.as_raw_fd(), backlog) })?;
    Ok(TcpListener::from(socket))
}

/// Gives a socket its local address.
fn bind(socket: BorrowedFd<'_>, address: SocketAddr) -> io::Result<()> {
    // SAFETY: all zero is a valid sockaddr_storage, of family "unspecified".
    let mut storage: libc::sockaddr_storage = unsafe { mem::zeroed() };
    let bytes = match address {
        SocketAddr::V4(v4) => {
            // SAFETY: the storage is large enough and aligned for any address family.
            let raw = unsafe { &mut *(&raw mut storage).cast::<libc::sockaddr_in>() };
            raw.sin_family = libc::AF_INET as libc::sa_family_t;
            raw.sin_port = v4.port().to_be();
            raw.sin_addr.s_addr = u32::from(*v4.ip()).to_be();
            mem::size_of::<libc::sockaddr_in>()
        }
        SocketAddr::V6(v6) => {
            // SAFETY: the storage is large enough and aligned for any address family.
            let raw = unsafe { &mut *(&raw mut storage).cast::<libc::sockaddr_in6>() };
            raw.sin6_family = libc::AF_INET6 as libc::sa_family_t;
            raw.sin6_port = v6.port().to_be();
            raw.sin6_flowinfo = v6.flowinfo();
            raw.sin6_addr.s6_addr = v6.ip().octets();
            raw.sin6_scope_id = v6.scope_id();
            mem::size_of::<libc::sockaddr_in6>()
        }
    };
    // SAFETY: `storage` holds an address of `bytes`.
    let result = unsafe { libc::bind(socket.as_raw_fd(), (&raw const storage).cast(), bytes as libc::socklen_t) };
    check(result).map(drop)
}

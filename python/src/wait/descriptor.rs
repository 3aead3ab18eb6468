//! A descriptor that event loops can watch, and that any thread can make readable.

use std::io::{self, Read, Write};

#[cfg(unix)]
use std::os::unix::net::UnixStream as Socket;

#[cfg(not(unix))]
use std::net::TcpStream as Socket;

pub struct Descriptor {
    read: Socket,
    write: Socket,
}

impl Descriptor {
    pub fn new() -> io::Result<Self> {
        let (read, write) = pair()?;
        read.set_nonblocking(true)?;
        write.set_nonblocking(true)?;
        Ok(Self { read, write })
    }

    /// Makes it readable.
    pub fn set(&self) {
        // It can only fail because it is full, and then it is readable.
        let _ = (&self.write).write(&[1]);
    }

    /// Makes it unreadable.
    pub fn clear(&self) {
        // One byte at a time is written, and only after the one before was read.
        let _ = (&self.read).read(&mut [0; 16]);
    }

    /// What event loops call it by.
    #[cfg(unix)]
    pub fn number(&self) -> i64 {
        use std::os::fd::AsRawFd;
        self.read.as_raw_fd().into()
    }

    /// What event loops call it by.
    #[cfg(windows)]
    pub fn number(&self) -> i64 {
        use std::os::windows::io::AsRawSocket;
        self.read.as_raw_socket() as i64
    }
}

#[cfg(unix)]
fn pair() -> io::Result<(Socket, Socket)> {
    Socket::pair()
}

#[cfg(not(unix))]
fn pair() -> io::Result<(Socket, Socket)> {
    let listener = std::net::TcpListener::bind(("127.0.0.1", 0))?;
    let write = Socket::connect(listener.local_addr()?)?;
    loop {
        let (read, peer) = listener.accept()?;
        // Anybody on this machine may connect to the port.
        if peer == write.local_addr()? {
            write.set_nodelay(true)?;
            return Ok((read, write));
        }
    }
}

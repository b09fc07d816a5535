//! A socket on which no read or write lasts beyond a deadline, however few bytes each brings.

use std::{
    io::{self, Read, Write},
    net::TcpStream,
    os::unix::net::UnixStream,
    time::{Duration, Instant},
};

/// A socket with a deadline.
pub(super) struct Bounded<S> {
    pub(super) stream: S,
    pub(super) deadline: Instant,
}

/// A socket whose reads and writes can be limited in time.
pub(super) trait Socket: Read + Write {
    fn limit(&self, limit: Duration) -> io::Result<()>;
}

impl Socket for TcpStream {
    fn limit(&self, limit: Duration) -> io::Result<()> {
        self.set_read_timeout(Some(limit))?;
        self.set_write_timeout(Some(limit))
    }
}

impl Socket for UnixStream {
    fn limit(&self, limit: Duration) -> io::Result<()> {
        self.set_read_timeout(Some(limit))?;
        self.set_write_timeout(Some(limit))
    }
}

impl<S: Socket> Bounded<S> {
    /// Does a read or write within the time that is left.
    fn within<T>(&mut self, work: impl FnOnce(&mut S) -> io::Result<T>) -> io::Result<T> {
        let left = self.deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(io::ErrorKind::TimedOut.into());
        }
        self.stream.limit(left)?;
        work(&mut self.stream).map_err(in_time)
    }
}

impl<S: Socket> Read for Bounded<S> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.within(|stream| stream.read(buffer))
    }
}

impl<S: Socket> Write for Bounded<S> {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        self.within(|stream| stream.write(buffer))
    }

    fn flush(&mut self) -> io::Result<()> {
        self.stream.flush()
    }
}

/// Reports a timeout of the socket as such. It arrives as `WouldBlock`, which libraries treat as a
/// socket to try again.
fn in_time(error: io::Error) -> io::Error {
    if error.kind() == io::ErrorKind::WouldBlock { io::ErrorKind::TimedOut.into() } else { error }
}

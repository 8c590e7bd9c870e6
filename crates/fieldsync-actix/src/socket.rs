//! A byte stream made of what actix has: the body of a request for reading, and that of a response for writing.

use std::cell::RefCell;
use std::convert::Infallible;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use actix_web::dev::Payload;
use bytes::{Buf as _, Bytes, BytesMut};
use futures_util::Stream;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// How many bytes are buffered until actix takes them. It takes no more than it can write.
const BUFFER_BYTES: usize = 8 * 1024;

/// Both ends: the stream that the connection reads and writes, and the body that actix sends.
pub(crate) fn socket(payload: Payload) -> (Socket, Outgoing) {
    let pipe = Rc::new(RefCell::new(Pipe::default()));
    let socket = Socket {
        payload,
        read: Bytes::new(),
        pipe: Rc::clone(&pipe),
    };
    (socket, Outgoing(pipe))
}

#[derive(Default)]
struct Pipe {
    bytes: BytesMut,
    /// The writer has finished.
    is_ended: bool,
    /// actix has dropped the body.
    is_dropped: bool,
    writer: Option<Waker>,
    reader: Option<Waker>,
}

impl Pipe {
    fn end(&mut self) {
        self.is_ended = true;
        self.reader.take().into_iter().for_each(Waker::wake);
    }
}

/// The stream that the connection reads and writes.
pub(crate) struct Socket {
    payload: Payload,
    /// What was received and not read yet.
    read: Bytes,
    pipe: Rc<RefCell<Pipe>>,
}

impl AsyncRead for Socket {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        while self.read.is_empty() {
            match Pin::new(&mut self.payload).poll_next(context) {
                Poll::Ready(Some(Ok(bytes))) => self.read = bytes,
                Poll::Ready(Some(Err(error))) => return Poll::Ready(Err(io::Error::other(error))),
                Poll::Ready(None) => return Poll::Ready(Ok(())),
                Poll::Pending => return Poll::Pending,
            }
        }
        let length = self.read.len().min(buffer.remaining());
        buffer.put_slice(&self.read[..length]);
        self.read.advance(length);
        if self.read.is_empty() {
            // An empty slice would still keep actix's read buffer of 8 KiB in memory.
            self.read = Bytes::new();
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Socket {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let mut pipe = self.pipe.borrow_mut();
        if pipe.is_dropped || pipe.is_ended {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        let room = BUFFER_BYTES.saturating_sub(pipe.bytes.len());
        if room == 0 {
            pipe.writer = Some(context.waker().clone());
            return Poll::Pending;
        }
        let length = bytes.len().min(room);
        pipe.bytes.extend_from_slice(&bytes[..length]);
        pipe.reader.take().into_iter().for_each(Waker::wake);
        Poll::Ready(Ok(length))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    /// Ends the response. actix then reads what still arrives for a moment before it closes the connection.
    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.pipe.borrow_mut().end();
        Poll::Ready(Ok(()))
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        self.pipe.borrow_mut().end();
    }
}

/// The body that actix sends.
pub(crate) struct Outgoing(Rc<RefCell<Pipe>>);

impl Stream for Outgoing {
    type Item = Result<Bytes, Infallible>;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let mut pipe = self.0.borrow_mut();
        if pipe.bytes.is_empty() {
            if pipe.is_ended {
                return Poll::Ready(None);
            }
            pipe.reader = Some(context.waker().clone());
            return Poll::Pending;
        }
        // All of it, so that no memory is kept for the next time.
        let bytes = std::mem::take(&mut pipe.bytes).freeze();
        pipe.writer.take().into_iter().for_each(Waker::wake);
        Poll::Ready(Some(Ok(bytes)))
    }
}

impl Drop for Outgoing {
    fn drop(&mut self) {
        let mut pipe = self.0.borrow_mut();
        pipe.is_dropped = true;
        pipe.writer.take().into_iter().for_each(Waker::wake);
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::pin::pin;

    use futures_util::FutureExt as _;
    use tokio::io::AsyncWriteExt as _;

    use super::*;

    fn take(outgoing: &mut Outgoing) -> Option<usize> {
        let next = poll_fn(|context| Pin::new(&mut *outgoing).poll_next(context)).now_or_never();
        next.flatten().map(|Ok(bytes)| bytes.len())
    }

    #[test]
    fn m_a_writer_waits_until_bytes_are_taken_and_taken_bytes_are_freed() {
        let (mut socket, mut outgoing) = socket(Payload::None);
        let bytes = [0; 3 * BUFFER_BYTES];
        {
            let mut writing = pin!(socket.write_all(&bytes));
            for _ in 0..2 {
                assert!(writing.as_mut().now_or_never().is_none());
                assert_eq!(take(&mut outgoing), Some(BUFFER_BYTES));
            }
            assert!(writing.now_or_never().is_some());
        }
        assert_eq!(take(&mut outgoing), Some(BUFFER_BYTES));
        assert_eq!(take(&mut outgoing), None);
        assert_eq!(outgoing.0.borrow().bytes.capacity(), 0);
    }

    #[test]
    fn bytes_written_before_the_end_are_sent_and_writing_fails_after_the_body_is_dropped() {
        let (mut socket, mut outgoing) = super::socket(Payload::None);
        socket.write_all(b"bye").now_or_never();
        drop(socket);
        assert_eq!(take(&mut outgoing), Some(3));
        let end = poll_fn(|context| Pin::new(&mut outgoing).poll_next(context)).now_or_never();
        assert!(matches!(end, Some(None)));
        let (mut socket, outgoing) = super::socket(Payload::None);
        drop(outgoing);
        let written = socket.write_all(b"hello").now_or_never();
        assert!(matches!(written, Some(Err(_))));
    }
}

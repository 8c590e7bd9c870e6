//! A socket made of what actix has: a request's body that does not end, and a reply's.

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

/// So many bytes may wait for actix to take them. It takes no more than it can write.
const BUFFER_BYTES: usize = 8 * 1024;

/// The two ends of a socket: what the connection reads and writes, and what actix sends.
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
    /// No more is written.
    is_ended: bool,
    /// No more is taken.
    is_gone: bool,
    writer: Option<Waker>,
    reader: Option<Waker>,
}

impl Pipe {
    fn end(&mut self) {
        self.is_ended = true;
        self.reader.take().into_iter().for_each(Waker::wake);
    }
}

/// What the connection reads and writes.
pub(crate) struct Socket {
    payload: Payload,
    /// What came and was not yet read.
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
            // It would keep the buffer that actix has read into, 8 KiB.
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
        if pipe.is_gone || pipe.is_ended {
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

    /// Ends the reply. actix then reads what still comes, for a moment, before it closes.
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

/// What actix sends.
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
        // The whole of it, so that nothing is kept for next time.
        let bytes = std::mem::take(&mut pipe.bytes).freeze();
        pipe.writer.take().into_iter().for_each(Waker::wake);
        Poll::Ready(Some(Ok(bytes)))
    }
}

impl Drop for Outgoing {
    fn drop(&mut self) {
        let mut pipe = self.0.borrow_mut();
        pipe.is_gone = true;
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
    fn m_who_writes_waits_while_nothing_is_taken_and_nothing_is_kept_of_what_was() {
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
    fn what_was_written_before_the_end_is_sent_and_nothing_is_written_when_nobody_takes() {
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

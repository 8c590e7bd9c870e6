//! Counts the bytes that a peer takes, to tell one that reads slowly from one that has stopped reading.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Up to this size, several slices are copied and written at once: one `send` costs less than a `writev`.
const MAX_COPIED_BYTES: usize = 1024;

/// The number of bytes written so far.
#[derive(Debug, Clone, Default)]
pub(crate) struct BytesWritten(Arc<AtomicU64>);

impl BytesWritten {
    pub(crate) fn total(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    /// Resolves once nothing was written for the length of the timeout, or an eighth longer.
    pub(crate) async fn stalled(&self, timeout: Duration) {
        let (mut before, mut looks) = (self.total(), 0);
        while looks < 8 {
            tokio::time::sleep(timeout / 8).await;
            let total = self.total();
            looks = if total == before { looks + 1 } else { 0 };
            before = total;
        }
    }
}

/// A byte stream that counts the bytes written to it.
#[derive(Debug)]
pub(crate) struct CountedIo<S> {
    io: S,
    written: BytesWritten,
}

impl<S> CountedIo<S> {
    pub(crate) fn new(io: S) -> (Self, BytesWritten) {
        let written = BytesWritten::default();
        let counted = Self {
            io,
            written: written.clone(),
        };
        (counted, written)
    }

    fn count(&self, written: usize) -> usize {
        self.written.0.fetch_add(written as u64, Ordering::Relaxed);
        written
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for CountedIo<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_read(context, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for CountedIo<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = ready!(Pin::new(&mut self.io).poll_write(context, bytes))?;
        Poll::Ready(Ok(self.count(written)))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let mut copied = [0; MAX_COPIED_BYTES];
        let mut length = 0;
        for slice in slices {
            let Some(target) = copied.get_mut(length..length + slice.len()) else {
                let written = ready!(Pin::new(&mut self.io).poll_write_vectored(context, slices))?;
                return Poll::Ready(Ok(self.count(written)));
            };
            target.copy_from_slice(slice);
            length += slice.len();
        }
        self.poll_write(context, &copied[..length])
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(context)
    }
}

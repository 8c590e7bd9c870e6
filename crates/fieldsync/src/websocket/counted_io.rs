//! Bytes that a peer takes, counted: who reads slowly is told from who does not read at all.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// So many bytes in several slices are copied together: one `send` costs less than a `writev`.
const GATHERED: usize = 1024;

/// How many bytes were written so far.
#[derive(Debug, Clone, Default)]
pub(crate) struct Progress(Arc<AtomicU64>);

impl Progress {
    /// Resolves when nothing was written for so long.
    pub(crate) async fn stalled(&self, patience: Duration) {
        loop {
            let before = self.0.load(Ordering::Relaxed);
            tokio::time::sleep(patience).await;
            if self.0.load(Ordering::Relaxed) == before {
                return;
            }
        }
    }
}

/// A byte stream whose written bytes are counted.
#[derive(Debug)]
pub(crate) struct Counted<S> {
    io: S,
    progress: Progress,
}

impl<S> Counted<S> {
    pub(crate) fn new(io: S) -> (Self, Progress) {
        let progress = Progress::default();
        let counted = Self {
            io,
            progress: progress.clone(),
        };
        (counted, progress)
    }

    fn count(&self, written: usize) -> usize {
        self.progress.0.fetch_add(written as u64, Ordering::Relaxed);
        written
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Counted<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_read(context, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Counted<S> {
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
        let mut gathered = [0; GATHERED];
        let mut length = 0;
        for slice in slices {
            let Some(place) = gathered.get_mut(length..length + slice.len()) else {
                let written = ready!(Pin::new(&mut self.io).poll_write_vectored(context, slices))?;
                return Poll::Ready(Ok(self.count(written)));
            };
            place.copy_from_slice(slice);
            length += slice.len();
        }
        self.poll_write(context, &gathered[..length])
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

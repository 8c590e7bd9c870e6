//! A client that sends exactly the bytes that a test gives it.

use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::app::App;

pub(crate) struct Raw {
    pub(crate) stream: TcpStream,
    /// What was received and not returned yet.
    received: Vec<u8>,
}

/// The head of a handshake, with additional headers.
pub(crate) fn handshake(more: &str) -> String {
    format!(
        "GET /ws/user-updates/ HTTP/1.1\r\nhost: test\r\nconnection: Upgrade\r\nupgrade: websocket\r\n\
         sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
         sec-websocket-protocol: fieldsync.v1\r\n{more}\r\n"
    )
}

/// A short frame from a client, masked with zeros.
pub(crate) fn frame(opcode: u8, payload: &[u8]) -> Vec<u8> {
    let length = u8::try_from(payload.len()).unwrap();
    assert!(length < 126);
    [&[0x80 | opcode, 0x80 | length, 0, 0, 0, 0], payload].concat()
}

impl Raw {
    pub(crate) async fn connect(app: &App) -> Self {
        let stream = TcpStream::connect(app.address).await.unwrap();
        let received = Vec::new();
        Self { stream, received }
    }

    /// A connection after a successful handshake.
    pub(crate) async fn socket(app: &App, more: &str) -> Self {
        let mut raw = Self::connect(app).await;
        raw.send(handshake(more)).await;
        let head = raw.head().await;
        assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
        raw
    }

    pub(crate) async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.stream.write_all(bytes.as_ref()).await.unwrap();
    }

    /// Reads more. Returns false at the end of the connection, which may also be a reset.
    async fn read(&mut self) -> bool {
        let read = self.stream.read_buf(&mut self.received);
        let read = timeout(Duration::from_secs(20), read).await;
        matches!(read.expect("something within 20 s"), Ok(1..))
    }

    /// The head of the next response.
    pub(crate) async fn head(&mut self) -> String {
        self.until("\r\n\r\n").await
    }

    /// Everything up to and including these words, which must come.
    pub(crate) async fn until(&mut self, words: &str) -> String {
        let mut searched = 0;
        loop {
            let mut windows = self.received[searched..].windows(words.len());
            if let Some(at) = windows.position(|window| window == words.as_bytes()) {
                let text = self.bytes(searched + at + words.len()).await;
                return String::from_utf8_lossy(&text).into_owned();
            }
            searched = (self.received.len() + 1).saturating_sub(words.len());
            let more = self.read().await;
            let text = || String::from_utf8_lossy(&self.received);
            assert!(more, "the connection ends after {}", text());
        }
    }

    /// The next `count` bytes.
    pub(crate) async fn bytes(&mut self, count: usize) -> Vec<u8> {
        while self.received.len() < count {
            assert!(self.read().await, "the connection ends");
        }
        self.received.drain(..count).collect()
    }

    /// Everything up to the end of the connection.
    pub(crate) async fn rest(&mut self) -> Vec<u8> {
        while self.read().await {}
        std::mem::take(&mut self.received)
    }
}

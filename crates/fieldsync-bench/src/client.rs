//! The cheapest clients that do the job, so that they leave the processor to the server.

use std::net::SocketAddr;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::Result;

/// A text frame of a server (RFC 6455, section 5.2).
pub(crate) fn frame_of(text: &str) -> Vec<u8> {
    let mut frame = vec![0x81];
    match u8::try_from(text.len()) {
        Ok(length @ ..126) => frame.push(length),
        _ => {
            frame.push(126);
            let length = u16::try_from(text.len()).expect("messages of the floor are short");
            frame.extend(length.to_be_bytes());
        }
    }
    frame.extend(text.as_bytes());
    frame
}

/// A connection on which requests are sent one after the other.
#[derive(Debug)]
pub(crate) struct Requests {
    socket: TcpStream,
    buffer: Vec<u8>,
}

impl Requests {
    pub(crate) async fn open(address: SocketAddr) -> Result<Self> {
        let socket = TcpStream::connect(address).await?;
        socket.set_nodelay(true)?;
        Ok(Self {
            socket,
            buffer: Vec::with_capacity(4096),
        })
    }

    /// Sends a PATCH of a user's first name, and waits for its 200.
    pub(crate) async fn patch(&mut self, id: usize, name: &str) -> Result {
        let body = format!(r#"{{"first_name":"{name}"}}"#);
        let request = format!(
            "PATCH /api/users/{id}/ HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        );
        self.socket.write_all(request.as_bytes()).await?;
        self.buffer.clear();
        loop {
            if self.socket.read_buf(&mut self.buffer).await? == 0 {
                return Err("the server closed the connection".into());
            }
            if let Some(head) = self
                .buffer
                .windows(4)
                .position(|bytes| bytes == b"\r\n\r\n")
            {
                let text = std::str::from_utf8(&self.buffer[..head])?.to_ascii_lowercase();
                if !text.starts_with("http/1.1 200 ") {
                    return Err(format!("refused: {text}").into());
                }
                let length = text
                    .lines()
                    .find_map(|line| line.strip_prefix("content-length: "));
                let length: usize = length.ok_or("a reply without a length")?.parse()?;
                if self.buffer.len() >= head + 4 + length {
                    return Ok(());
                }
            }
        }
    }
}

/// A socket's frames.
#[derive(Debug)]
pub(crate) struct Frames {
    socket: TcpStream,
    buffer: Vec<u8>,
    /// How many bytes of the buffer have been looked at.
    read: usize,
}

impl Frames {
    /// Reads frames without asking for any.
    pub(crate) async fn raw(address: SocketAddr) -> Result<Self> {
        let mut frames = Self {
            socket: TcpStream::connect(address).await?,
            buffer: Vec::with_capacity(1024),
            read: 0,
        };
        frames.next().await?;
        Ok(frames)
    }

    /// Opens a WebSocket, subscribes to the users, and reads until it is live.
    pub(crate) async fn subscribed(address: SocketAddr) -> Result<Self> {
        let mut frames = Self::asked(address).await?;
        while !frames
            .next()
            .await?
            .windows(6)
            .any(|bytes| bytes == b"\"live\"")
        {}
        frames.buffer.shrink_to(1024);
        Ok(frames)
    }

    /// Opens a WebSocket and subscribes to the users.
    pub(crate) async fn asked(address: SocketAddr) -> Result<Self> {
        let mut socket = TcpStream::connect(address).await?;
        let handshake = "GET /live HTTP/1.1\r\nhost: x\r\nconnection: upgrade\r\nupgrade: websocket\r\n\
                         sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
                         sec-websocket-protocol: fieldsync.v1\r\n\r\n";
        socket.write_all(handshake.as_bytes()).await?;
        let mut buffer = Vec::with_capacity(1024);
        let head = loop {
            if socket.read_buf(&mut buffer).await? == 0 {
                return Err("the server refused the socket".into());
            }
            if let Some(head) = buffer.windows(4).position(|bytes| bytes == b"\r\n\r\n") {
                break head + 4;
            }
        };
        buffer.drain(..head);
        let message = br#"{"type":"subscribe","topic":"users"}"#;
        // Masked with a key of zeros.
        let mut frame = vec![0x81, 0x80 | message.len() as u8, 0, 0, 0, 0];
        frame.extend(message);
        socket.write_all(&frame).await?;
        Ok(Self {
            socket,
            buffer,
            read: 0,
        })
    }

    /// The payload of the next text frame. Pings are left unanswered: nothing here takes that long.
    pub(crate) async fn next(&mut self) -> Result<&[u8]> {
        loop {
            let whole = header(&self.buffer[self.read..])
                .filter(|(.., end)| self.buffer.len() >= self.read + end);
            if let Some((opcode, start, end)) = whole {
                let payload = self.read + start..self.read + end;
                self.read += end;
                if opcode == 1 {
                    return Ok(&self.buffer[payload]);
                }
                continue;
            }
            self.buffer.drain(..self.read);
            self.read = 0;
            if self.socket.read_buf(&mut self.buffer).await? == 0 {
                return Err("the server closed a socket".into());
            }
        }
    }
}

/// The opcode of a frame, and where its payload begins and ends.
fn header(bytes: &[u8]) -> Option<(u8, usize, usize)> {
    let (opcode, length) = (bytes.first()? & 15, usize::from(bytes.get(1)? & 127));
    let (start, length) = match length {
        126 => (
            4,
            u16::from_be_bytes(bytes.get(2..4)?.try_into().ok()?).into(),
        ),
        127 => (
            10,
            u64::from_be_bytes(bytes.get(2..10)?.try_into().ok()?) as usize,
        ),
        length => (2, length),
    };
    Some((opcode, start, start + length))
}

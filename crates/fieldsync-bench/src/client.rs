//! Minimal clients, which leave the processor to the server.

use std::net::SocketAddr;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::wait::{Result, within_limit};

const TEXT: u8 = 1;
const PING: u8 = 9;
const PONG: u8 = 10;
/// The first bit of the last frame of a message.
const FIN: u8 = 0x80;
/// How the message begins that repeats the cursor of a topic now and then.
const HEARTBEAT: &[u8] = br#"{"type":"live","#;

/// Encodes a server's text frame (RFC 6455, section 5.2).
pub(crate) fn text_frame(text: &str) -> Vec<u8> {
    let mut frame = vec![FIN | TEXT];
    match u8::try_from(text.len()) {
        Ok(length @ ..126) => frame.push(length),
        _ => {
            frame.push(126);
            let length = u16::try_from(text.len()).expect("messages are shorter than 64 KiB");
            frame.extend(length.to_be_bytes());
        }
    }
    frame.extend(text.as_bytes());
    frame
}

/// Encodes a client's frame of at most 125 bytes, masked with a key of zeros.
fn client_frame(opcode: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![FIN | opcode, 0x80 | payload.len() as u8, 0, 0, 0, 0];
    frame.extend(payload);
    frame
}

/// A connection that sends one request after the other.
#[derive(Debug)]
pub(crate) struct HttpClient {
    socket: TcpStream,
    buffer: Vec<u8>,
}

impl HttpClient {
    pub(crate) async fn open(address: SocketAddr) -> Result<Self> {
        let connecting = TcpStream::connect(address);
        let socket = within_limit("a connection to the server", connecting).await??;
        socket.set_nodelay(true)?;
        Ok(Self {
            socket,
            buffer: Vec::with_capacity(4096),
        })
    }

    /// Patches a user's first name. Any status other than 200 is an error.
    pub(crate) async fn patch(&mut self, id: usize, name: &str) -> Result {
        self.patch_with_status(id, name, "200").await
    }

    /// Patches a user's first name with one that is taken. Any status other than 409 is an error.
    pub(crate) async fn patch_refused(&mut self, id: usize, name: &str) -> Result {
        self.patch_with_status(id, name, "409").await
    }

    async fn patch_with_status(&mut self, id: usize, name: &str, status: &str) -> Result {
        let body = format!(r#"{{"first_name":"{name}"}}"#);
        let request = format!(
            "PATCH /api/users/{id}/ HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        );
        let reply = async {
            self.socket.write_all(request.as_bytes()).await?;
            self.read_reply(status).await
        };
        within_limit("the reply to a PATCH", reply).await?
    }

    /// Reads a user. Any status other than 200 is an error.
    pub(crate) async fn get(&mut self, id: usize) -> Result {
        self.get_path(&format!("{id}/")).await
    }

    /// Reads 1,000 users.
    pub(crate) async fn list(&mut self) -> Result {
        self.get_path("?limit=1000").await
    }

    async fn get_path(&mut self, path: &str) -> Result {
        let request = format!("GET /api/users/{path} HTTP/1.1\r\nhost: x\r\n\r\n");
        let reply = async {
            self.socket.write_all(request.as_bytes()).await?;
            self.read_reply("200").await
        };
        within_limit("the reply to a GET", reply).await?
    }

    async fn read_reply(&mut self, status: &str) -> Result {
        self.buffer.clear();
        loop {
            if self.socket.read_buf(&mut self.buffer).await? == 0 {
                return Err("the server closed the connection before it replied".into());
            }
            let Some(head) = end_of_head(&self.buffer) else {
                continue;
            };
            let text = std::str::from_utf8(&self.buffer[..head])?.to_ascii_lowercase();
            if !text.starts_with(&format!("http/1.1 {status} ")) {
                return Err(format!("the reply is not {status}: {text}").into());
            }
            let length = text
                .lines()
                .find_map(|line| line.strip_prefix("content-length: "));
            let length: usize = length.ok_or("a reply has no Content-Length")?.parse()?;
            if self.buffer.len() >= head + length {
                return Ok(());
            }
        }
    }
}

/// Where the body begins, when the head is complete.
fn end_of_head(bytes: &[u8]) -> Option<usize> {
    let end = bytes.windows(4).position(|bytes| bytes == b"\r\n\r\n")?;
    Some(end + 4)
}

/// A connection that receives the text frames of a server, and answers its pings.
#[derive(Debug)]
pub(crate) struct Subscriber {
    socket: TcpStream,
    buffer: Vec<u8>,
    /// How many bytes of the buffer were returned already.
    consumed: usize,
}

impl Subscriber {
    /// Connects to the floor, which sends one frame when it has subscribed the connection.
    pub(crate) async fn to_floor(address: SocketAddr) -> Result<Self> {
        let connecting = TcpStream::connect(address);
        let socket = within_limit("a connection to the server", connecting).await??;
        let mut subscriber = Self::new(socket, Vec::with_capacity(1024));
        within_limit("the first frame of the floor", subscriber.next()).await??;
        Ok(subscriber)
    }

    /// Opens a WebSocket, subscribes to a collection, and reads until the topic is live.
    pub(crate) async fn live(address: SocketAddr, topic: &str) -> Result<Self> {
        let mut subscriber = Self::unread(address, topic).await?;
        let live = async {
            while !contains(subscriber.next().await?, b"\"live\"") {}
            Result::Ok(())
        };
        within_limit("the message `live` of a subscriber", live).await??;
        subscriber.buffer.shrink_to(1024);
        Ok(subscriber)
    }

    /// Opens a WebSocket and subscribes to a collection, but reads nothing of the answer.
    pub(crate) async fn unread(address: SocketAddr, topic: &str) -> Result<Self> {
        within_limit(
            "the answer to a WebSocket handshake",
            Self::upgrade(address, topic),
        )
        .await?
    }

    async fn upgrade(address: SocketAddr, topic: &str) -> Result<Self> {
        let mut socket = TcpStream::connect(address).await?;
        let handshake = "GET /live HTTP/1.1\r\nhost: x\r\nconnection: upgrade\r\nupgrade: websocket\r\n\
                         sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
                         sec-websocket-protocol: fieldsync.v1\r\n\r\n";
        socket.write_all(handshake.as_bytes()).await?;
        let mut buffer = Vec::with_capacity(1024);
        let head = loop {
            if socket.read_buf(&mut buffer).await? == 0 {
                return Err("the server closed the connection during the handshake".into());
            }
            if let Some(head) = end_of_head(&buffer) {
                break head;
            }
        };
        if !buffer.starts_with(b"HTTP/1.1 101 ") {
            let head = String::from_utf8_lossy(&buffer[..head]);
            return Err(format!("the server refused a WebSocket: {head}").into());
        }
        buffer.drain(..head);
        let message = format!(r#"{{"type":"subscribe","topic":"{topic}"}}"#);
        socket
            .write_all(&client_frame(TEXT, message.as_bytes()))
            .await?;
        Ok(Self::new(socket, buffer))
    }

    /// Subscribes to more topics, and reads until each has its snapshot.
    pub(crate) async fn add(&mut self, topics: Vec<String>) -> Result {
        for topic in &topics {
            let message = format!(r#"{{"type":"subscribe","topic":"{topic}"}}"#);
            let frame = client_frame(TEXT, message.as_bytes());
            self.socket.write_all(&frame).await?;
        }
        let mut snapshots = 0;
        while snapshots < topics.len() {
            let message = self.next().await?;
            snapshots += usize::from(message.starts_with(br#"{"type":"snapshot""#));
        }
        Ok(())
    }

    fn new(socket: TcpStream, buffer: Vec<u8>) -> Self {
        Self {
            socket,
            buffer,
            consumed: 0,
        }
    }

    /// Waits for the next text frame that is not a heartbeat. The caller limits the wait.
    pub(crate) async fn delivery(&mut self) -> Result {
        while self.next().await?.starts_with(HEARTBEAT) {}
        Ok(())
    }

    /// The payload of the next text frame. The caller limits the wait.
    pub(crate) async fn next(&mut self) -> Result<&[u8]> {
        loop {
            let frame = header(&self.buffer[self.consumed..])
                .filter(|(.., end)| self.buffer.len() >= self.consumed + end);
            let Some((opcode, start, end)) = frame else {
                self.buffer.drain(..self.consumed);
                self.consumed = 0;
                if self.socket.read_buf(&mut self.buffer).await? == 0 {
                    return Err("the server closed the connection of a subscriber".into());
                }
                continue;
            };
            let payload = self.consumed + start..self.consumed + end;
            self.consumed += end;
            match opcode {
                TEXT => return Ok(&self.buffer[payload]),
                PING => {
                    let pong = client_frame(PONG, &self.buffer[payload]);
                    self.socket.write_all(&pong).await?;
                }
                _ => {}
            }
        }
    }
}

pub(crate) fn contains(bytes: &[u8], part: &[u8]) -> bool {
    bytes.windows(part.len()).any(|window| window == part)
}

/// The opcode of a server's frame, and where its payload begins and ends.
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

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;

    #[tokio::test]
    async fn a_ping_is_answered_and_is_no_message() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let server = async {
            let (mut socket, _) = listener.accept().await?;
            let frames = [&text_frame("first")[..], &[FIN | PING, 2, b'h', b'i']].concat();
            socket.write_all(&frames).await?;
            let mut pong = [0; 8];
            socket.read_exact(&mut pong).await?;
            assert_eq!(pong, *client_frame(PONG, b"hi"));
            socket.write_all(&text_frame("second")).await?;
            Result::Ok(socket)
        };
        let client = async {
            let mut subscriber = Subscriber::to_floor(address).await?;
            assert_eq!(subscriber.next().await?, b"second");
            Result::Ok(())
        };
        let (served, received) = within_limit("both", async { tokio::join!(server, client) })
            .await
            .expect("they end");
        served.expect("the server");
        received.expect("the subscriber");
    }
}

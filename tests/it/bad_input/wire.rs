//! A client that sends whatever it is given, and says exactly what came back.

use std::fmt::Display;
use std::time::Duration;

use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(15);

/// A connection, and what was read of it beyond what was asked for.
pub(super) struct Wire {
    stream: TcpStream,
    read: Vec<u8>,
}

/// A reply to a request.
pub(super) struct Answer {
    pub(super) status: u16,
    headers: Vec<(String, String)>,
    pub(super) body: Vec<u8>,
}

/// What a peer that speaks WebSocket sends.
#[derive(Debug, PartialEq)]
pub(super) enum Frame {
    Text(Value),
    Pong,
    Close(Option<u16>),
    /// The connection is closed.
    End,
}

impl Wire {
    pub(super) async fn open(address: impl Display) -> Self {
        let stream = TcpStream::connect(address.to_string()).await.unwrap();
        let read = Vec::new();
        Self { stream, read }
    }

    /// Opens a socket that speaks `fieldsync.v1`.
    pub(super) async fn upgraded(address: impl Display) -> Self {
        let mut wire = Self::open(address).await;
        let request = super::handshakes::request(&[("sec-websocket-protocol", "fieldsync.v1")]);
        wire.send(&request).await;
        assert_eq!(wire.answer().await.status, 101);
        wire
    }

    /// A server that has heard enough may close while something is still being sent.
    pub(super) async fn send(&mut self, bytes: &[u8]) {
        let _ = timeout(PATIENCE, self.stream.write_all(bytes)).await;
    }

    /// Reads more; false at the end.
    async fn more(&mut self) -> bool {
        let read = timeout(PATIENCE, self.stream.read_buf(&mut self.read)).await;
        // A reset is an end, too.
        read.expect("an answer in time").is_ok_and(|read| read > 0)
    }

    async fn exactly(&mut self, length: usize) -> Option<Vec<u8>> {
        while self.read.len() < length {
            if !self.more().await {
                return None;
            }
        }
        Some(self.read.drain(..length).collect())
    }

    /// The next reply.
    pub(super) async fn answer(&mut self) -> Answer {
        loop {
            let answer = self.any_answer().await;
            // actix asks for each body that waits to be asked for, before anybody has looked at the request.
            if answer.status != 100 {
                return answer;
            }
        }
    }

    async fn any_answer(&mut self) -> Answer {
        let head = loop {
            let end = self.read.windows(4).position(|bytes| bytes == b"\r\n\r\n");
            if let Some(end) = end {
                break self.read.drain(..end + 4).collect::<Vec<_>>();
            }
            assert!(self.more().await, "closed without an answer");
        };
        let head = String::from_utf8(head).unwrap();
        let mut lines = head.lines();
        let status = lines.next().unwrap().split(' ').nth(1).unwrap();
        let headers = lines.filter_map(|line| line.split_once(": "));
        let headers = headers.map(|(name, value)| (name.to_lowercase(), value.to_owned()));
        let mut answer = Answer {
            status: status.parse().unwrap(),
            headers: headers.collect(),
            body: Vec::new(),
        };
        if let Some(length) = answer.header("content-length") {
            let length = length.parse().unwrap();
            answer.body = self.exactly(length).await.expect("the whole body");
        }
        answer
    }

    /// Whether the server closes the connection, and says nothing more before it does.
    pub(super) async fn is_closed(&mut self) -> bool {
        while self.more().await {}
        self.read.is_empty()
    }

    /// The next frame that is no ping.
    pub(super) async fn frame(&mut self) -> Frame {
        loop {
            let Some(head) = self.exactly(2).await else {
                return Frame::End;
            };
            let length = match head[1] {
                126 => self.exactly(2).await.unwrap(),
                127 => self.exactly(8).await.unwrap(),
                short => vec![short],
            };
            let length = length
                .iter()
                .fold(0, |sum, byte| sum << 8 | usize::from(*byte));
            let payload = self.exactly(length).await.unwrap();
            return match head[0] {
                0x81 => Frame::Text(serde_json::from_slice(&payload).unwrap()),
                0x88 => Frame::Close(payload.first_chunk().map(|code| u16::from_be_bytes(*code))),
                0x89 => continue,
                0x8a => Frame::Pong,
                other => panic!("a frame that begins with {other:#x}"),
            };
        }
    }
}

impl Answer {
    /// What is the same under every framework. Not the time, what stands for a record, and whether the connection stays.
    pub(super) fn likeness(&self) -> (u16, Vec<(&str, &str)>, String) {
        let headers = self
            .headers
            .iter()
            .filter_map(|(name, value)| match &**name {
                "connection" | "date" => None,
                "etag" | "fieldsync-cursor" | "location" => Some((&**name, "")),
                name => Some((name, &**value)),
            });
        let mut headers: Vec<_> = headers.collect();
        headers.sort_unstable();
        let body = if self.status < 300 { b"" } else { &*self.body };
        (self.status, headers, String::from_utf8_lossy(body).into())
    }

    pub(super) fn header(&self, name: &str) -> Option<&str> {
        let mut values = self.headers.iter().filter(|(known, _)| known == name);
        let value = values.next().map(|(_, value)| value.as_str());
        assert!(values.next().is_none(), "{name} stands twice");
        value
    }

    /// The problem that the body holds, which must be in order and hold nothing that was sent.
    #[track_caller]
    pub(super) fn problem(&self, row: &str) -> Value {
        assert_eq!(
            self.header("content-type"),
            Some("application/problem+json"),
            "{row}"
        );
        assert_eq!(self.header("cache-control"), Some("no-store"), "{row}");
        let problem: Value = serde_json::from_slice(&self.body).unwrap();
        let kind = problem["type"].as_str().unwrap();
        assert!(kind.starts_with("urn:fieldsync:"), "{row}: {problem}");
        assert!(problem["title"].is_string(), "{row}: {problem}");
        assert_eq!(problem["status"], self.status, "{row}: {problem}");
        let text = problem.to_string();
        for never in [
            super::requests::SENT,
            "select",
            "update ",
            "constraint",
            ".rs",
            "/src/",
        ] {
            assert!(!text.contains(never), "{row}: {text}");
        }
        problem
    }
}

//! A WebSocket client, written from `docs/protocol.md` alone.

use std::collections::{BTreeMap, VecDeque};
use std::fmt::Display;

use futures_util::{SinkExt as _, StreamExt as _};
use serde_json::{Map, Value, json};
use tokio::net::TcpStream;
use tokio_websockets::{ClientBuilder, MaybeTlsStream, Message, WebSocketStream};

use crate::app::App;
use crate::tasks::within_limit;

pub(crate) struct Socket {
    pub(crate) stream: WebSocketStream<MaybeTlsStream<TcpStream>>,
    pub(crate) protocol: Option<String>,
    /// What came before a pong that was waited for.
    before_pong: VecDeque<Value>,
}

impl Socket {
    pub(crate) async fn feed(app: &App) -> Self {
        Self::open(app, None).await
    }

    pub(crate) async fn v1(app: &App) -> Self {
        Self::open(app, Some("fieldsync.v1")).await
    }

    /// Opens a socket as this user.
    pub(crate) async fn v1_as(app: &App, user: &str) -> Self {
        Self::open_with(app, Some("fieldsync.v1"), &[("x-user", user.to_owned())]).await
    }

    /// Opens a socket with these headers.
    pub(crate) async fn open_with(
        app: &App,
        protocol: Option<&str>,
        headers: &[(&'static str, String)],
    ) -> Self {
        let mut builder = Self::builder(app.address);
        for (name, value) in headers {
            let name = http::HeaderName::from_static(name);
            builder = builder.add_header(name, value.parse().unwrap()).unwrap();
        }
        let opened = Self::connect(builder, protocol).await;
        opened.expect("the server accepts the socket")
    }

    async fn open(app: &App, protocol: Option<&str>) -> Self {
        let opened = Self::connect(Self::builder(app.address), protocol).await;
        opened.expect("the server accepts the socket")
    }

    /// Opens a socket; `None` when the server refuses it or is down.
    pub(crate) async fn open_at(address: &str, protocol: Option<&str>) -> Option<Self> {
        Self::connect(Self::builder(address), protocol).await
    }

    fn builder(address: impl Display) -> ClientBuilder<'static> {
        let uri = format!("ws://{address}/ws/user-updates/");
        ClientBuilder::from_uri(uri.parse().unwrap())
    }

    async fn connect(mut builder: ClientBuilder<'_>, protocol: Option<&str>) -> Option<Self> {
        if let Some(protocol) = protocol {
            let name = http::HeaderName::from_static("sec-websocket-protocol");
            builder = builder.add_header(name, protocol.parse().unwrap()).unwrap();
        }
        let (stream, response) = builder.connect().await.ok()?;
        let protocol = response.headers().get("sec-websocket-protocol");
        Some(Self {
            stream,
            before_pong: VecDeque::new(),
            protocol: protocol.map(|value| value.to_str().unwrap().to_owned()),
        })
    }

    pub(crate) async fn send(&mut self, message: &Value) {
        self.send_text(&message.to_string()).await;
    }

    pub(crate) async fn send_text(&mut self, text: &str) {
        self.stream
            .send(Message::text(text.to_owned()))
            .await
            .unwrap();
    }

    /// Sends a ping, and waits for the pong.
    pub(crate) async fn ping(&mut self) {
        self.stream.send(Message::ping("")).await.unwrap();
        loop {
            let message = within_limit("a pong", self.stream.next()).await;
            let message = message.unwrap().unwrap();
            if message.is_pong() {
                return;
            }
            if message.is_ping() {
                continue;
            }
            let text = message.as_text().expect("a message or a pong");
            self.before_pong
                .push_back(serde_json::from_str(text).unwrap());
        }
    }

    /// What came before the pong that was waited for.
    pub(crate) fn take_before_pong(&mut self) -> Vec<Value> {
        self.before_pong.drain(..).collect()
    }

    /// The next JSON message, or the close code when the connection ends.
    pub(crate) async fn next(&mut self) -> Result<Value, u16> {
        if let Some(message) = self.before_pong.pop_front() {
            return Ok(message);
        }
        self.next_or_close().await.map_err(|(code, _)| code)
    }

    /// The next JSON message, or the close code and its reason when the connection ends.
    pub(crate) async fn next_or_close(&mut self) -> Result<Value, (u16, String)> {
        loop {
            let message = within_limit("a message", self.stream.next()).await;
            match message {
                Some(Ok(message)) => {
                    if let Some(text) = message.as_text() {
                        return Ok(serde_json::from_str(text).unwrap());
                    }
                    if let Some((code, reason)) = message.as_close() {
                        return Err((code.into(), reason.to_owned()));
                    }
                }
                Some(Err(error)) => panic!("the socket failed: {error}"),
                None => return Err((1006, String::new())),
            }
        }
    }

    /// Returns the next message, which must have this type. A heartbeat, or the confirmation of a subscription, may come before it.
    pub(crate) async fn expect(&mut self, kind: &str) -> Value {
        let mut message = self.next().await.unwrap();
        let is_skipped = |message: &Value| {
            let kinds = ["live", "subscribed"];
            kinds
                .iter()
                .any(|skipped| message["type"] == *skipped && kind != *skipped)
        };
        while is_skipped(&message) {
            message = self.next().await.unwrap();
        }
        assert_eq!(message["type"], kind, "{message}");
        message
    }

    /// The next message that has one of these types.
    pub(crate) async fn expect_any(&mut self, kinds: &[&str]) -> Value {
        loop {
            let message = self.next().await.unwrap();
            if kinds.iter().any(|kind| message["type"] == *kind) {
                return message;
            }
        }
    }

    pub(crate) async fn subscribe(&mut self, topic: &str, since: Option<&str>) {
        self.try_subscribe(topic, since).await.unwrap();
    }

    /// Subscribes; an error when the connection is closed.
    pub(crate) async fn try_subscribe(
        &mut self,
        topic: &str,
        since: Option<&str>,
    ) -> Result<(), tokio_websockets::Error> {
        let mut message = json!({"type": "subscribe", "topic": topic});
        if let Some(since) = since {
            message["since"] = since.into();
        }
        self.stream.send(Message::text(message.to_string())).await
    }
}

/// The records of a topic, as a window holds them, and the cursor of that state.
#[derive(Debug, Default, Clone, PartialEq)]
pub(crate) struct Mirror {
    pub(crate) records: BTreeMap<String, Map<String, Value>>,
    pub(crate) cursor: Option<String>,
    pub(crate) resets: Vec<String>,
    /// The number of pages of missed changes.
    pub(crate) folded: usize,
    /// Whether the server has confirmed the subscription on this connection.
    pub(crate) is_subscribed: bool,
    /// Where a snapshot that is not complete goes on.
    pub(crate) resume: Option<String>,
    /// The records of a snapshot that is not complete.
    pieces: Option<BTreeMap<String, Map<String, Value>>>,
}

impl Mirror {
    /// Applies a message. Returns true for `live`.
    pub(crate) fn apply(&mut self, message: &Value) -> bool {
        let text = |name: &str| message[name].as_str().map(str::to_owned);
        let (cursor, resume) = (text("cursor"), text("resume"));
        match message["type"].as_str().unwrap() {
            "snapshot" => {
                let pieces = self.pieces.get_or_insert_default();
                pieces.extend(by_id(&message["records"]));
                if cursor.is_some() {
                    self.records = self.pieces.take().unwrap();
                }
            }
            "change" => self.apply_change(message),
            "changes" => {
                self.folded += 1;
                let changes = message["changes"].as_array().unwrap();
                changes.iter().for_each(|change| self.apply_change(change));
            }
            "live" => {}
            "subscribed" => self.is_subscribed = true,
            "reset" => {
                self.resets
                    .push(message["reason"].as_str().unwrap().to_owned());
                self.pieces = Some(BTreeMap::new());
            }
            other => panic!("unexpected message {other}: {message}"),
        }
        if cursor.is_some() || resume.is_some() || message["type"] == "reset" {
            self.resume = resume;
        }
        if cursor.is_some() {
            self.cursor = cursor;
        }
        message["type"] == "live"
    }

    fn apply_change(&mut self, change: &Value) {
        let records = self.pieces.as_mut().unwrap_or(&mut self.records);
        let id = change["id"].to_string();
        match change["action"].as_str().unwrap() {
            "delete" | "leave" => {
                records.remove(&id);
            }
            action => {
                let record = records.entry(id).or_default();
                if action == "create" || action == "enter" {
                    record.clear();
                }
                record.insert("id".into(), change["id"].clone());
                record.extend(change["fields"].as_object().unwrap().clone());
            }
        }
    }

    /// Subscribes on a new connection, and goes on where the last one broke. An error when the connection is closed.
    pub(crate) async fn go_on(
        &mut self,
        socket: &mut Socket,
        topic: &str,
    ) -> Result<(), tokio_websockets::Error> {
        self.go_on_as(socket, topic, topic).await
    }

    /// The same, with a name of the subscription.
    pub(crate) async fn go_on_as(
        &mut self,
        socket: &mut Socket,
        sub: &str,
        topic: &str,
    ) -> Result<(), tokio_websockets::Error> {
        let mut message = json!({"type": "subscribe", "sub": sub, "topic": topic});
        self.is_subscribed = false;
        match (&self.resume, &self.cursor) {
            (Some(resume), _) => message["resume"] = resume.as_str().into(),
            (None, Some(cursor)) => message["since"] = cursor.as_str().into(),
            (None, None) => {}
        }
        if self.resume.is_none() {
            self.pieces = None;
        }
        socket.stream.send(Message::text(message.to_string())).await
    }

    /// Reads until the topic is live.
    pub(crate) async fn catch_up(&mut self, socket: &mut Socket) {
        while !self.apply(&socket.next().await.unwrap()) {}
    }

    /// The records in the form of a GET.
    pub(crate) fn list(&self) -> Value {
        let mut records: Vec<Value> = self.records.values().cloned().map(Value::Object).collect();
        records.sort_by_key(|record| (record["id"].as_i64(), record["id"].to_string()));
        Value::Array(records)
    }

    /// Reads until the records are those of a GET, when writes have ended. In any order: text has another one in each database.
    pub(crate) async fn converge(&mut self, socket: &mut Socket, app: &App, path: &str) {
        let all = by_id(&app.get(path).await).collect();
        let converged = async {
            while self.records != all {
                self.apply(&socket.next().await.unwrap());
            }
        };
        within_limit("the records of a GET", converged).await;
    }
}

/// The records of a list, by their ids as JSON.
pub(crate) fn by_id(list: &Value) -> impl Iterator<Item = (String, Map<String, Value>)> {
    let records = list.as_array().unwrap().iter();
    records.map(|record| {
        (
            record["id"].to_string(),
            record.as_object().unwrap().clone(),
        )
    })
}

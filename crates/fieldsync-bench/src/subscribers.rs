//! Subscribers that are read all the time, so that pings are answered and deliveries are timed as they come.

use std::net::SocketAddr;
use std::time::Instant;

use tokio::sync::mpsc;
use tokio::task::JoinSet;

use crate::client::Subscriber;
use crate::kind::ServerKind;
use crate::wait::{Result, within_limit};

/// Subscribers of one server. Their connections end when this is dropped.
#[derive(Debug)]
pub(crate) struct Subscribers {
    count: usize,
    deliveries: mpsc::UnboundedReceiver<Result<Instant>>,
    sender: mpsc::UnboundedSender<Result<Instant>>,
    readers: JoinSet<()>,
}

impl Subscribers {
    /// Opens subscribers of a server of this kind.
    pub(crate) async fn open(kind: ServerKind, address: SocketAddr, count: usize) -> Result<Self> {
        let (sender, deliveries) = mpsc::unbounded_channel();
        let mut subscribers = Self {
            count: 0,
            deliveries,
            sender,
            readers: JoinSet::new(),
        };
        subscribers.add(kind, address, count).await?;
        Ok(subscribers)
    }

    /// Opens more, one after the other: the system's queue of connections to be accepted is short.
    pub(crate) async fn add(
        &mut self,
        kind: ServerKind,
        address: SocketAddr,
        count: usize,
    ) -> Result {
        for _ in 0..count {
            let subscriber = match kind {
                ServerKind::Floor => Subscriber::to_floor(address).await?,
                _ => Subscriber::live(address, "users").await?,
            };
            self.readers.spawn(read(subscriber, self.sender.clone()));
            self.count += 1;
        }
        Ok(())
    }

    pub(crate) fn count(&self) -> usize {
        self.count
    }

    /// Waits until each subscriber has received a number of changes, and passes the time of each delivery on.
    pub(crate) async fn receive(
        &mut self,
        changes: usize,
        mut delivered: impl FnMut(Instant),
    ) -> Result {
        let expected = changes * self.count;
        let mut received = 0;
        let receiving = async {
            while received < expected {
                let delivery = self.deliveries.recv().await;
                delivered(delivery.ok_or("no subscriber is left")??);
                received += 1;
            }
            Result::Ok(())
        };
        let received_in_time = within_limit("a delivery", receiving).await;
        received_in_time
            .and_then(|received| received)
            .map_err(|error| format!("{received} of {expected} deliveries came: {error}").into())
    }
}

async fn read(mut subscriber: Subscriber, deliveries: mpsc::UnboundedSender<Result<Instant>>) {
    loop {
        let received = subscriber.delivery().await.map(|()| Instant::now());
        let is_last = received.is_err();
        // The receiver is dropped with the subscribers.
        if deliveries.send(received).is_err() || is_last {
            return;
        }
    }
}

//! A TCP proxy that simulates network failures.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use crate::tasks::within_limit;

/// The state of the network.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Network {
    /// It forwards everything.
    Works,
    /// It drops everything without a reset: connections stay open, and new ones are accepted.
    Blackhole,
    /// It closes all connections, and each new one.
    Refuses,
}

/// A running proxy. Its connections end with the test's runtime.
pub(crate) struct Proxy {
    pub(crate) address: SocketAddr,
    network: watch::Sender<Network>,
    trigger: Trigger,
}

/// What happens to a connection on which certain words come.
#[derive(Debug, Clone, Copy)]
enum Fault {
    /// Neither they nor anything after them is forwarded.
    Blackhole,
    /// They are forwarded, and the connection is closed when the reply comes.
    CutReply,
}

/// The next fault, and the words that trigger it.
type Trigger = Arc<Mutex<Option<(&'static [u8], Fault)>>>;

impl Proxy {
    pub(crate) async fn to(port: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (network, watched) = watch::channel(Network::Works);
        let trigger = Trigger::default();
        tokio::spawn(accept(listener, port, watched, Arc::clone(&trigger)));
        Self {
            address,
            network,
            trigger,
        }
    }

    pub(crate) fn set(&self, network: Network) {
        self.network.send_replace(network);
    }

    /// Forwards a client's next message with these words, and closes the connection when the reply comes.
    pub(crate) fn cut_reply_to(&self, words: &'static [u8]) {
        *self.trigger.lock().unwrap() = Some((words, Fault::CutReply));
    }

    /// Drops a client's next message with these words, and everything after it on that connection.
    pub(crate) fn blackhole_from(&self, words: &'static [u8]) {
        *self.trigger.lock().unwrap() = Some((words, Fault::Blackhole));
    }

    /// Waits until the words came.
    pub(crate) async fn fault_triggered(&self) {
        let triggered = async {
            while self.trigger.lock().unwrap().is_some() {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        };
        within_limit("the message that triggers the fault", triggered).await;
    }
}

async fn accept(
    listener: TcpListener,
    port: u16,
    network: watch::Receiver<Network>,
    trigger: Trigger,
) {
    loop {
        let (client, _) = listener.accept().await.unwrap();
        if *network.borrow() == Network::Refuses {
            continue;
        }
        let (network, trigger) = (network.clone(), Arc::clone(&trigger));
        tokio::spawn(async move {
            if let Ok(server) = TcpStream::connect(("127.0.0.1", port)).await {
                connect(client, server, network, trigger).await;
            }
        });
    }
}

async fn connect(
    client: TcpStream,
    server: TcpStream,
    network: watch::Receiver<Network>,
    trigger: Trigger,
) {
    let (from_client, to_client) = client.into_split();
    let (from_server, to_server) = server.into_split();
    let cuts_reply = AtomicBool::new(false);
    let fault_of = |bytes: &[u8]| {
        let mut trigger = trigger.lock().unwrap();
        let contains = |words: &[u8]| bytes.windows(words.len()).any(|part| part == words);
        trigger.take_if(|(words, _)| contains(words))
    };
    let on_request = |bytes: &[u8]| match fault_of(bytes) {
        Some((_, Fault::Blackhole)) => Network::Blackhole,
        Some((_, Fault::CutReply)) => {
            cuts_reply.store(true, Ordering::SeqCst);
            Network::Works
        }
        None => Network::Works,
    };
    // The statements before COMMIT in the same message have replies, too. A server that can't send them ends the transaction.
    let on_reply = |bytes: &[u8]| {
        let committed = b"COMMIT\0";
        match cuts_reply.load(Ordering::SeqCst) {
            true if bytes.windows(committed.len()).any(|part| part == committed) => {
                Network::Refuses
            }
            true => Network::Blackhole,
            false => Network::Works,
        }
    };
    let mut refusing = network.clone();
    tokio::select! {
        () = forward(from_client, to_server, network.clone(), on_request) => {}
        () = forward(from_server, to_client, network, on_reply) => {}
        _ = refusing.wait_for(|network| *network == Network::Refuses) => {}
    }
}

/// Forwards bytes while the network and this connection work. Dropped bytes never arrive.
async fn forward(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    network: watch::Receiver<Network>,
    on_bytes: impl Fn(&[u8]) -> Network,
) {
    let mut buffer = vec![0; 64 * 1024];
    let mut drops = false;
    while let Ok(read @ 1..) = from.read(&mut buffer).await {
        match on_bytes(&buffer[..read]) {
            Network::Works => drops |= *network.borrow() == Network::Blackhole,
            Network::Blackhole => drops = true,
            Network::Refuses => return,
        }
        if !drops && to.write_all(&buffer[..read]).await.is_err() {
            return;
        }
    }
}

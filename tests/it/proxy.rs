//! A TCP proxy that simulates network failures.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::{Notify, watch};

use crate::tasks::within_limit;

/// How much of what the server sends is read at a time.
const MAX_READ_BYTES: usize = 64 * 1024;

/// How many bytes the operating system may hold for a slow link.
const LINK_BUFFER_BYTES: u32 = 16 * 1024;

/// The state of the network.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Network {
    /// It forwards everything.
    Works,
    /// It holds everything back until it works again.
    Silent,
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
    link: Arc<Link>,
}

/// What the connections of a proxy have in common.
#[derive(Debug, Default)]
struct Link {
    /// How many bytes a second a connection carries to its client. As many as it can, if this is not given.
    bytes_per_second: Option<usize>,
    /// How many bytes the server has sent.
    sent: AtomicUsize,
    /// How to close each connection.
    cuts: Mutex<Vec<Weak<Notify>>>,
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
        Self::over(port, Link::default()).await
    }

    /// A proxy whose connections carry this many bytes a second to their clients.
    pub(crate) async fn slow(port: u16, bytes_per_second: usize) -> Self {
        let link = Link {
            bytes_per_second: Some(bytes_per_second),
            ..Link::default()
        };
        Self::over(port, link).await
    }

    async fn over(port: u16, link: Link) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (network, watched) = watch::channel(Network::Works);
        let (trigger, link) = (Trigger::default(), Arc::new(link));
        let connection = (watched, Arc::clone(&trigger), Arc::clone(&link));
        tokio::spawn(accept(listener, port, connection));
        Self {
            address,
            network,
            trigger,
            link,
        }
    }

    /// Closes about this part of the connections, and returns how many there were.
    pub(crate) fn cut(&self, part: f64) -> usize {
        let mut cuts = self.link.cuts.lock().unwrap();
        cuts.retain(|cut| cut.strong_count() > 0);
        let chosen = cuts.iter().filter(|_| fastrand::f64() < part);
        let chosen: Vec<_> = chosen.filter_map(Weak::upgrade).collect();
        chosen.iter().for_each(|cut| cut.notify_one());
        chosen.len()
    }

    /// How many bytes the server has sent.
    pub(crate) fn sent(&self) -> usize {
        self.link.sent.load(Ordering::SeqCst)
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
    (network, trigger, link): (watch::Receiver<Network>, Trigger, Arc<Link>),
) {
    loop {
        let (client, _) = listener.accept().await.unwrap();
        if *network.borrow() == Network::Refuses {
            continue;
        }
        let (network, trigger, link) = (network.clone(), Arc::clone(&trigger), Arc::clone(&link));
        tokio::spawn(async move {
            let socket = TcpSocket::new_v4().unwrap();
            if link.bytes_per_second.is_some() {
                // A slow link holds little of what it carries.
                socket.set_recv_buffer_size(LINK_BUFFER_BYTES).unwrap();
            }
            let server = socket.connect(([127, 0, 0, 1], port).into());
            if let Ok(server) = server.await {
                let cut = Arc::new(Notify::new());
                link.cuts.lock().unwrap().push(Arc::downgrade(&cut));
                tokio::select! {
                    () = connect(client, server, network, trigger, &link) => {}
                    () = cut.notified() => {}
                }
            }
        });
    }
}

async fn connect(
    client: TcpStream,
    server: TcpStream,
    network: watch::Receiver<Network>,
    trigger: Trigger,
    link: &Link,
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
        link.sent.fetch_add(bytes.len(), Ordering::SeqCst);
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
        () = forward(from_client, to_server, network.clone(), on_request, None) => {}
        () = forward(from_server, to_client, network, on_reply, link.bytes_per_second) => {}
        _ = refusing.wait_for(|network| *network == Network::Refuses) => {}
    }
}

/// Forwards bytes while the network and this connection work. Dropped bytes never arrive.
async fn forward(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    mut network: watch::Receiver<Network>,
    on_bytes: impl Fn(&[u8]) -> Network,
    bytes_per_second: Option<usize>,
) {
    let size = bytes_per_second.map_or(MAX_READ_BYTES, |rate| (rate / 20).min(MAX_READ_BYTES));
    let mut buffer = vec![0; size];
    let mut drops = false;
    while let Ok(read @ 1..) = from.read(&mut buffer).await {
        if let Some(rate) = bytes_per_second {
            tokio::time::sleep(Duration::from_secs_f64(read as f64 / rate as f64)).await;
        }
        let _ = network
            .wait_for(|network| *network != Network::Silent)
            .await;
        match on_bytes(&buffer[..read]) {
            Network::Works | Network::Silent => drops |= *network.borrow() == Network::Blackhole,
            Network::Blackhole => drops = true,
            Network::Refuses => return,
        }
        if !drops && to.write_all(&buffer[..read]).await.is_err() {
            return;
        }
    }
}

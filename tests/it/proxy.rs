//! A network that fails on command: a TCP proxy in front of a server.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

/// What the network does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Network {
    /// It passes everything on.
    Works,
    /// It swallows everything, and says nothing: connections stay open, and new ones are taken.
    Swallows,
    /// It resets all connections, and takes no new one.
    Refuses,
}

/// A proxy. Its connections end with the test's runtime.
pub(crate) struct Proxy {
    pub(crate) address: SocketAddr,
    network: watch::Sender<Network>,
    cut: Cut,
}

/// The words whose answer is the next to be cut off.
type Cut = Arc<Mutex<Option<&'static [u8]>>>;

impl Proxy {
    pub(crate) async fn to(port: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (network, watched) = watch::channel(Network::Works);
        let cut = Cut::default();
        tokio::spawn(accept(listener, port, watched, Arc::clone(&cut)));
        Self {
            address,
            network,
            cut,
        }
    }

    /// Lets a client's next message with these words through, and cuts the connection when the answer comes.
    pub(crate) fn cut_answer_to(&self, words: &'static [u8]) {
        *self.cut.lock().unwrap() = Some(words);
    }

    /// Whether a message with the words came.
    pub(crate) fn has_cut(&self) -> bool {
        self.cut.lock().unwrap().is_none()
    }

    pub(crate) fn set(&self, network: Network) {
        self.network.send_replace(network);
    }
}

async fn accept(listener: TcpListener, port: u16, network: watch::Receiver<Network>, cut: Cut) {
    loop {
        let (client, _) = listener.accept().await.unwrap();
        if *network.borrow() == Network::Refuses {
            continue;
        }
        let mut refusing = network.clone();
        let (network, cut) = (network.clone(), Arc::clone(&cut));
        tokio::spawn(async move {
            let Ok(server) = TcpStream::connect(("127.0.0.1", port)).await else {
                return;
            };
            let (from_client, to_client) = client.into_split();
            let (from_server, to_server) = server.into_split();
            // Set when the next answer is the one to be cut off.
            let cuts = AtomicBool::new(false);
            let is_the_one = |bytes: &[u8]| {
                let mut cut = cut.lock().unwrap();
                let is_it =
                    cut.is_some_and(|words| bytes.windows(words.len()).any(|part| part == words));
                if is_it {
                    cuts.store(true, Ordering::SeqCst);
                    *cut = None;
                }
                false
            };
            tokio::select! {
                () = pass(from_client, to_server, network.clone(), is_the_one) => {}
                () = pass(from_server, to_client, network, |_| cuts.load(Ordering::SeqCst)) => {}
                _ = refusing.wait_for(|network| *network == Network::Refuses) => {}
            }
        });
    }
}

/// Passes bytes on while the network works, until it is cut. What it has swallowed never arrives.
async fn pass(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    network: watch::Receiver<Network>,
    is_cut: impl Fn(&[u8]) -> bool,
) {
    let mut buffer = vec![0; 64 * 1024];
    let mut broken = false;
    while let Ok(read @ 1..) = from.read(&mut buffer).await {
        if is_cut(&buffer[..read]) {
            return;
        }
        broken |= *network.borrow() == Network::Swallows;
        if !broken && to.write_all(&buffer[..read]).await.is_err() {
            return;
        }
    }
}

//! A network that fails on command: a TCP proxy in front of a server.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

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
    awaited: Awaited,
}

/// What becomes of a connection on which certain words come.
#[derive(Debug, Clone, Copy)]
enum Fault {
    /// They do not arrive, nor does anything else.
    Swallow,
    /// They do, and the connection is cut when the answer comes.
    CutAnswer,
}

/// The next fault, and the words that it waits for.
type Awaited = Arc<Mutex<Option<(&'static [u8], Fault)>>>;

impl Proxy {
    pub(crate) async fn to(port: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (network, watched) = watch::channel(Network::Works);
        let awaited = Awaited::default();
        tokio::spawn(accept(listener, port, watched, Arc::clone(&awaited)));
        Self {
            address,
            network,
            awaited,
        }
    }

    pub(crate) fn set(&self, network: Network) {
        self.network.send_replace(network);
    }

    /// Lets a client's next message with these words through, and cuts the connection when the answer comes.
    pub(crate) fn cut_answer_to(&self, words: &'static [u8]) {
        *self.awaited.lock().unwrap() = Some((words, Fault::CutAnswer));
    }

    /// Swallows a client's next message with these words, and whatever comes after on its connection.
    pub(crate) fn swallow_from(&self, words: &'static [u8]) {
        *self.awaited.lock().unwrap() = Some((words, Fault::Swallow));
    }

    /// Waits until the words came.
    pub(crate) async fn words_came(&self) {
        while self.awaited.lock().unwrap().is_some() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }
}

async fn accept(
    listener: TcpListener,
    port: u16,
    network: watch::Receiver<Network>,
    awaited: Awaited,
) {
    loop {
        let (client, _) = listener.accept().await.unwrap();
        if *network.borrow() == Network::Refuses {
            continue;
        }
        let (network, awaited) = (network.clone(), Arc::clone(&awaited));
        tokio::spawn(async move {
            if let Ok(server) = TcpStream::connect(("127.0.0.1", port)).await {
                connect(client, server, network, awaited).await;
            }
        });
    }
}

async fn connect(
    client: TcpStream,
    server: TcpStream,
    network: watch::Receiver<Network>,
    awaited: Awaited,
) {
    let (from_client, to_client) = client.into_split();
    let (from_server, to_server) = server.into_split();
    let cuts_answer = AtomicBool::new(false);
    let fault_of = |bytes: &[u8]| {
        let mut awaited = awaited.lock().unwrap();
        let is_it = |words: &[u8]| bytes.windows(words.len()).any(|part| part == words);
        awaited.take_if(|(words, _)| is_it(words))
    };
    let meets_request = |bytes: &[u8]| match fault_of(bytes) {
        Some((_, Fault::Swallow)) => Network::Swallows,
        Some((_, Fault::CutAnswer)) => {
            cuts_answer.store(true, Ordering::SeqCst);
            Network::Works
        }
        None => Network::Works,
    };
    let meets_answer = |_: &[u8]| match cuts_answer.load(Ordering::SeqCst) {
        true => Network::Refuses,
        false => Network::Works,
    };
    let mut refusing = network.clone();
    tokio::select! {
        () = pass(from_client, to_server, network.clone(), meets_request) => {}
        () = pass(from_server, to_client, network, meets_answer) => {}
        _ = refusing.wait_for(|network| *network == Network::Refuses) => {}
    }
}

/// Passes bytes on while the network works, and this connection. What it has swallowed never arrives.
async fn pass(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    network: watch::Receiver<Network>,
    meets: impl Fn(&[u8]) -> Network,
) {
    let mut buffer = vec![0; 64 * 1024];
    let mut broken = false;
    while let Ok(read @ 1..) = from.read(&mut buffer).await {
        match meets(&buffer[..read]) {
            Network::Works => broken |= *network.borrow() == Network::Swallows,
            Network::Swallows => broken = true,
            Network::Refuses => return,
        }
        if !broken && to.write_all(&buffer[..read]).await.is_err() {
            return;
        }
    }
}

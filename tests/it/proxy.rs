//! A network that fails on command: a TCP proxy in front of a server.

use std::net::SocketAddr;

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
}

impl Proxy {
    pub(crate) async fn to(port: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (network, watched) = watch::channel(Network::Works);
        tokio::spawn(accept(listener, port, watched));
        Self { address, network }
    }

    pub(crate) fn set(&self, network: Network) {
        self.network.send_replace(network);
    }
}

async fn accept(listener: TcpListener, port: u16, network: watch::Receiver<Network>) {
    loop {
        let (client, _) = listener.accept().await.unwrap();
        if *network.borrow() == Network::Refuses {
            continue;
        }
        let mut refusing = network.clone();
        let network = network.clone();
        tokio::spawn(async move {
            let Ok(server) = TcpStream::connect(("127.0.0.1", port)).await else {
                return;
            };
            let (from_client, to_client) = client.into_split();
            let (from_server, to_server) = server.into_split();
            tokio::select! {
                () = pass(from_client, to_server, network.clone()) => {}
                () = pass(from_server, to_client, network) => {}
                _ = refusing.wait_for(|network| *network == Network::Refuses) => {}
            }
        });
    }
}

/// Passes bytes on while the network works. What it has swallowed never arrives.
async fn pass(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, network: watch::Receiver<Network>) {
    let mut buffer = vec![0; 64 * 1024];
    let mut broken = false;
    while let Ok(read @ 1..) = from.read(&mut buffer).await {
        broken |= *network.borrow() == Network::Swallows;
        if !broken && to.write_all(&buffer[..read]).await.is_err() {
            return;
        }
    }
}

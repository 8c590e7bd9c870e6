//! Servers that tests start for themselves, each on a free port of the loopback, gone with the test.

use std::net::{Ipv4Addr, TcpListener};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use tempfile::TempDir;
use tokio::net::TcpStream;
use tokio_rustls::rustls::pki_types::CertificateDer;

/// A Redis that holds nothing.
pub(crate) struct Redis {
    process: Child,
    pub(crate) port: u16,
}

impl Redis {
    pub(crate) async fn start() -> Self {
        Self::start_at(free_port()).await
    }

    async fn start_at(port: u16) -> Self {
        let mut command = Command::new("redis-server");
        command.args([
            "--bind",
            "127.0.0.1",
            "--save",
            "",
            "--appendonly",
            "no",
            "--dir",
            "/",
        ]);
        command.arg("--port").arg(port.to_string());
        let process = command.stdout(Stdio::null()).spawn();
        let process = process.expect("redis-server is missing: tests/run.sh installs it");
        let redis = Self { process, port };
        while redis
            .client()
            .get_multiplexed_async_connection()
            .await
            .is_err()
        {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        redis
    }

    pub(crate) fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    fn client(&self) -> redis::Client {
        redis::Client::open(self.url()).unwrap()
    }

    /// Sends a command, given as its words.
    pub(crate) async fn say(&self, command: &[&str]) {
        let mut connection = self
            .client()
            .get_multiplexed_async_connection()
            .await
            .unwrap();
        let mut said = redis::cmd(command[0]);
        said.arg(&command[1..]);
        said.exec_async(&mut connection).await.unwrap();
    }

    /// Kills it, as `kill -9` does.
    pub(crate) fn kill(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }

    /// Starts it again where it was, empty.
    pub(crate) async fn start_again(&mut self) {
        *self = Self::start_at(self.port).await;
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// nginx with `docs/nginx.conf`, in front of two nodes. It is one process, of the user who runs the test.
pub(crate) struct Nginx {
    process: Child,
    /// Where it speaks TLS, and where it does not.
    pub(crate) port: u16,
    pub(crate) plain_port: u16,
    /// Of `app.example`, signed by itself.
    pub(crate) certificate: CertificateDer<'static>,
    _folder: TempDir,
}

/// What `docs/nginx.conf` leaves to whoever includes it, and folders that this user may write to.
const NGINX: &str = "
    daemon off; master_process off; pid nginx.pid; error_log stderr crit;
    events {}
    http {
        access_log off;
        client_body_temp_path body; proxy_temp_path proxy;
        fastcgi_temp_path fastcgi; uwsgi_temp_path uwsgi; scgi_temp_path scgi;
        include site.conf;
    }";

impl Nginx {
    pub(crate) async fn start(nodes: [&str; 2]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| {
            let path = folder.path().join(name);
            std::fs::write(&path, text).unwrap();
            path.display().to_string()
        };
        let made = rcgen::generate_simple_self_signed(["app.example".to_owned()]).unwrap();
        let (port, plain_port) = (free_port(), free_port());
        let mut site = include_str!("../../docs/nginx.conf").to_owned();
        for (sample, ours) in [
            ("listen 443", &*format!("listen 127.0.0.1:{port}")),
            ("listen 80", &*format!("listen 127.0.0.1:{plain_port}")),
            ("/etc/ssl/app.example.pem", &write("pem", &made.cert.pem())),
            (
                "/etc/ssl/app.example.key",
                &write("key", &made.signing_key.serialize_pem()),
            ),
            ("127.0.0.1:8001", nodes[0]),
            ("127.0.0.1:8002", nodes[1]),
        ] {
            assert!(site.contains(sample), "docs/nginx.conf has {sample}");
            site = site.replace(sample, ours);
        }
        write("site.conf", &site);
        write("nginx.conf", NGINX);
        // Debian keeps it out of the path of ordinary users.
        let path = std::env::var("PATH").unwrap_or_default() + ":/usr/sbin";
        let mut command = Command::new("nginx");
        command.env("PATH", path).arg("-p").arg(folder.path());
        command.args(["-e", "stderr", "-c", "nginx.conf"]);
        let process = command.spawn();
        let mut nginx = Self {
            process: process.expect("nginx is missing: tests/run.sh installs it"),
            port,
            plain_port,
            certificate: made.cert.der().clone(),
            _folder: folder,
        };
        while TcpStream::connect((Ipv4Addr::LOCALHOST, port))
            .await
            .is_err()
        {
            let ended = nginx.process.try_wait().unwrap();
            assert!(ended.is_none(), "nginx did not start");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        nginx
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

pub(crate) fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().port()
}

//! Real reverse proxies, with the configurations in `docs/`.

use std::net::Ipv4Addr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use tempfile::TempDir;
use tokio::net::TcpStream;
use tokio_rustls::rustls::pki_types::CertificateDer;

use crate::servers::free_port;
use crate::tasks::within_limit;

/// Which program it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Nginx,
    Haproxy,
    Caddy,
}

/// A running proxy in front of two nodes: a process of the user who runs the test. It is killed when dropped.
pub(super) struct ReverseProxy {
    process: Child,
    /// The ports with and without TLS.
    pub(super) port: u16,
    pub(super) plain_port: u16,
    /// The self-signed certificate of `app.example`.
    pub(super) certificate: CertificateDer<'static>,
    folder: TempDir,
}

/// The rest of a configuration, with folders that this user may write to.
const NGINX: &str = "
    daemon off; master_process off; pid nginx.pid; error_log stderr crit;
    events {}
    http {
        access_log off;
        client_body_temp_path body; proxy_temp_path proxy;
        fastcgi_temp_path fastcgi; uwsgi_temp_path uwsgi; scgi_temp_path scgi;
        include site.conf;
    }";

/// Logs requests when they are answered, with their version of HTTP.
const HAPROXY: &str = "
    defaults
        log stdout format raw daemon
        option httplog
        option logasap
    ";

impl ReverseProxy {
    pub(super) async fn start(kind: Kind, nodes: [&str; 2]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name).display().to_string();
        let write = |name: &str, text: &str| {
            std::fs::write(folder.path().join(name), text).unwrap();
            path(name)
        };
        let made = rcgen::generate_simple_self_signed(["app.example".to_owned()]).unwrap();
        let (port, plain_port) = (free_port(), free_port());
        let (certificate, key) = (made.cert.pem(), made.signing_key.serialize_pem());
        let (sample, certificate) = match kind {
            Kind::Nginx => (include_str!("../../../docs/nginx.conf"), certificate),
            // It reads both from one file.
            Kind::Haproxy => (
                include_str!("../../../docs/haproxy.cfg"),
                certificate + &key,
            ),
            Kind::Caddy => (include_str!("../../../docs/Caddyfile"), certificate),
        };
        let mut site = sample.to_owned();
        let mut replace = |sample: &str, ours: &str| {
            assert!(site.contains(sample), "{kind:?}: {sample} is missing");
            site = site.replace(sample, ours);
        };
        replace("/etc/ssl/app.example.pem", &write("pem", &certificate));
        replace("127.0.0.1:8001", nodes[0]);
        replace("127.0.0.1:8002", nodes[1]);
        let mut command = match kind {
            Kind::Nginx => {
                replace("/etc/ssl/app.example.key", &write("key", &key));
                replace("listen 443", &format!("listen 127.0.0.1:{port}"));
                replace("listen 80", &format!("listen 127.0.0.1:{plain_port}"));
                write("site.conf", &site);
                write("nginx.conf", NGINX);
                let mut command = program("nginx");
                command.arg("-p").arg(folder.path());
                command.args(["-e", "stderr", "-c", "nginx.conf"]);
                command
            }
            Kind::Haproxy => {
                replace("bind :443", &format!("bind 127.0.0.1:{port}"));
                replace("bind :80", &format!("bind 127.0.0.1:{plain_port}"));
                replace("\ndefaults\n", HAPROXY);
                let retry = include_str!("../../../docs/haproxy_retry.http");
                let retry = write("haproxy_retry.http", retry);
                replace("/etc/haproxy/haproxy_retry.http", &retry);
                let mut command = program("haproxy");
                command.args(["-db", "-f", &write("haproxy.cfg", &site)]);
                command
            }
            Kind::Caddy => {
                replace("/etc/ssl/app.example.key", &write("key", &key));
                replace(
                    "app.example {",
                    // The tests' clients call it by its address, too.
                    "app.example, 127.0.0.1 {",
                );
                let options = format!(
                    "{{\n admin off\n http_port {plain_port}\n https_port {port}\n default_bind 127.0.0.1\n}}\n"
                );
                let mut command = program("caddy");
                command.args(["run", "--adapter", "caddyfile", "--config"]);
                command.arg(write("Caddyfile", &(options + &site)));
                command
                    .env("HOME", folder.path())
                    .env("XDG_DATA_HOME", folder.path());
                command.stderr(Stdio::null());
                command
            }
        };
        let log = std::fs::File::create(folder.path().join("log")).unwrap();
        let process = command.stdout(log).spawn();
        let missing = |error| panic!("{kind:?} is missing: tests/run.sh installs it: {error}");
        let mut proxy = Self {
            process: process.unwrap_or_else(missing),
            port,
            plain_port,
            certificate: made.cert.der().clone(),
            folder,
        };
        let listening = async {
            for port in [port, plain_port] {
                while let Err(error) = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await {
                    let ended = proxy.process.try_wait().unwrap();
                    assert!(ended.is_none(), "{kind:?} ended at its start: {error}");
                    tokio::time::sleep(Duration::from_millis(10)).await;
                }
            }
        };
        within_limit("a connection to the proxy", listening).await;
        proxy
    }

    /// What it has written to its standard output.
    pub(super) fn log(&self) -> String {
        let path: &Path = self.folder.path();
        std::fs::read_to_string(path.join("log")).unwrap()
    }
}

/// A command. On Debian some are not in the PATH of ordinary users.
fn program(name: &str) -> Command {
    let path = std::env::var("PATH").unwrap_or_default() + ":/usr/sbin";
    let mut command = Command::new(name);
    command.env("PATH", path);
    command
}

impl Drop for ReverseProxy {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

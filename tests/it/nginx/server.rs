//! A real nginx with the configuration in `docs/nginx.conf`.

use std::net::Ipv4Addr;
use std::process::{Child, Command};
use std::time::Duration;

use tempfile::TempDir;
use tokio::net::TcpStream;
use tokio_rustls::rustls::pki_types::CertificateDer;

use crate::servers::free_port;
use crate::tasks::within_limit;

/// A running nginx in front of two nodes: one process of the user who runs the test. It is killed when dropped.
pub(super) struct Nginx {
    process: Child,
    /// The ports with and without TLS.
    pub(super) port: u16,
    pub(super) plain_port: u16,
    /// The self-signed certificate of `app.example`.
    pub(super) certificate: CertificateDer<'static>,
    _folder: TempDir,
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

impl Nginx {
    pub(super) async fn start(nodes: [&str; 2]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| {
            let path = folder.path().join(name);
            std::fs::write(&path, text).unwrap();
            path.display().to_string()
        };
        let made = rcgen::generate_simple_self_signed(["app.example".to_owned()]).unwrap();
        let (port, plain_port) = (free_port(), free_port());
        let mut site = include_str!("../../../docs/nginx.conf").to_owned();
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
            assert!(
                site.contains(sample),
                "docs/nginx.conf: {sample} is missing"
            );
            site = site.replace(sample, ours);
        }
        write("site.conf", &site);
        write("nginx.conf", NGINX);
        // On Debian it is not in the PATH of ordinary users.
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
        let listening = async {
            while let Err(error) = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await {
                let ended = nginx.process.try_wait().unwrap();
                assert!(ended.is_none(), "nginx ended at its start: {error}");
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        within_limit("a connection to nginx", listening).await;
        nginx
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

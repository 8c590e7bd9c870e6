//! Where the database is, as a URL says it, and how it is connected to.

use std::fmt;
use std::time::Duration;

use percent_encoding::percent_decode_str;
use tokio::time::timeout;
use tokio_postgres::config::{Host, SslMode};
use tokio_postgres::tls::TlsStream;
use tokio_postgres::{Client, Config, Connection, Socket};
use tokio_postgres_rustls::MakeRustlsConnect;

use crate::error::{ConnectError, Failure};
use crate::tls::{self, Check};

/// How long a connection may take to be made, with each of the hosts.
const CONNECT_TIME: Duration = Duration::from_secs(5);
/// After how long without a word a connection is asked whether it is alive, how often, and at what intervals.
const KEEPALIVE: (Duration, u32, Duration) = (Duration::from_secs(10), 3, Duration::from_secs(5));
/// What `tokio-postgres` has where the URL says nothing.
const USUAL_KEEPALIVE: Duration = Duration::from_secs(2 * 60 * 60);

#[derive(Clone)]
pub(crate) struct Address {
    pub(crate) config: Config,
    pub(crate) tls: MakeRustlsConnect,
}

impl Address {
    pub(crate) fn of(url: &str) -> Result<Self, ConnectError> {
        // The parser's own errors may quote the password.
        let malformed =
            || ConnectError::Url("it must be like postgres://user@host/database".into());
        if !["postgres://", "postgresql://"]
            .iter()
            .any(|scheme| url.starts_with(scheme))
        {
            return Err(malformed());
        }
        let (before, query) = split_query(url);
        let (mut mode, mut root, mut others) = (None, None, Vec::new());
        for option in query.split('&').filter(|option| !option.is_empty()) {
            match option.split_once('=') {
                Some(("sslmode", value)) => mode = Some(value),
                Some(("sslrootcert", value)) => {
                    let path = percent_decode_str(value).decode_utf8();
                    root = Some(path.map_err(|_| malformed())?);
                }
                _ => {
                    let name = option.split('=').next().unwrap_or_default();
                    let known = format!("postgres://host/?{option}").parse::<Config>();
                    known.map_err(|_| {
                        ConnectError::Url(format!("what it says of `{name}` is not understood"))
                    })?;
                    others.push(option);
                }
            }
        }
        let mut config: Config = format!("{before}?{}", others.join("&"))
            .parse()
            .map_err(|_| malformed())?;
        let (mode, check) = security(mode, root.as_deref())?;
        config.ssl_mode(mode);
        if config.get_connect_timeout().is_none() {
            config.connect_timeout(CONNECT_TIME);
        }
        if config.get_keepalives_idle() == USUAL_KEEPALIVE {
            let (idle, times, interval) = KEEPALIVE;
            config
                .keepalives_idle(idle)
                .keepalives_retries(times)
                .keepalives_interval(interval);
        }
        if config.get_application_name().is_none() {
            config.application_name("fieldsync");
        }
        let tls = tls::connector(check, root.as_deref())?;
        Ok(Self { config, tls })
    }

    /// Sets a parameter of the session, unless the URL does.
    pub(crate) fn set(&mut self, name: &str, value: &str) {
        let given = self.config.get_options().unwrap_or_default();
        // The last one counts.
        self.config.options(format!("-c {name}={value} {given}"));
    }

    /// How long connecting may take, where the last of the hosts is the one.
    pub(crate) fn connect_time(&self) -> Duration {
        let hosts = self.config.get_hosts().len().max(1);
        let each = self.config.get_connect_timeout();
        each.copied().unwrap_or(CONNECT_TIME) * u32::try_from(hosts).unwrap_or(u32::MAX)
    }

    /// Connects. What is to be driven is the second.
    pub(crate) async fn connect(
        &self,
    ) -> Result<
        (
            Client,
            Connection<Socket, impl TlsStream + Unpin + Send + use<>>,
        ),
        Failure,
    > {
        let connecting = timeout(self.connect_time(), self.config.connect(self.tls.clone()));
        Ok(connecting.await.map_err(|_| Failure::NoAnswer)??)
    }
}

/// The servers, without names and passwords.
impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ports = self.config.get_ports();
        for (number, host) in self.config.get_hosts().iter().enumerate() {
            let separator = if number > 0 { "," } else { "" };
            let port = ports.get(number).or(ports.first()).unwrap_or(&5432);
            match host {
                Host::Tcp(name) => write!(f, "{separator}{name}:{port}")?,
                #[cfg(unix)]
                Host::Unix(path) => write!(f, "{separator}{}:{port}", path.display())?,
            }
        }
        Ok(())
    }
}

/// What stands before the question mark, and behind it. A password may have one that is not escaped.
fn split_query(url: &str) -> (&str, &str) {
    let password_end = url.find('@').unwrap_or(0);
    match url[password_end..].find('?') {
        Some(at) => (&url[..password_end + at], &url[password_end + at + 1..]),
        None => (url, ""),
    }
}

/// `sslmode` and `sslrootcert` as libpq has them (PostgreSQL's manual, "SSL Support").
fn security(mode: Option<&str>, root: Option<&str>) -> Result<(SslMode, Check), ConnectError> {
    let is_system = root == Some("system");
    Ok(match mode {
        None if is_system => (SslMode::Require, Check::ChainAndName),
        Some("disable") => (SslMode::Disable, Check::Nothing),
        None | Some("prefer") => (SslMode::Prefer, Check::Nothing),
        Some("require") if root.is_none() => (SslMode::Require, Check::Nothing),
        Some("require" | "verify-ca") if !is_system => (SslMode::Require, Check::Chain),
        Some("require" | "verify-ca") => {
            let advice = "sslrootcert=system needs sslmode=verify-full";
            return Err(ConnectError::Url(advice.into()));
        }
        Some("verify-full") => (SslMode::Require, Check::ChainAndName),
        Some(_) => {
            let advice = "sslmode must be disable, prefer, require, verify-ca or verify-full";
            return Err(ConnectError::Url(advice.into()));
        }
    })
}

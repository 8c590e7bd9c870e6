//! The address of a database, parsed from a URL, and how to connect to it.

use std::fmt;
use std::time::Duration;

use deadpool_postgres::{Connect, Manager, ManagerConfig};
use futures_util::future::BoxFuture;
use percent_encoding::percent_decode_str;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_postgres::config::{Host, SslMode};
use tokio_postgres::tls::MakeTlsConnect;
use tokio_postgres::{Client, Config, Connection, Socket};
use tokio_postgres_rustls::MakeRustlsConnect;

use crate::error::{ConnectError, Failure};
use crate::tls::{self, Check};

/// How long connecting to one host may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Keepalive probes: after how much silence, how many, and at what interval.
const KEEPALIVE: (Duration, u32, Duration) = (Duration::from_secs(10), 3, Duration::from_secs(5));
/// The default of `tokio-postgres`, if the URL does not set it.
const DEFAULT_KEEPALIVE: Duration = Duration::from_secs(2 * 60 * 60);

/// Settings on which the texts of values depend.
pub(crate) const TEXT_SETTINGS: [(&str, &str); 6] = [
    ("DateStyle", "ISO"),
    ("IntervalStyle", "postgres"),
    ("TimeZone", "UTC"),
    ("extra_float_digits", "1"),
    ("bytea_output", "hex"),
    ("standard_conforming_strings", "on"),
];

/// The connection, which must be polled for its client to make progress.
pub(crate) type PgConnection =
    Connection<Socket, <MakeRustlsConnect as MakeTlsConnect<Socket>>::Stream>;

#[derive(Clone)]
pub(crate) struct Address {
    /// One configuration per host, in the URL's order.
    hosts: Vec<Config>,
    tls: MakeRustlsConnect,
    /// Statements that each session begins with.
    settings: String,
    /// The most connections, if the URL says so.
    pub(crate) max_connections: Option<usize>,
}

impl Address {
    pub(crate) fn of(url: &str) -> Result<Self, ConnectError> {
        // The errors of the parser may quote the password.
        let malformed = || ConnectError::Url("expected postgres://user@host/database".into());
        if !["postgres://", "postgresql://"]
            .iter()
            .any(|scheme| url.starts_with(scheme))
        {
            return Err(malformed());
        }
        let (before, query) = split_query(url);
        let (mut mode, mut root, mut others) = (None, None, Vec::new());
        let mut max_connections = None;
        for option in query.split('&').filter(|option| !option.is_empty()) {
            match option.split_once('=') {
                Some(("sslmode", value)) => mode = Some(value),
                Some(("sslrootcert", value)) => {
                    let path = percent_decode_str(value).decode_utf8();
                    root = Some(path.map_err(|_| malformed())?);
                }
                Some(("max_connections", value)) => {
                    let number = value.parse().ok().filter(|number| *number > 1);
                    let error = "the option `max_connections` must be a number above 1";
                    max_connections = Some(number.ok_or_else(|| ConnectError::Url(error.into()))?);
                }
                _ => {
                    let name = option.split('=').next().unwrap_or_default();
                    let known = format!("postgres://host/?{option}").parse::<Config>();
                    known.map_err(|_| {
                        ConnectError::Url(format!(
                            "the option `{name}` is unknown, or its value is invalid"
                        ))
                    })?;
                    others.push(option);
                }
            }
        }
        let (mode, check) = security(mode, root.as_deref())?;
        let tls = tls::connector(check, root.as_deref())?;
        let mut hosts = Vec::new();
        for one in one_by_one(before) {
            let url = format!("{one}?{}", others.join("&"));
            let mut config: Config = url.parse().map_err(|_| malformed())?;
            config.ssl_mode(mode);
            if config.get_connect_timeout().is_none() {
                config.connect_timeout(CONNECT_TIMEOUT);
            }
            if config.get_keepalives_idle() == DEFAULT_KEEPALIVE {
                let (idle, times, interval) = KEEPALIVE;
                config
                    .keepalives_idle(idle)
                    .keepalives_retries(times)
                    .keepalives_interval(interval);
            }
            if config.get_application_name().is_none() {
                config.application_name("fieldsync");
            }
            hosts.push(config);
        }
        Ok(Self {
            hosts,
            tls,
            settings: String::new(),
            max_connections,
        })
    }

    /// Sets a parameter of the session, unless the URL sets it. Poolers refuse parameters in the startup message, so that a
    /// statement sets it.
    pub(crate) fn set(&mut self, name: &str, value: &str) {
        let is_given = |config: &Config| {
            let given = config.get_options().unwrap_or_default();
            given
                .to_ascii_lowercase()
                .contains(&name.to_ascii_lowercase())
        };
        if !self.hosts.iter().any(is_given) {
            self.settings += &format!("set {name} = '{value}'; ");
        }
    }

    /// How long connecting may take, if only the last host accepts.
    pub(crate) fn connect_timeout(&self) -> Duration {
        self.hosts.iter().map(connect_timeout).sum()
    }

    /// Connects to the first host that answers and fits the URL's options.
    pub(crate) async fn connect(&self) -> Result<(Client, PgConnection), Failure> {
        let mut failure = Failure::NoAnswer;
        for config in &self.hosts {
            // A host may accept a connection and never answer.
            let connecting = timeout(connect_timeout(config), config.connect(self.tls.clone()));
            match connecting.await {
                Ok(Ok(connected)) => return Ok(connected),
                Ok(Err(error)) => failure = error.into(),
                Err(_) => {}
            }
        }
        Err(failure)
    }

    /// The manager of a pool whose connections are made by [`connect`](Self::connect).
    pub(crate) fn manager(self, recycling: ManagerConfig) -> Manager {
        Manager::from_connect(self.hosts[0].clone(), self, recycling)
    }
}

impl Connect for Address {
    fn connect(
        &self,
        _: &Config,
    ) -> BoxFuture<'_, Result<(Client, JoinHandle<()>), tokio_postgres::Error>> {
        Box::pin(async move {
            match Self::connect(self).await {
                Ok((client, connection)) => {
                    let driven = tokio::spawn(async { drop(connection.await) });
                    client.batch_execute(&self.settings).await?;
                    Ok((client, driven))
                }
                Err(Failure::Postgres(error)) => Err(error),
                // The pool's own timeout has passed by now.
                Err(_) => std::future::pending().await,
            }
        })
    }
}

/// How long connecting to one host may take.
fn connect_timeout(config: &Config) -> Duration {
    config
        .get_connect_timeout()
        .copied()
        .unwrap_or(CONNECT_TIMEOUT)
}

/// The servers, without user names and passwords.
impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, config) in self.hosts.iter().enumerate() {
            let separator = if number > 0 { "," } else { "" };
            let port = config.get_ports().first().unwrap_or(&5432);
            match config.get_hosts().first() {
                Some(Host::Tcp(name)) => write!(f, "{separator}{name}:{port}")?,
                #[cfg(unix)]
                Some(Host::Unix(path)) => write!(f, "{separator}{}:{port}", path.display())?,
                None => {}
            }
        }
        Ok(())
    }
}

/// Splits a URL with several hosts into one URL per host.
fn one_by_one(url: &str) -> Vec<String> {
    let start = url.find('@').map(|at| at + 1);
    let start = start.unwrap_or_else(|| url.find("://").map_or(0, |at| at + 3));
    let end = url[start..].find('/').map_or(url.len(), |at| start + at);
    let one = |host| format!("{}{host}{}", &url[..start], &url[end..]);
    url[start..end].split(',').map(one).collect()
}

/// Splits the URL at the question mark of its query. A password may contain one that is not escaped.
fn split_query(url: &str) -> (&str, &str) {
    let password_end = url.find('@').unwrap_or(0);
    match url[password_end..].find('?') {
        Some(at) => (&url[..password_end + at], &url[password_end + at + 1..]),
        None => (url, ""),
    }
}

/// `sslmode` and `sslrootcert` as in libpq (PostgreSQL's manual, "SSL Support").
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

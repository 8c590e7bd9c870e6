//! `sslmode` and `sslrootcert`, with a server that offers TLS and later does not.

use std::error::Error;
use std::time::Duration;

use fieldsync::backend::Broker as _;
use fieldsync_postgres::{ConnectError, PostgresBroker, PostgresStore};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};

use crate::cluster::{Cluster, connect};

/// The certificate of an authority, and a certificate for `localhost` that it issued, with its key.
fn certificates() -> (String, String, String) {
    let mut authority = CertificateParams::default();
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority = CertifiedIssuer::self_signed(authority, KeyPair::generate().unwrap()).unwrap();
    let key = KeyPair::generate().unwrap();
    let certificate = CertificateParams::new(["localhost".to_owned()]).unwrap();
    let certificate = certificate.signed_by(&key, &authority).unwrap();
    (authority.pem(), certificate.pem(), key.serialize_pem())
}

/// Whether a store connects with TLS to this URL, or why it does not connect.
async fn encrypted(cluster: &Cluster, url: &str) -> Result<bool, ConnectError> {
    let _store = PostgresStore::connect(url).await?;
    let client = connect(&cluster.url("postgres")).await;
    let sql = "select ssl from pg_stat_ssl join pg_stat_activity using (pid) where application_name = 'fieldsync'";
    loop {
        // A connection that was closed a moment ago may still be listed.
        match client.query(sql, &[]).await.unwrap().as_slice() {
            [row] => return Ok(row.get(0)),
            _ => tokio::time::sleep(Duration::from_millis(10)).await,
        }
    }
}

fn causes(error: &ConnectError) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text += &format!(": {cause}");
        source = cause.source();
    }
    text
}

#[tokio::test(flavor = "multi_thread")]
async fn the_url_decides_whether_tls_is_used_and_what_is_verified() {
    let (root, certificate, key) = certificates();
    let cluster = Cluster::fast();
    let certificate = cluster.write("server.pem", &certificate);
    let key = cluster.write("server.key", &key);
    let roots = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        let path = roots.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.display().to_string().replace('/', "%2F")
    };
    let (ours, theirs) = (file("ours", &root), file("theirs", &certificates().0));
    let empty = file("empty", "no certificate");
    let admin = connect(&cluster.url("postgres")).await;
    for sql in [
        &format!(
            "alter system set ssl_cert_file = '{}'",
            certificate.display()
        ),
        &format!("alter system set ssl_key_file = '{}'", key.display()),
        "alter system set ssl = on",
        "select pg_reload_conf()",
    ] {
        admin.batch_execute(sql).await.unwrap();
    }
    let port = cluster.port;
    let url =
        |host: &str, options: &str| format!("postgres://postgres@{host}:{port}/postgres?{options}");
    // The server reloads its settings a moment later.
    while encrypted(&cluster, &url("localhost", "sslmode=require"))
        .await
        .is_err()
    {
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    for (host, options, expected) in [
        ("127.0.0.1", String::new(), true),
        ("127.0.0.1", "sslmode=disable".into(), false),
        ("127.0.0.1", "sslmode=prefer".into(), true),
        ("127.0.0.1", "sslmode=require".into(), true),
        (
            "127.0.0.1",
            format!("sslmode=verify-ca&sslrootcert={ours}"),
            true,
        ),
        (
            "127.0.0.1",
            format!("sslmode=require&sslrootcert={ours}"),
            true,
        ),
        (
            "localhost",
            format!("sslrootcert={ours}&sslmode=verify-full"),
            true,
        ),
    ] {
        let url = url(host, &options);
        assert_eq!(
            encrypted(&cluster, &url).await.unwrap(),
            expected,
            "{options}"
        );
    }
    for (host, options, words) in [
        (
            "127.0.0.1",
            format!("sslmode=verify-full&sslrootcert={ours}"),
            "not valid for name",
        ),
        (
            "localhost",
            format!("sslmode=verify-full&sslrootcert={theirs}"),
            "invalid peer certificate",
        ),
        (
            "localhost",
            format!("sslmode=verify-ca&sslrootcert={theirs}"),
            "invalid peer certificate",
        ),
        (
            "localhost",
            format!("sslmode=require&sslrootcert={theirs}"),
            "invalid peer certificate",
        ),
        (
            "localhost",
            "sslrootcert=system".into(),
            "invalid peer certificate",
        ),
        (
            "localhost",
            "sslmode=verify-full".into(),
            "invalid peer certificate",
        ),
        (
            "localhost",
            "sslrootcert=system&sslmode=require".into(),
            "verify-full",
        ),
        ("localhost", "sslmode=allow".into(), "sslmode must be"),
        (
            "localhost",
            "sslmode=verify-ca&sslrootcert=%2Fno%2Ffile".into(),
            "sslrootcert=/no/file",
        ),
        (
            "localhost",
            format!("sslmode=verify-ca&sslrootcert={empty}"),
            "it contains none",
        ),
        ("localhost", "sslcert=mine.pem".into(), "`sslcert`"),
    ] {
        let error = encrypted(&cluster, &url(host, &options)).await.unwrap_err();
        let error = causes(&error);
        assert!(error.contains(words), "{options}: {error}");
    }
    // The broker connects in the same way.
    let checked = url(
        "localhost",
        &format!("sslmode=verify-full&sslrootcert={ours}"),
    );
    assert!(
        PostgresBroker::connect(&checked)
            .await
            .unwrap()
            .subscribe()
            .await
            .is_ok()
    );
    let refused = url(
        "localhost",
        &format!("sslmode=verify-full&sslrootcert={theirs}"),
    );
    assert!(
        PostgresBroker::connect(&refused)
            .await
            .unwrap()
            .subscribe()
            .await
            .is_err()
    );

    admin
        .batch_execute("alter system set ssl = off")
        .await
        .unwrap();
    admin
        .batch_execute("select pg_reload_conf()")
        .await
        .unwrap();
    while encrypted(&cluster, &url("localhost", "sslmode=prefer"))
        .await
        .unwrap()
    {
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    let error = encrypted(&cluster, &url("localhost", "sslmode=require")).await;
    let error = causes(&error.unwrap_err());
    assert!(error.contains("does not support TLS"), "{error}");
}

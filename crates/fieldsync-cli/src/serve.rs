//! `fieldsync serve`: an engine with a collection for each table, behind either web framework.

use std::sync::Arc;

use fieldsync::{Engine, EngineBuilder, StartError};
use fieldsync_postgres::PostgresBroker;
use fieldsync_redis::RedisBroker;
use serde_json::json;
use tokio::net::{TcpListener, lookup_host};

use crate::arguments::{ServeOptions, ServerOption};
use crate::database::{Database, explain};
use crate::progress::during;
use crate::site::Site;
use crate::tables::{Service, Table, fit, selected};
use crate::{actix, axum};

pub(crate) async fn serve(options: ServeOptions) -> Result<(), String> {
    let is_captured = options.capture.is_on()?;
    // Before the database is touched.
    let listener = listen(&options).await?;
    let selection = &options.selection;
    let database = Database::open(&selection.dsn, selection.side_schema.as_deref()).await?;
    let mut tables = selected(&database, selection).await?;
    let service = Service {
        is_captured,
        is_read_only: options.read_only,
    };
    let fitted = fit(&database, &mut tables, service).await;
    fitted.map_err(|error| explain("can't serve the database", &error))?;
    let collections = json!({"collections": tables.iter().map(Table::to_json).collect::<Vec<_>>()});
    let served: Vec<_> = tables.iter().filter_map(Table::served).collect();
    let count = served.len();
    if count == 0 {
        return Err("no table can be served; `fieldsync check` says why".to_owned());
    }
    let mut builder = Engine::builder();
    for collection in served {
        builder = builder.collection(collection.clone());
    }
    for origin in &options.allow_origin {
        builder = builder.allow_origin(origin);
    }
    let builder = with_broker(builder, options.broker.as_deref()).await?;
    let starting = database.store_of(builder).start();
    let engine = during("Preparing the tables", starting).await;
    let engine = engine.map_err(|error| match error {
        StartError::Origin(_) => format!("--allow-origin: {error}"),
        error => explain("can't serve the database", &error),
    })?;
    let site = Arc::new(Site {
        hosts: options.host.clone(),
        origins: options.allow_origin.clone(),
        collections: collections.to_string(),
    });
    let address = listener.local_addr().map_err(|error| error.to_string())?;
    println!(
        "Serving {count} of {} tables: http://{address}/",
        tables.len()
    );
    match options.server {
        ServerOption::Axum => axum::serve(listener, engine, site, &options.allow_origin).await,
        ServerOption::Actix => actix::serve(listener, engine, site, &options.allow_origin).await,
    }
}

/// Listens, on the loopback unless others may reach the server.
async fn listen(options: &ServeOptions) -> Result<TcpListener, String> {
    let listen = &options.listen;
    let failed = |error: std::io::Error| {
        format!("can't listen on {listen}: {error}\nName another address: --listen 127.0.0.1:8001")
    };
    let addresses: Vec<_> = lookup_host(listen).await.map_err(failed)?.collect();
    if !options.open_to_everyone && !addresses.iter().all(|address| address.ip().is_loopback()) {
        return Err(format!(
            "--listen {listen}: others could reach this address, and there is no login: everyone could read and write every \
             table. Add --open-to-everyone if that is wanted"
        ));
    }
    TcpListener::bind(&*addresses).await.map_err(failed)
}

async fn with_broker(builder: EngineBuilder, url: Option<&str>) -> Result<EngineBuilder, String> {
    let Some(url) = url else {
        return Ok(builder);
    };
    match url.split_once(':') {
        Some(("postgres" | "postgresql", _)) => {
            let broker = PostgresBroker::connect(url).await;
            Ok(builder.broker(broker.map_err(|error| explain("--broker", &error))?))
        }
        Some((scheme, _)) if scheme.starts_with("redis") => {
            let broker = RedisBroker::connect(url).await;
            Ok(builder.broker(broker.map_err(|error| explain("--broker", &error))?))
        }
        _ => {
            Err("--broker: expected redis://HOST:PORT or postgres://USER@HOST/DATABASE".to_owned())
        }
    }
}

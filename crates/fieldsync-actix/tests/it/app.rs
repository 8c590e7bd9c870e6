//! A typical app, listening on a free port.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, Weak};

use actix_web::body::MessageBody;
use actix_web::dev::{ServerHandle, ServiceRequest, ServiceResponse};
use actix_web::middleware::{Next, from_fn};
use actix_web::{App as ActixApp, Error, HttpMessage as _, HttpServer, web};
use fieldsync::{Collection, Engine, MemoryStore, Principal};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

#[derive(Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct User {
    pub(crate) first_name: String,
    pub(crate) last_name: String,
}

type Names = Arc<Mutex<Vec<Weak<str>>>>;

/// A running app. It stops when it is dropped.
pub(crate) struct App {
    pub(crate) engine: Engine,
    pub(crate) address: SocketAddr,
    /// The names of the principals of all requests.
    names: Names,
    server: ServerHandle,
}

impl App {
    pub(crate) async fn start() -> Self {
        let engine = Engine::builder()
            .collection(Collection::of::<User>("users").open_to_everyone())
            .store(MemoryStore::new())
            .start()
            .await
            .unwrap();
        let names = Names::default();
        let named = Arc::clone(&names);
        let mounted = engine.clone();
        let app = move || {
            let named = Arc::clone(&named);
            let log_in = from_fn(move |request, next| log_in(Arc::clone(&named), request, next));
            ActixApp::new()
                .service(web::scope("/api").service(fieldsync_actix::rest(&mounted)))
                .service(web::scope("/of/{whom}").service(fieldsync_actix::rest(&mounted)))
                .route("/ws/user-updates/", fieldsync_actix::live(&mounted))
                .wrap(log_in)
        };
        let server = HttpServer::new(app)
            .workers(2)
            .tcp_nodelay(true)
            .disable_signals()
            .bind(("127.0.0.1", 0))
            .unwrap();
        let address = server.addrs()[0];
        let server = server.run();
        let handle = server.handle();
        tokio::spawn(server);
        Self {
            engine,
            address,
            names,
            server: handle,
        }
    }

    /// How many principals are still in memory.
    pub(crate) fn known(&self) -> usize {
        let names = self.names.lock().unwrap();
        names.iter().filter(|name| name.strong_count() > 0).count()
    }
}

impl Drop for App {
    fn drop(&mut self) {
        drop(self.server.stop(false));
    }
}

/// The test's login: a request with `x-user` has a named principal.
async fn log_in<B: MessageBody>(
    names: Names,
    request: ServiceRequest,
    next: Next<B>,
) -> Result<ServiceResponse<B>, Error> {
    if request.headers().contains_key("x-user") {
        let name: Arc<str> = "ada".into();
        names.lock().unwrap().push(Arc::downgrade(&name));
        request.extensions_mut().insert(Principal::named(name));
    }
    next.call(request).await
}

//! The script for a web page in `docs/guide.md`, in a real Chromium: it resumes, and notices a network that swallows everything.

use std::time::Duration;

use axum::Router;
use axum::response::Html;
use axum::routing::get;
use fieldsync::{Collection, Engine, MemoryStore};
use serde_json::json;
use tokio::net::TcpListener;

use crate::browser::Browsers;
use crate::proxy::{Network, Proxy};

/// The script, which has waits for a slower heartbeat.
fn script() -> String {
    let guide = include_str!("../../docs/guide.md");
    let (_, script) = guide.split_once("```js\n").unwrap();
    let (script, _) = script.split_once("```").unwrap();
    let (long, short) = ("40_000", "1_500");
    assert!(script.contains(long), "{script}");
    script.replace(long, short)
}

#[tokio::test(flavor = "multi_thread")]
async fn the_script_of_the_guide_resumes_and_notices_a_dead_network() {
    let schema =
        json!({"type": "object", "properties": {"customer": {"type": "string", "default": ""}}});
    let orders = Collection::from_schema("orders", &schema).open_to_everyone();
    let builder = Engine::builder()
        .collection(orders)
        .store(MemoryStore::new());
    let builder = builder.heartbeat(Duration::from_millis(300));
    let engine = builder.start().await.unwrap();
    let create = async |customer: &str| {
        let edit = fieldsync::Edit::create("orders", json!({"customer": customer}));
        engine.transaction(vec![edit]).await.unwrap();
    };
    let page = format!(
        "<!doctype html><p id=shown></p><i id=connection data-state=connected></i><script>\
         const show = (records) => {{ shown.textContent = [...records.values()].map((one) => one.customer).join(' '); }};\
         </script><script>{}</script>",
        script()
    );
    let app = Router::new()
        .route("/", get(async move || Html(page)))
        .nest("/api", fieldsync_axum::rest(&engine))
        .route("/live", fieldsync_axum::live(&engine));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let proxy = Proxy::to(listener.local_addr().unwrap().port()).await;
    tokio::spawn(async move { axum::serve(listener, app).await });
    create("Ada").await;
    let browsers = Browsers::start();
    let address = format!("http://{}/", proxy.address);
    let window = browsers.open_with(&address, &[], json!({})).await;
    let shows = |text: &str| format!("shown.textContent === '{text}'");
    window.until(&shows("Ada")).await;
    create("Bob").await;
    window.until(&shows("Ada Bob")).await;
    for (network, name, expected) in [
        (Network::Blackhole, "Cleo", "Ada Bob Cleo"),
        (Network::Refuses, "Dora", "Ada Bob Cleo Dora"),
    ] {
        proxy.set(network);
        create(name).await;
        tokio::time::sleep(Duration::from_secs(3)).await;
        proxy.set(Network::Works);
        window.until(&shows(expected)).await;
    }
    window.close().await;
}

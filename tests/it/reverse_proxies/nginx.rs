//! What only nginx does.

use serde_json::json;

use crate::reverse_proxies::Site;
use crate::reverse_proxies::program::Kind;

#[tokio::test(flavor = "multi_thread")]
async fn a_body_over_the_limit_is_refused_by_nginx_and_one_at_the_limit_reaches_fieldsync() {
    let site = Site::start(Kind::Nginx).await;
    let frame = json!({"first_name": ""}).to_string().len();
    for (length, status, media_type) in [
        (1024 * 1024, 422, "application/problem+json"),
        (1024 * 1024 + 1, 413, "text/html"),
    ] {
        let patch = json!({"first_name": "x".repeat(length - frame)});
        let reply = site.send("PATCH", "/api/users/1/", &patch).await;
        assert_eq!(reply.status(), status);
        assert_eq!(reply.headers()["content-type"], media_type);
    }
}

//! Strong entity tags (RFC 9110, section 8.8.3). A tag is made from the response's body, so it differs between views.

use serde::Serialize;

/// The entity tag of a JSON body, with its quotes.
pub(crate) fn entity_tag(body: &impl Serialize) -> String {
    entity_tag_of(&serde_json::to_vec(body).expect("a JSON value can be written as JSON"))
}

/// The entity tag of a body's bytes, with its quotes.
pub(crate) fn entity_tag_of(body: &[u8]) -> String {
    let digest = sha1_smol::Sha1::from(body).digest().to_string();
    format!("\"{}\"", &digest[..20])
}

//! Entity tags (RFC 9110, section 8.8.3): strong, made from a reply's body, hence different per view.

use serde::Serialize;

/// The entity tag of a JSON body, quotes included.
pub(crate) fn entity_tag(body: &impl Serialize) -> String {
    entity_tag_of(&serde_json::to_vec(body).expect("a JSON value can be written"))
}

/// The entity tag of a body's bytes, quotes included.
pub(crate) fn entity_tag_of(body: &[u8]) -> String {
    let digest = sha1_smol::Sha1::from(body).digest().to_string();
    format!("\"{}\"", &digest[..20])
}

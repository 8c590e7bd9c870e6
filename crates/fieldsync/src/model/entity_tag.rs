//! Strong entity tags (RFC 9110, section 8.8.3). They are hashes of the response body, so that each view of a record
//! has its own tag.

use serde::Serialize;

use crate::model::exact_number::to_json_bytes;

/// The entity tag of this value as a JSON body, in double quotes.
pub(crate) fn entity_tag(body: &impl Serialize) -> String {
    entity_tag_of(&to_json_bytes(body))
}

/// The entity tag of a body, in double quotes.
pub(crate) fn entity_tag_of(body: &[u8]) -> String {
    let digest = sha1_smol::Sha1::from(body).digest().to_string();
    format!("\"{}\"", &digest[..20])
}

//! Reads one record as far as the database knows that a grant shows it: a hidden one is not read, so that it takes no longer than one that
//! does not exist.

use crate::model::cursor::Position;
use crate::model::record::{Record, RecordKey};
use crate::schema::collection::Collection;
use crate::schema::grant::Grant;
use crate::schema::narrowing::Narrowing;
use crate::store::error::StoreError;
use crate::store::listing::Listing;
use crate::store::page::PageLimit;
use crate::store::store::Store;

const ONE: PageLimit = PageLimit { rows: 1, bytes: 1 };

/// Reads a record and the end of its collection's log. Whether the grant shows the record is still to be tested.
pub(crate) async fn read_narrowed(
    store: &dyn Store,
    key: &RecordKey,
    collection: &Collection,
    grant: &Grant,
) -> Result<(Option<Record>, Position), StoreError> {
    let id = serde_json::to_value(&key.id).expect("an id is a number or a string");
    let has_key_column = collection.key_columns().len() == 1;
    let Some(narrowing) = grant.narrowing().filter(|_| has_key_column) else {
        return store.get(key).await;
    };
    let of_id = Narrowing::OneOf("id".into(), vec![id]);
    let narrowing = Narrowing::All(vec![of_id, narrowing]);
    let listing = Listing {
        narrowing: Some(narrowing),
        ..Listing::by_id(None, ONE)
    };
    let mut page = store.list(&key.collection, &listing).await?;
    match page.records.pop() {
        None => Ok((None, page.head)),
        Some(record) if record.id == key.id => Ok((Some(record), page.head)),
        // The store asks for nothing, or not for ids of this kind.
        Some(_) => store.get(key).await,
    }
}

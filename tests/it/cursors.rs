//! The offsets in cursors. Clients can't read them: the tests open the cursors of a demo with the key in its database.

use std::collections::HashMap;
use std::sync::Mutex;

use fieldsync::CursorKey;
use fieldsync::backend::conformance::open_cursor;
use rusqlite::{Connection, OpenFlags};

/// The keys by the stores that have them, as the option of the demo names those.
static KEYS: Mutex<Option<HashMap<String, CursorKey>>> = Mutex::new(None);

/// Reads the key of a demo that has started on this store.
pub(crate) fn read_key(store: &str) {
    let mut keys = KEYS.lock().unwrap();
    let keys = keys.get_or_insert_default();
    if keys.contains_key(store) {
        return;
    }
    let sql = "select secret from fieldsync_secrets where name = 'cursors'";
    let digits: String = match store.split_once(':') {
        Some(("sqlite", path)) => {
            let database = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY);
            let key = database.unwrap().query_row(sql, [], |row| row.get(0));
            key.unwrap()
        }
        #[cfg(feature = "services")]
        Some(("postgres", _)) => postgres_text(store.to_owned(), sql),
        _ => return,
    };
    keys.insert(store.to_owned(), digits.parse().unwrap());
}

/// The demo is started by a function that is not async.
#[cfg(feature = "services")]
fn postgres_text(url: String, sql: &'static str) -> String {
    let reading = std::thread::spawn(move || {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        runtime.block_on(async {
            let client = crate::cluster::connect(&url).await;
            client.query_one(sql, &[]).await.unwrap().get(0)
        })
    });
    reading.join().unwrap()
}

/// The offset in a cursor of the users of a demo. The tests compare what subscribers held with the log by it.
pub(crate) fn offset_of(cursor: &str) -> u64 {
    let keys = KEYS.lock().unwrap();
    let mut keys = keys.iter().flat_map(HashMap::values);
    let opened = keys.find_map(|key| open_cursor(key.clone(), "users", cursor).ok());
    let opened = opened.unwrap_or_else(|| panic!("{cursor:?} is not a cursor of a demo"));
    opened.position().offset
}

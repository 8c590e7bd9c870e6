//! Tables: missing ones are created, existing ones are checked, and no data is lost.

use std::sync::Arc;

use serde_json::{Value, json};

use super::node::{Node, collection, database_with_notes, fields, note, notes};
use super::{Column, Fixture, Table};

use crate::model::cursor::Position;
use crate::model::cursor_key::CursorKey;
use crate::model::edit::Edit;
use crate::model::record::{RecordId, RecordKey};
use crate::model::refusal::Refusal;
use crate::schema::collection::Collection;
use crate::store::error::{SchemaMismatch, StoreError};

pub async fn prepare_creates_what_is_missing<F: Fixture>() {
    let (_database, node) = database_with_notes::<F>().await;
    assert_eq!(node.list("notes").await, []);
    let Position { offset, tag, .. } = node.head("notes").await;
    assert_eq!((offset, tag), (0, 0));
    let id = node.create(json!({"title": "a"})).await;
    assert_eq!(node.field(id, "title").await, "a");
}

pub async fn a_second_prepare_changes_nothing<F: Fixture>() {
    let (database, node) = database_with_notes::<F>().await;
    node.create(json!({"title": "a"})).await;
    let before = (node.list("notes").await, node.head("notes").await);
    node.store.prepare(&[notes()]).await.expect("prepare again");
    assert_eq!((node.list("notes").await, node.head("notes").await), before);
    let other = Node::start(&database, [notes()]).await;
    assert_eq!(
        (other.list("notes").await, other.head("notes").await),
        before
    );
}

pub async fn nodes_can_prepare_at_the_same_time<F: Fixture>() {
    let database = F::fresh().await;
    let collections: Vec<Arc<Collection>> = ["notes", "one", "two"]
        .map(|name| collection(name).into())
        .into();
    let nodes =
        futures_util::future::join_all((0..4).map(|_| Node::start(&database, collections.clone())))
            .await;
    let id = nodes[0].create(json!({"title": "a"})).await;
    for node in &nodes {
        assert_eq!(node.field(id.clone(), "title").await, "a");
        assert_eq!(node.head("two").await, nodes[0].head("two").await);
    }
}

pub async fn the_key_of_cursors_is_random_and_kept<F: Fixture>() {
    let (database, node) = database_with_notes::<F>().await;
    let key = key_of(&node).await;
    node.store.prepare(&[notes()]).await.expect("prepare again");
    assert_eq!(key_of(&node).await, key);
    drop(node);
    let node = Node::start(&database, [collection("others").into()]).await;
    assert_eq!(key_of(&node).await, key);
    let (_other_database, other) = database_with_notes::<F>().await;
    assert_ne!(key_of(&other).await, key);
}

pub async fn nodes_that_prepare_at_the_same_time_share_the_key_of_cursors<F: Fixture>() {
    let database = F::fresh().await;
    let starting = (0..4).map(|_| Node::start(&database, [notes()]));
    let nodes = futures_util::future::join_all(starting).await;
    let key = key_of(&nodes[0]).await;
    for node in &nodes {
        assert_eq!(key_of(node).await, key);
    }
}

async fn key_of(node: &Node) -> CursorKey {
    node.store.cursor_key().await.expect("read the key")
}

pub async fn existing_rows_get_the_default_of_a_new_field<F: Fixture>() {
    let (database, old) = database_with_notes::<F>().await;
    let id = old.create(json!({"title": "a"})).await;
    let new = Node::start(
        &database,
        [notes_with(json!({
            "rank": {"type": "integer", "default": 3},
            "hint": {"type": ["string", "null"]},
        }))],
    )
    .await;
    let record = new.get(&note(&id)).await.expect("the record still exists");
    assert_eq!(
        (
            &record.fields["title"],
            &record.fields["rank"],
            &record.fields["hint"]
        ),
        (&json!("a"), &json!(3), &Value::Null)
    );
    assert_eq!(new.list("notes").await, [record]);
    // The previous version of the app may still run at the same time.
    let id = old.create(json!({"title": "b"})).await;
    assert_eq!(new.field(id, "rank").await, 3);
}

pub async fn a_new_field_without_a_default_does_not_fit_a_table_with_rows<F: Fixture>() {
    let (database, node) = database_with_notes::<F>().await;
    let id = node.create(json!({"title": "a"})).await;
    let collection = notes_with(json!({"rank": {"type": "integer"}}));
    let mismatch = mismatch(&database, collection).await;
    assert_eq!(
        (&*mismatch.table, mismatch.column.as_deref()),
        ("notes", Some("rank"))
    );
    assert_eq!(node.field(id, "title").await, "a");
}

pub async fn data_survives_a_restart<F: Fixture>() {
    let (database, node) = database_with_notes::<F>().await;
    let id = node.create(json!({"title": "a"})).await;
    node.edit(Edit::patch(note(&id), json!({"stars": 5}))).await;
    let before = (
        node.list("notes").await,
        node.head("notes").await,
        node.log("notes").await,
    );
    drop(node);
    let node = Node::start(&database, [notes()]).await;
    let after = (
        node.list("notes").await,
        node.head("notes").await,
        node.log("notes").await,
    );
    assert_eq!(after, before);
}

pub async fn an_existing_table_is_used_as_it_is<F: Fixture>() {
    let database = F::fresh().await;
    let title = Column::text("title").with_default("");
    let owner = Column::text("owner").with_default("nobody");
    database
        .create_table(Table::new("app_notes", [title, owner]))
        .await;
    let row = fields(json!({"title": "a", "owner": "grace"}));
    database
        .write_externally("app_notes", 7.into(), Some(row))
        .await;
    let titles = table_of("notes", "app_notes", json!({"title": {"type": "string"}}));
    let node = Node::start(&database, [titles.into()]).await;
    assert_eq!(node.field(7.into(), "title").await, "a");
    node.edit(Edit::patch(note(7), json!({"title": "b"}))).await;
    let owners = table_of("owners", "app_notes", json!({"owner": {"type": "string"}}));
    let others = Node::start(&database, [owners.no_create().into()]).await;
    let owner = async |id: RecordId| {
        let record = others.get(&RecordKey::new("owners", id)).await;
        record
            .expect("the row is a record of both collections")
            .fields["owner"]
            .clone()
    };
    assert_eq!(owner(7.into()).await, "grace");
    // A column without a field in the collection gets the default of the table.
    let id = node.create(json!({"title": "c"})).await;
    assert_eq!(owner(id).await, "nobody");
}

pub async fn a_log_belongs_to_its_table<F: Fixture>() {
    let database = F::fresh().await;
    for table in ["app_notes", "other_notes"] {
        let title = Column::text("title").with_default("");
        database.create_table(Table::new(table, [title])).await;
    }
    let schema = || json!({"title": {"type": "string", "default": ""}});
    let start =
        async |name, table| Node::start(&database, [table_of(name, table, schema()).into()]).await;
    // Two apps have a collection of the same name, and a third one has another name for the table of the first.
    let node = start("notes", "app_notes").await;
    let other_table = start("notes", "other_notes").await;
    let other_name = start("titles", "app_notes").await;
    let create = |name: &str| {
        let create = Edit::create(name, json!({"title": "a"}));
        create.with_idempotency_key("k")
    };
    let change = node.change(create("notes")).await;
    assert_eq!(other_table.head("notes").await.offset, 0);
    assert_eq!(other_table.log("notes").await, []);
    assert_eq!(other_name.head("titles").await, change.position);
    let seen = other_name.log("titles").await.remove(0);
    assert_eq!(seen.key, RecordKey::new("titles", change.key.id.clone()));
    assert_eq!(seen.after, change.after);
    // A key that was used on one table repeats nothing on another.
    let again = other_table.try_edit(create("notes")).await;
    assert_eq!(again.err(), Some(Refusal::KeyReused));
    let again = other_name.try_edit(create("titles")).await;
    assert_eq!(again.err(), Some(Refusal::KeyReused));
    assert_eq!(other_table.list("notes").await, []);
    // The next change of either node follows the first.
    let patch = Edit::patch(("titles", change.key.id.clone()), json!({"title": "b"}));
    assert_eq!(other_name.change(patch).await.position.offset, 2);
    assert_eq!(node.log("notes").await.len(), 2);
}

pub async fn the_key_column_can_have_any_name<F: Fixture>() {
    let database = F::fresh().await;
    let table = Table {
        key: "note_nr".to_owned(),
        ..Table::new("app_notes", [Column::text("title")])
    };
    database.create_table(table).await;
    let titles = || table_of("notes", "app_notes", json!({"title": {"type": "string"}}));
    let mismatch = mismatch(&database, titles().into()).await;
    assert_eq!(mismatch.table, "app_notes");
    let node = Node::start(&database, [titles().key("note_nr").into()]).await;
    let id = node.create(json!({"title": "a"})).await;
    assert_eq!(node.field(id, "title").await, "a");
}

pub async fn a_column_of_another_type_does_not_fit<F: Fixture>() {
    let database = F::fresh().await;
    database
        .create_table(Table::new("notes", [Column::text("stars")]))
        .await;
    let stars = table_of("notes", "notes", json!({"stars": {"type": "integer"}}));
    let mismatch = mismatch(&database, stars.into()).await;
    assert_eq!(
        (&*mismatch.table, mismatch.column.as_deref()),
        ("notes", Some("stars"))
    );
}

pub async fn a_nullable_field_does_not_fit_a_not_null_column<F: Fixture>() {
    let database = F::fresh().await;
    let stars = Column::integer("stars").with_default(0);
    database.create_table(Table::new("notes", [stars])).await;
    let schema = json!({"stars": {"type": ["integer", "null"]}});
    let collection = table_of("notes", "notes", schema);
    let mismatch = mismatch(&database, collection.into()).await;
    assert_eq!(
        (&*mismatch.table, mismatch.column.as_deref()),
        ("notes", Some("stars"))
    );
}

pub async fn a_required_column_without_a_field_fits_only_with_no_create<F: Fixture>() {
    let database = F::fresh().await;
    let columns = [
        Column::text("title"),
        Column::text("owner"),
        Column::text("hint").nullable(),
    ];
    database.create_table(Table::new("notes", columns)).await;
    let titles = || table_of("notes", "notes", json!({"title": {"type": "string"}}));
    let mismatch = mismatch(&database, titles().into()).await;
    assert_eq!(
        (&*mismatch.table, mismatch.column.as_deref()),
        ("notes", Some("owner"))
    );
    Node::start(&database, [titles().no_create().into()]).await;
}

/// The notes of a later version of the app, with more fields.
fn notes_with(more: Value) -> Arc<Collection> {
    let mut properties = fields(json!({
        "title": {"type": "string", "default": ""},
        "body": {"type": "string", "default": ""},
        "stars": {"type": "integer", "default": 0},
        "mood": {"type": ["string", "null"]},
    }));
    properties.extend(fields(more));
    table_of("notes", "notes", Value::Object(properties))
        .add_missing_columns()
        .timestamps()
        .into()
}

#[expect(clippy::needless_pass_by_value, reason = "short calls in the cases")]
fn table_of(name: &str, table: &str, properties: Value) -> Collection {
    let required: Vec<&String> = properties
        .as_object()
        .into_iter()
        .flatten()
        .filter(|(_, property)| property["type"].is_string() && property["default"].is_null())
        .map(|(name, _)| name)
        .collect();
    let schema = json!({"type": "object", "properties": properties, "required": required});
    Collection::from_schema(name, &schema)
        .table(table)
        .without_capture()
}

async fn mismatch<F: Fixture>(database: &F, collection: Arc<Collection>) -> SchemaMismatch {
    match database.open().await.prepare(&[collection]).await {
        Err(StoreError::Schema(mut mismatches)) => mismatches.remove(0),
        other => panic!("expected a mismatch of the table: {other:?}"),
    }
}

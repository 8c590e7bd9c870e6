//! Reads: records and the end of the log from one consistent read, pages, and rows that another program wrote.

use std::sync::Arc;

use serde_json::{Value, json};

use super::Fixture;
use super::edits::add_star;
use super::node::{Node, collection, database_with_notes, fields, note, notes};
use super::tasks::spawn;

use crate::model::edit::Edit;
use crate::model::record::{Record, RecordId, RecordKey};
use crate::schema::collection::Collection;
use crate::store::listing::Listing;
use crate::store::page::PageLimit;

/// Each change adds one star, so that the stars of a record must equal the offset that was read with it.
pub async fn a_record_and_the_end_of_the_log_are_read_consistently<F: Fixture>() {
    const CHANGES: u64 = 300;
    let (database, node) = database_with_notes::<F>().await;
    let id = node.create(json!({"stars": 1})).await;
    let other = Node::start(&database, [notes()]).await;
    let value = id.clone();
    let counter = spawn(async move {
        for _ in 1..CHANGES {
            other.edit(add_star(note(&value))).await;
        }
    });
    let mut read = 0;
    while read < CHANGES {
        let (record, end) = node.store.get(&note(&id)).await.expect("get");
        let stars = |record: &Record| record.fields["stars"].clone();
        assert_eq!(stars(&record.expect("the note exists")), end.offset);
        let page = node.page("notes", None, 10).await;
        assert_eq!(stars(&page.records[0]), page.head.offset);
        assert!(end.offset >= read, "a later read returns an older state");
        read = end.offset;
    }
    counter.await.expect("the counter does not fail");
}

pub async fn every_later_read_on_any_node_sees_a_committed_edit<F: Fixture>() {
    let (database, node) = database_with_notes::<F>().await;
    let other = Node::start(&database, [notes()]).await;
    let id = node.create(json!({})).await;
    for stars in 1..50 {
        let change = node
            .change(Edit::patch(note(&id), json!({"stars": stars})))
            .await;
        let (record, end) = other.store.get(&note(&id)).await.expect("get");
        assert_eq!(
            (record.expect("the note exists").fields, end),
            (change.after.clone(), change.position)
        );
        assert_eq!(other.head("notes").await, change.position);
    }
}

pub async fn a_missing_record_is_none<F: Fixture>() {
    let (_database, node) = database_with_notes::<F>().await;
    node.create(json!({})).await;
    let (record, end) = node.store.get(&note(987_654)).await.expect("get");
    assert_eq!((record, end), (None, node.head("notes").await));
}

async fn check_pages(node: &Node, ids: &[RecordId], collection: &str) {
    let mut sorted = ids.to_vec();
    sorted.sort();
    for limit in [1, 3, 4, 100] {
        let (mut after, mut read) = (None, Vec::new());
        loop {
            let page = node.page(collection, after, limit).await;
            assert_eq!(page.head, node.head(collection).await);
            assert!(page.records.len() <= limit);
            read.extend(page.records.iter().map(|record| record.id.clone()));
            assert!(read.len() <= sorted.len(), "a record is in two pages");
            assert_eq!(page.more, read.len() < sorted.len());
            let Some(last) = page.records.last() else {
                break;
            };
            after = Some(last.id.clone());
        }
        assert_eq!(read, sorted, "in pages of {limit}");
    }
}

pub async fn records_are_listed_in_the_order_of_their_ids<F: Fixture>() {
    let (database, node) = database_with_notes::<F>().await;
    let mut ids = Vec::new();
    for _ in 0..10 {
        ids.push(node.create(json!({})).await);
    }
    // The order is that of numbers, not of text. A gap does not end a page.
    node.edit(Edit::delete(note(ids.remove(3)))).await;
    let time = Value::from("2026-01-13T10:00:00.000000Z");
    let row = json!({"title": "external", "created_at": time, "updated_at": time});
    for id in [-5, 100, 99] {
        database
            .write_externally("notes", id.into(), Some(fields(row.clone())))
            .await;
        ids.push(id.into());
    }
    check_pages(&node, &ids, "notes").await;
}

pub async fn a_page_is_bounded_in_bytes_but_has_a_record<F: Fixture>() {
    const BYTES: usize = 10_000;
    let (_database, node) = database_with_notes::<F>().await;
    for size in [0, 6000, 3000, 3000, 20_000, 100, 20_000, 20_000] {
        node.create(json!({"body": "x".repeat(size)})).await;
    }
    let all = node.list("notes").await;
    let (mut after, mut read, mut pages) = (None, Vec::new(), 0);
    loop {
        let limit = PageLimit {
            rows: 100,
            bytes: BYTES,
        };
        let listing = Listing::by_id(after, limit);
        let page = node.store.list("notes", &listing).await.expect("list");
        let bytes = |record: &Record| record.fields["body"].as_str().map_or(0, str::len);
        let total: usize = page.records.iter().map(bytes).sum();
        assert!(total <= BYTES || page.records.len() == 1, "{total} bytes");
        let last = page.records.last().expect("a page has a record");
        after = Some(last.id.clone());
        read.extend(page.records);
        pages += 1;
        if !page.more {
            break;
        }
    }
    assert_eq!(read, all);
    assert!(
        pages <= 7,
        "{pages} pages: the records of some fit together"
    );
}

pub async fn records_are_read_by_their_ids<F: Fixture>() {
    let database = F::fresh().await;
    let things: Arc<Collection> = collection("things").uuid_ids().into();
    let node = Node::start(&database, [notes(), things]).await;
    for name in ["notes", "things"] {
        let mut keys = Vec::new();
        for size in [3000, 0, 6000, 3000, 20_000] {
            let edit = Edit::create(name, json!({"body": "x".repeat(size)}));
            keys.push(node.change(edit).await.key.clone());
        }
        let gone = keys[1].clone();
        node.edit(Edit::delete(gone)).await;
        keys.reverse();
        let mut all = Vec::new();
        for key in &keys {
            all.push(node.get(key).await);
        }
        let ids: Vec<RecordId> = keys.iter().map(|key| key.id.clone()).collect();
        for (rows, bytes, count) in [
            (10, 100_000, 5),
            (2, 100_000, 2),
            (10, 30_000, 4),
            (10, 1, 1),
        ] {
            let limit = PageLimit { rows, bytes };
            let read = node.store.get_many(name, &ids, limit).await;
            assert!(read.expect("get_many") == all[..count], "{rows} {bytes}");
        }
        let limit = PageLimit { rows: 1, bytes: 1 };
        let none = node.store.get_many(name, &[], limit).await;
        assert_eq!(none.expect("get_many"), []);
    }
}

pub async fn records_with_uuids_are_listed_in_the_order_of_their_ids<F: Fixture>() {
    let database = F::fresh().await;
    let things: Arc<Collection> = collection("things").uuid_ids().into();
    let node = Node::start(&database, [things]).await;
    let mut ids = Vec::new();
    for title in 0..10 {
        let change = node
            .change(Edit::create("things", json!({"title": title.to_string()})))
            .await;
        let RecordId::Uuid(uuid) = change.key.id else {
            panic!("not a UUID: {:?}", change.key.id);
        };
        assert_eq!(uuid.get_version_num(), 7);
        ids.push(change.key.id.clone());
        let record = node.get(&change.key).await.expect("the note exists");
        assert_eq!(
            (record.id, record.fields),
            (change.key.id.clone(), change.after.clone())
        );
    }
    check_pages(&node, &ids, "things").await;
    let key = RecordKey::new("things", ids[4].clone());
    node.edit(Edit::patch(key.clone(), json!({"stars": 1})))
        .await;
    assert_eq!(node.edit(Edit::delete(key.clone())).await.record(), None);
    assert_eq!(node.get(&key).await, None);
    assert_eq!(node.log("things").await.len(), 12);
}

pub async fn rows_written_by_another_program_are_read_at_once<F: Fixture>() {
    let database = F::fresh().await;
    let node = Node::start(&database, [collection("notes").into()]).await;
    let id = node.create(json!({"title": "a"})).await;
    let end = node.head("notes").await;
    database
        .write_externally(
            "notes",
            id.clone(),
            Some(fields(json!({"title": "external"}))),
        )
        .await;
    assert_eq!(node.field(id.clone(), "title").await, "external");
    let row = json!({"title": "new", "body": "", "stars": 3, "mood": "calm"});
    database
        .write_externally("notes", 1000.into(), Some(fields(row.clone())))
        .await;
    let listed = node.list("notes").await;
    assert_eq!(listed.len(), 2);
    assert_eq!(
        (listed[1].id.clone(), &listed[1].fields),
        (1000.into(), &fields(row))
    );
    database.write_externally("notes", id.clone(), None).await;
    assert_eq!(node.get(&note(&id)).await, None);
    assert_eq!(node.list("notes").await.len(), 1);
    assert_eq!(node.head("notes").await, end, "the rows are not logged");
    // An edit is based on the current row.
    let change = node
        .change(Edit::patch(note(1000), json!({"stars": 4})))
        .await;
    assert_eq!(
        (&change.after["title"], &change.previous["stars"]),
        (&json!("new"), &json!(3))
    );
}

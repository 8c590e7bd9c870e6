//! A random test of isolation: whatever the database refuses some edits for, the edits that share their transactions have the
//! outcomes that they would have alone.

use std::collections::BTreeMap;
use std::time::Duration;

use fastrand::Rng;
use fieldsync::adapter::problem_response;
use fieldsync::{Collection, Edit, Engine, EngineError, Fields, RecordId};
use futures_util::future::join_all;
use serde_json::{Value, json};
use tokio::task::JoinHandle;
use tokio::time::timeout;

use crate::database::{Database, on_both_databases, trigger};
use crate::random;

on_both_databases!(whatever_the_database_refuses_the_other_edits_are_as_if_alone);

const BATCHES: usize = 16;

/// The records that exist before the first batch. `FOLDER` exists, and the code and the turn of the first record are taken.
const RECORDS: usize = 80;
const FOLDER: i64 = 1;

/// Where a fault can be made.
#[derive(Debug, Clone, Copy, PartialEq)]
enum On {
    Both,
    Sqlite,
    /// In an update only: SQLite compiles a trigger with each statement that may run it.
    SqliteUpdate,
    Postgres,
    /// The edit is retried until its deadline.
    PostgresUntilDeadline,
}

/// What the database refuses: the field and its value, and the status of the reply.
type Fault = (On, &'static str, &'static str, u16);

const FAULTS: &[Fault] = &[
    (On::Both, "code", "taken", 409),
    (On::Both, "stars", "1000", 422),
    (On::Both, "parent", "987654", 409),
    (On::Both, "later", "987654", 409),
    (On::Both, "fault", "raise", 422),
    (On::Both, "fault", "null", 500),
    (On::Both, "fault", "ignore", 422),
    (On::Sqlite, "fault", "fail", 422),
    (On::Sqlite, "fault", "rollback", 422),
    (On::SqliteUpdate, "broken", "x", 500),
    (On::Postgres, "fault", "ZZ001", 422),
    (On::Postgres, "fault", "57P01", 422),
    (On::Postgres, "fault", "53100", 422),
    (On::Postgres, "fault", "08006", 422),
    (On::Postgres, "fault", "broken", 500),
    (On::Postgres, "fault", "divide", 500),
    (On::Postgres, "fault", "denied", 403),
    (On::Postgres, "fault", "late", 422),
    (On::Postgres, "fault", "slow", 500),
    (On::Postgres, "owner", "forbidden", 403),
    (On::Postgres, "note", "long", 422),
    (On::Postgres, "price", "abc", 422),
    (On::Postgres, "price", "123456", 422),
    (On::Postgres, "turn", "taken", 409),
    (On::PostgresUntilDeadline, "fault", "40001", 503),
    (On::PostgresUntilDeadline, "fault", "55P03", 503),
];

const TABLES: &str = "
    create table folders ($key, name text);
    insert into folders (name) values ('one');
    create table others (name text not null);
    create table items (
      $key, name text, code text unique, stars integer check (stars < 100),
      parent integer references folders, later integer references folders deferrable initially deferred,
      fault text, broken text, owner text, note text, price text, turn text
    );";

fn on_sqlite() -> String {
    let mut sql = "create trigger broken before update of broken on items begin insert into missing values (1); end;"
        .to_owned();
    for event in ["insert", "update"] {
        for raise in ["abort", "fail", "rollback", "ignore"] {
            let (message, fault) = match raise {
                "ignore" => (String::new(), "ignore"),
                "abort" => (", 'refused'".to_owned(), "raise"),
                raise => (", 'refused'".to_owned(), raise),
            };
            sql += &format!(
                "create trigger {raise}_{event} before {event} on items when new.fault = '{fault}' begin \
                   insert into others values ('x'); select raise({raise}{message}); end;"
            );
        }
        sql += &format!(
            "create trigger null_{event} after {event} on items when new.fault = 'null' begin \
               insert into others values (null); end;"
        );
    }
    sql
}

fn on_postgres(role: &str) -> String {
    let mut sql = format!(
        "create role {role} login; grant create on schema public to {role}; \
         create table secrets (name text); \
         alter table items alter price type numeric(4, 1) using price::numeric; create index on items (note); \
         alter table items add unique (turn) deferrable initially deferred; \
         alter table items enable row level security; \
         create policy rows on items using (true) with check (owner is distinct from 'forbidden'); \
         grant select, insert, update, delete on items, folders, others to {role}; \
         grant usage on all sequences in schema public to {role}; \
         create function late() returns trigger language plpgsql as $$ begin raise exception 'late'; end $$; "
    );
    for code in ["ZZ001", "57P01", "53100", "08006", "40001", "55P03"] {
        let raise = format!("raise exception 'refused' using errcode = '{code}'");
        let condition = format!("new.fault = '{code}'");
        let name = format!("raise_{}", code.to_lowercase());
        sql += &trigger("items", &name, &condition, &raise);
    }
    for (fault, body) in [
        ("raise", "raise exception 'refused'"),
        ("null", "insert into others values (null)"),
        ("ignore", "return null"),
        ("broken", "insert into missing values (1)"),
        ("divide", "new.name = 1 / (length(new.fault) - 6)"),
        ("denied", "insert into secrets values ('x')"),
        ("slow", "perform pg_sleep(5)"),
    ] {
        let condition = format!("new.fault = '{fault}'");
        sql += &trigger("items", &format!("on_{fault}"), &condition, body);
    }
    sql
}

/// A trigger that fails at COMMIT. With it the updates of a table do not share statements.
const LATE: &str = "create constraint trigger late after insert or update on items deferrable initially deferred \
                    for each row when (new.fault = 'late') execute function late()";

fn items() -> Collection {
    let mut properties = serde_json::Map::new();
    for name in [
        "name", "code", "fault", "broken", "owner", "note", "turn", "price",
    ] {
        properties.insert(name.into(), json!({"type": ["string", "null"]}));
    }
    for name in ["stars", "parent", "later"] {
        let integer =
            json!({"type": ["integer", "null"], "minimum": -1_000_000, "maximum": 1_000_000});
        properties.insert(name.into(), integer);
    }
    let schema = json!({"type": "object", "properties": properties});
    Collection::from_schema("items", &schema)
        .without_capture()
        .open_to_everyone()
}

/// What the table should contain.
type Model = BTreeMap<i64, Fields>;

/// The edits of one transaction, and what is expected of it.
struct Group {
    edits: Vec<Edit>,
    /// What the edits change: a record's id, or none for a new record; and the fields, or none for a delete.
    changes: Vec<(Option<i64>, Option<Fields>)>,
    expected: Expected,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Expected {
    Committed,
    Refused(u16),
    /// One of two.
    CommittedOnce,
}

struct World {
    engine: Engine,
    random: Rng,
    faults: Vec<&'static Fault>,
    model: Model,
    /// The edits so far, which make values unique.
    count: usize,
}

async fn whatever_the_database_refuses_the_other_edits_are_as_if_alone(database: Database) {
    let mut random = random::generator();
    database.run(TABLES).await;
    let role = format!("app_{}", fastrand::u64(..));
    database.run_own(&on_sqlite(), &on_postgres(&role)).await;
    let has_late = database.is_postgres() && random.bool();
    if has_late {
        database.run(LATE).await;
    }
    let builder = Engine::builder().collection(items());
    let options = "?options=-c%20statement_timeout%3D150ms";
    let builder = database.store(builder, &role, options).await;
    let can_be_made = |fault: &&Fault| match fault.0 {
        On::Both => true,
        On::Sqlite | On::SqliteUpdate => !database.is_postgres(),
        On::Postgres | On::PostgresUntilDeadline => {
            database.is_postgres() && (has_late || fault.2 != "late")
        }
    };
    let mut world = World {
        engine: builder.start().await.unwrap(),
        random,
        faults: FAULTS.iter().filter(can_be_made).collect(),
        model: Model::new(),
        count: 0,
    };
    world.create_records().await;
    world.check_each_fault_alone().await;
    let retried = world.start_retried();
    for _ in 0..BATCHES {
        let limit = Duration::from_secs(5);
        let committed = timeout(limit, world.commit_batch()).await;
        committed.expect("edits are not delayed by those that are retried");
        world.check_table().await;
    }
    join_all(retried).await.into_iter().for_each(Result::unwrap);
    world.check_table().await;
}

impl World {
    async fn create_records(&mut self) {
        for number in 0..RECORDS {
            let mut fields = self.honest_fields();
            if number == 0 {
                fields.insert("code".into(), "taken".into());
                fields.insert("turn".into(), "taken".into());
            }
            let items = self.engine.collection::<Fields>("items");
            let id = items.create(fields.clone()).await.unwrap().id;
            self.apply(id.as_integer(), Some(&fields), &id);
        }
    }

    async fn check_each_fault_alone(&mut self) {
        for fault in self.faults.clone() {
            if fault.0 != On::PostgresUntilDeadline {
                let group = self.faulty(&mut vec![RECORDS as i64], fault);
                let result = self.engine.transaction(group.edits).await;
                assert_eq!(status(&result), fault.3, "{fault:?}: {result:?}");
            }
        }
    }

    /// Commits edits that share transactions, some of them faulty.
    async fn commit_batch(&mut self) {
        let size = self.random.usize(32..=64);
        let share_of_faults = [5, 30, 95][self.random.usize(..3)];
        // The first record is never changed, so that its values remain taken.
        let mut ids: Vec<i64> = self.model.keys().copied().skip(1).collect();
        self.random.shuffle(&mut ids);
        let mut groups = Vec::new();
        while groups.len() < size {
            if self.random.usize(..100) < share_of_faults {
                let mut faults = self.faults.iter();
                let at = self.random.usize(..faults.len());
                let fault = faults.nth(at).copied().unwrap();
                let is_costly = fault.0 == On::PostgresUntilDeadline || fault.2 == "slow";
                // Of those that take long, few.
                if !is_costly || groups.is_empty() && fault.2 == "slow" {
                    groups.push(self.faulty(&mut ids, fault));
                }
            } else if self.random.u8(..20) == 0 {
                let code = format!("contested {}", self.count);
                for _ in 0..2 {
                    let mut group = self.honest(&mut ids, 1);
                    let mut fields = self.honest_fields();
                    fields.insert("code".into(), code.as_str().into());
                    group.edits = vec![Edit::create("items", Value::Object(fields.clone()))];
                    group.changes = vec![(None, Some(fields))];
                    group.expected = Expected::CommittedOnce;
                    groups.push(group);
                }
            } else {
                let edits = [1, 1, 1, 3][self.random.usize(..4)];
                groups.push(self.honest(&mut ids, edits));
            }
        }
        self.random.shuffle(&mut groups);
        self.commit(groups).await;
    }

    async fn commit(&mut self, groups: Vec<Group>) {
        let edits = groups.iter().map(|group| group.edits.clone());
        let running = edits.map(|edits| self.engine.transaction(edits));
        let results = join_all(running).await;
        let mut contested: BTreeMap<String, Vec<u16>> = BTreeMap::new();
        for (group, result) in groups.into_iter().zip(results) {
            let status = status(&result);
            match group.expected {
                Expected::Committed => assert_eq!(status, 200, "{:?}: {result:?}", group.edits),
                Expected::Refused(expected) => {
                    assert_eq!(status, expected, "{:?}: {result:?}", group.edits);
                }
                Expected::CommittedOnce => {
                    let code = group.changes[0].1.as_ref().unwrap()["code"].to_string();
                    contested.entry(code).or_default().push(status);
                }
            }
            for ((id, fields), outcome) in group.changes.iter().zip(result.into_iter().flatten()) {
                self.apply(*id, fields.as_ref(), &outcome.id());
            }
        }
        for (code, mut statuses) in contested {
            statuses.sort_unstable();
            assert_eq!(statuses, [200, 409], "{code}");
        }
    }
}

/// The status of the reply.
fn status<T>(result: &Result<T, EngineError>) -> u16 {
    match result {
        Ok(_) => 200,
        Err(error) => problem_response(error).status().as_u16(),
    }
}

impl World {
    /// Values that the database takes, each of which is unique.
    fn honest_fields(&mut self) -> Fields {
        self.count += 1;
        let unique = format!("unique {}", self.count);
        let fields = match self.random.u8(..4) {
            0 => json!({"name": unique, "stars": self.count % 100}),
            1 => json!({"code": unique, "turn": unique, "owner": "ada"}),
            2 => json!({"parent": FOLDER, "later": FOLDER, "price": "12.5", "note": unique}),
            _ => json!({"name": unique}),
        };
        serde_json::from_value(fields).unwrap()
    }

    fn honest(&mut self, ids: &mut Vec<i64>, edits: usize) -> Group {
        let mut group = Group {
            edits: Vec::new(),
            changes: Vec::new(),
            expected: Expected::Committed,
        };
        for _ in 0..edits {
            let mut fields = self.honest_fields();
            let (edit, change) = match (ids.pop(), self.random.u8(..10)) {
                (Some(id), 0) if ids.len() > 10 => (Edit::delete(("items", &id)), (Some(id), None)),
                (Some(id), 1..) => {
                    // The edit must change something.
                    fields.insert("name".into(), format!("patch {}", self.count).into());
                    let patch = Value::Object(fields.clone());
                    (Edit::patch(("items", &id), patch), (Some(id), Some(fields)))
                }
                _ => {
                    let new = Value::Object(fields.clone());
                    (Edit::create("items", new), (None, Some(fields)))
                }
            };
            group.edits.push(edit);
            group.changes.push(change);
        }
        group
    }

    /// A group with an edit that the database refuses, between others that it would take.
    fn faulty(&mut self, ids: &mut Vec<i64>, fault: &Fault) -> Group {
        let (on, field, value, status) = *fault;
        let value = match (field, value) {
            ("note", _) => {
                let random = std::iter::repeat_with(|| self.random.alphanumeric());
                random.take(12_000).collect::<String>().into()
            }
            ("stars" | "parent" | "later", number) => number.parse::<i64>().unwrap().into(),
            (_, text) => Value::from(text),
        };
        let mut fields = self.honest_fields();
        fields.insert(field.to_owned(), value);
        let fields = Value::Object(fields);
        let edit = match ids.pop() {
            Some(id) if on == On::SqliteUpdate || self.random.bool() => {
                Edit::patch(("items", &id), fields)
            }
            _ if on == On::SqliteUpdate => Edit::patch(("items", 1), fields),
            _ => Edit::create("items", fields),
        };
        let mut group = match self.random.u8(..4) {
            0 => self.honest(ids, 2),
            _ => self.honest(ids, 0),
        };
        group
            .edits
            .insert(self.random.usize(..=group.edits.len()), edit);
        group.expected = Expected::Refused(status);
        group.changes.clear();
        group
    }

    /// Applies a change that was committed to the model.
    fn apply(&mut self, id: Option<i64>, fields: Option<&Fields>, outcome: &RecordId) {
        let new = outcome.as_integer().unwrap();
        assert!(id.is_none_or(|id| id == new));
        match fields {
            None => {
                self.model.remove(&new);
            }
            Some(fields) => {
                let record = self.model.entry(new).or_default();
                record.extend(fields.clone());
            }
        }
    }

    async fn check_table(&self) {
        let items = self.engine.collection::<Fields>("items");
        let table = items.list(None, 100_000).await.unwrap();
        let is_set = |(_, value): &(String, Value)| !value.is_null();
        let table: Model = table
            .into_iter()
            .map(|item| {
                let fields = item.fields.into_iter().filter(is_set);
                (item.id.as_integer().unwrap(), fields.collect())
            })
            .collect();
        assert_eq!(table, self.model);
    }

    /// Starts edits that are retried until their deadline, beside the first batch.
    fn start_retried(&mut self) -> Vec<JoinHandle<()>> {
        let faults = self.faults.clone().into_iter();
        let faults = faults.filter(|fault| fault.0 == On::PostgresUntilDeadline);
        let start = |fault| {
            let (engine, group) = (self.engine.clone(), self.faulty(&mut Vec::new(), fault));
            tokio::spawn(async move {
                let result = engine.transaction(group.edits.clone()).await;
                assert_eq!(
                    Expected::Refused(status(&result)),
                    group.expected,
                    "{result:?}"
                );
            })
        };
        faults.map(start).collect()
    }
}

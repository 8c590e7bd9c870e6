//! Reads the records of other collections because of which rules admit a principal.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::model::access::Denied;
use crate::model::field_errors::FieldErrors;
use crate::model::filter::Filter;
use crate::model::record::RecordKey;
use crate::schema::checked_query::{comparison_of, values_of_field};
use crate::schema::collection::Collection;
use crate::schema::grant::Grant;
use crate::schema::member_rows::{
    IsName, Member, MemberRows, Members, Part, RowsOfRule, WantedMembers,
};
use crate::schema::predicate::Predicate;
use crate::schema::row_filter::RowFilter;
use crate::schema::values::Values;
use crate::store::listing::Listing;
use crate::store::page::PageLimit;
use crate::store::store::Store;

/// The most records of another collection because of which one rule admits a principal.
const MAX_MEMBERS: usize = 1000;

/// The maximum size of a page of them, in bytes.
const MAX_PAGE_BYTES: usize = 1024 * 1024;

/// How long they may be looked for.
const LOOKUP_TIMEOUT: Duration = Duration::from_secs(5);

/// Where the records are.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Memberships<'a> {
    pub(crate) store: &'a dyn Store,
    pub(crate) collections: &'a BTreeMap<Arc<str>, Arc<Collection>>,
}

impl Memberships<'_> {
    /// The grant, with what the store has of that on which it depends.
    pub(crate) async fn resolve(
        &self,
        grant: Grant,
        collection: &Collection,
    ) -> Result<Grant, Denied> {
        let Some(RowFilter::OfRules(rules)) = &grant.rows else {
            return Ok(grant);
        };
        let mut parts = Vec::with_capacity(rules.len());
        for rule in rules.iter() {
            parts.extend(self.part(rule, collection).await?);
        }
        Ok(Grant {
            rows: Some(RowFilter::Members(Arc::new(MemberRows::new(parts)))),
            ..grant
        })
    }

    /// What a rule admits. `None`: nothing.
    async fn part(
        &self,
        rule: &RowsOfRule,
        collection: &Collection,
    ) -> Result<Option<Part>, Denied> {
        let mut conditions = Vec::new();
        if let Some(filter) = &rule.filter {
            conditions.push(of(filter, collection).map_err(does_not_fit)?.0);
        }
        if let Some(owner) = &rule.owner {
            let Some(owner) = has_name(owner, collection) else {
                return Ok(None);
            };
            conditions.push(of(&owner, collection).map_err(does_not_fit)?.0);
        }
        let members = match &rule.exists {
            None => None,
            Some(wanted) => match self.members(wanted, collection).await? {
                None => return Ok(None),
                some => some,
            },
        };
        Ok(Some(Part {
            conditions,
            members,
        }))
    }

    /// The records that are wanted, if there are any.
    async fn members(
        &self,
        wanted: &WantedMembers,
        collection: &Collection,
    ) -> Result<Option<Members>, Denied> {
        let unknown =
            || Denied::unavailable(format!("collection {} is unknown", wanted.collection));
        let theirs = self.collections.get(&wanted.collection);
        let theirs = theirs.ok_or_else(unknown)?;
        let Some(mut filter) = has_name(&wanted.principal, theirs) else {
            return Ok(None);
        };
        if let Some(more) = &wanted.filter {
            filter = filter.and(more.clone());
        }
        let filter = of(&filter, theirs).map_err(does_not_fit)?;
        let found = self
            .list(&wanted.collection, &wanted.theirs, &filter)
            .await?;
        let comparison = comparison_of(collection, &wanted.ours).map_err(does_not_fit)?;
        let mut records = Vec::with_capacity(found.len());
        for (key, theirs) in found {
            let values = values_of_field(collection, &wanted.ours, vec![theirs.clone()]);
            // No record has a value that the field can't have.
            if let Some(value) = values.map_err(does_not_fit)?.pop() {
                records.push(Member { key, theirs, value });
            }
        }
        Ok((!records.is_empty()).then(|| Members {
            field: wanted.ours.clone(),
            comparison,
            theirs: wanted.theirs.clone(),
            filter,
            records,
        }))
    }

    /// The records that match, with the value of a field that is not null.
    async fn list(
        &self,
        collection: &Arc<str>,
        field: &str,
        filter: &Predicate,
    ) -> Result<Vec<(RecordKey, Value)>, Denied> {
        let limit = PageLimit {
            rows: MAX_MEMBERS + 1,
            bytes: MAX_PAGE_BYTES,
        };
        let mut listing = Listing::by_id(None, limit);
        listing.narrowing = filter.narrowing();
        let (mut found, begun) = (Vec::new(), Instant::now());
        loop {
            let page = self.store.list(collection, &listing).await;
            let page = page.map_err(Denied::unavailable)?;
            for record in &page.records {
                let values = Values::from(record);
                if !filter.admits(&values) {
                    continue;
                }
                let value = values.get(field).into_owned();
                if !value.is_null() {
                    found.push((
                        RecordKey::new(Arc::clone(collection), record.id.clone()),
                        value,
                    ));
                }
            }
            if found.len() > MAX_MEMBERS {
                return Err(Denied::unavailable(format!(
                    "a principal has more than {MAX_MEMBERS} records in {collection}: exists(…) is for fewer"
                )));
            }
            if !page.more {
                return Ok(found);
            }
            if begun.elapsed() > LOOKUP_TIMEOUT {
                return Err(Denied::unavailable(format!(
                    "a principal's records in {collection} were not found within {} s: its table needs an index on the field of \
                     principal(…)",
                    LOOKUP_TIMEOUT.as_secs()
                )));
            }
            let last = page.records.last();
            listing.after = last.map(|last| last.id.clone().into());
        }
    }
}

/// The field has the name. `None`: it can't have exactly this one.
fn has_name(IsName { field, name }: &IsName, collection: &Collection) -> Option<Filter> {
    let values = values_of_field(collection, field, vec![name.as_str().into()]);
    let value = values.ok()?.pop()?;
    let text = match &value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    (text == *name).then(|| Filter::eq(field, value))
}

fn of(filter: &Filter, collection: &Collection) -> Result<Predicate, FieldErrors> {
    Predicate::of(filter, collection, |_| true)
}

fn does_not_fit(errors: FieldErrors) -> Denied {
    Denied::unavailable(errors)
}

#[cfg(test)]
mod tests {
    use fastrand::Rng;
    use serde_json::json;

    use super::*;
    use crate::engine::engine::Engine;
    use crate::model::access::Access;
    use crate::model::edit::Edit;
    use crate::model::principal::Principal;
    use crate::model::record::Record;
    use crate::schema::rules::{
        Rule, Rules, everyone, exists, on, owner, principal, role, signed_in,
    };
    use crate::store::memory::MemoryStore;

    const NAMES: [&str; 3] = ["ada", "bob", "7"];
    /// What a number is not written as.
    const OTHERS: [&str; 3] = ["07", " 7", "7.0"];
    const FIELDS: [&str; 4] = ["owner", "number", "project", "public"];

    struct Staff;

    /// A rule, and whether it admits a record to a principal that it applies to, told by the memberships.
    type Known = (Rule, fn(&str, &Record, &[Record]) -> bool);

    fn is_member(name: &str, record: &Record, members: &[Record], roles: &[&str]) -> bool {
        members.iter().any(|member| {
            let has_role = roles.iter().any(|role| member.fields["role"] == *role);
            let is_same = member.fields["project"] == record.fields["project"];
            member.fields["user"] == name && is_same && has_role
        })
    }

    fn rule(random: &mut Rng) -> Known {
        let editor = || principal("user").and(Filter::eq("role", "editor"));
        let known: [Known; 7] = [
            (everyone(), |_, _, _| true),
            (signed_in(), |_, _, _| true),
            (role("staff", |_: &Staff| true), |_, _, _| true),
            (owner("owner"), |name, record, _| {
                record.fields["owner"] == name
            }),
            // A number can be the name of a principal.
            (owner("number"), |name, record, _| {
                let number = record.fields["number"].to_string();
                number == name
            }),
            (
                exists("members", on("project"), principal("user")),
                |name, record, members| is_member(name, record, members, &["editor", "viewer"]),
            ),
            (
                exists("members", on("project"), editor()),
                |name, record, members| is_member(name, record, members, &["editor"]),
            ),
        ];
        let (mut rule, admits) = known[random.usize(..known.len())].clone();
        if random.bool() {
            rule = rule.hide([FIELDS[random.usize(..FIELDS.len())]]);
        }
        if random.u8(..3) == 0 {
            return (rule.rows(Filter::eq("public", true)), admits);
        }
        (rule, admits)
    }

    fn record(random: &mut Rng, fields: &[&str]) -> serde_json::Value {
        let name = NAMES[random.usize(..NAMES.len())];
        let fields = fields.iter().map(|field| {
            let value = match *field {
                "owner" | "user" => json!(name),
                "number" | "project" => json!(random.i64(5..8)),
                "role" => json!(["editor", "viewer"][random.usize(..2)]),
                _ => json!(random.bool()),
            };
            ((*field).to_owned(), value)
        });
        fields.collect::<serde_json::Map<_, _>>().into()
    }

    async fn all(engine: &Engine, collection: &str) -> Vec<Record> {
        let limit = PageLimit {
            rows: 1000,
            bytes: MAX_PAGE_BYTES,
        };
        let listing = Listing::by_id(None, limit);
        let page = engine.store().list(collection, &listing).await;
        page.unwrap().records
    }

    async fn check(random: &mut Rng) {
        let text = || json!({"type": "string"});
        let number = || json!({"type": "integer"});
        let tasks = json!({"owner": text(), "number": number(), "project": number(), "public": {"type": "boolean"}});
        let members = json!({"user": text(), "project": number(), "role": text()});
        let of = |fields| json!({"type": "object", "properties": fields});
        let rules: Vec<Known> = (0..1 + random.usize(..3)).map(|_| rule(random)).collect();
        let data = rules
            .iter()
            .fold(Rules::new(), |all, (rule, _)| all.read(rule.clone()));
        let ruled = Collection::from_schema("tasks", &of(tasks)).rules(data);
        let engine = Engine::builder()
            .collection(ruled)
            .collection(Collection::from_schema("members", &of(members)).rules(Rules::new()))
            .store(MemoryStore::new());
        // Rules of which one would allow a field in vain are refused.
        let Ok(engine) = engine.start().await else {
            return;
        };
        let members =
            (0..4).map(|_| Edit::create("members", record(random, &["user", "project", "role"])));
        let members = members.collect::<Vec<_>>().into_iter();
        let tasks = (0..8).map(|_| Edit::create("tasks", record(random, &FIELDS)));
        engine
            .transaction(members.chain(tasks).collect())
            .await
            .unwrap();
        let members = all(&engine, "members").await;
        let tasks = all(&engine, "tasks").await;
        let mut principals = vec![Principal::anonymous(), Principal::named("")];
        for name in NAMES.into_iter().chain(OTHERS) {
            principals.extend([Principal::named(name), Principal::named(name).with(Staff)]);
        }
        for principal in principals {
            let asked = engine
                .permissions(Some(&principal), Access::Read, "tasks")
                .await;
            let name = principal.name().unwrap_or_default();
            for task in &tasks {
                let admitting = rules.iter().filter(|(rule, admits)| {
                    let is_public = rule.rows.is_none() || task.fields["public"] == true;
                    rule.applies_to(&principal) && is_public && admits(name, task, &members)
                });
                let admitting: Vec<_> = admitting.map(|(rule, _)| rule).collect();
                let read = asked.as_ref().ok().map(|permissions| &permissions.read);
                let shown = read.filter(|read| read.shows(task));
                assert_eq!(
                    shown.is_some(),
                    !admitting.is_empty(),
                    "{principal:?} {task:?} {rules:?}"
                );
                // A field is shown only if a rule that admits this record shows it.
                for field in FIELDS {
                    let is_shown = shown.is_some_and(|read| read.view.shows(field));
                    let may_be = admitting.iter().any(|rule| rule.view.shows(field));
                    assert!(
                        may_be || !is_shown,
                        "{field} {principal:?} {task:?} {rules:?}"
                    );
                }
            }
        }
    }

    #[tokio::test]
    async fn a_principal_sees_what_a_rule_admits_and_nothing_else() {
        let seed = fastrand::u64(..);
        println!("seed {seed}");
        let mut random = Rng::with_seed(seed);
        for _ in 0..300 {
            check(&mut random).await;
        }
    }
}

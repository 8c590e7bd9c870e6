//! Checks rules when the engine starts: a rule that can't mean what it says is an error then, and not a surprise later.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::model::access::Access;
use crate::schema::checked_query::comparison_of;
use crate::schema::collection::Collection;
use crate::schema::comparison::Comparison;
use crate::schema::predicate::Predicate;
use crate::schema::rules::{Entry, Exists, Rules, Who};
use crate::schema::view::View;

type Collections = BTreeMap<Arc<str>, Arc<Collection>>;

/// The accesses by which records are written, and their names in [`Rules`].
const WRITES: [(Access, &str); 3] = [
    (Access::Create, "create"),
    (Access::Update, "update"),
    (Access::Delete, "delete"),
];

impl Rules {
    /// What is wrong with these rules of a collection, and what to do.
    pub(crate) fn check(&self, collection: &Collection, all: &Collections) -> Result<(), String> {
        for entry in &self.entries {
            let checked = Check { entry, collection }.fields(all);
            checked.map_err(|fault| format!("{entry}: {fault}"))?;
        }
        let views = |entry: &Entry| entry.rule.view.clone();
        let writable = |entry: &Entry| entry.rule.writable.clone();
        self.check_fields(Access::Read, "shows", collection, views)?;
        self.check_fields(Access::Create, "lets be set", collection, writable)?;
        self.check_fields(Access::Update, "lets be set", collection, writable)?;
        if !self.allows_blind_writes {
            self.check_readable()?;
        }
        Ok(())
    }

    /// Refuses a rule that allows a field which nobody ever gets by it, because another rule applies as well, and does not allow it.
    fn check_fields(
        &self,
        access: Access,
        allows: &str,
        collection: &Collection,
        view: impl Fn(&Entry) -> View,
    ) -> Result<(), String> {
        for entry in self.for_access(access) {
            for other in self.for_access(access) {
                let prevails = entry.rule.is_for_all_records()
                    && (!other.rule.is_for_all_records() || entry.number <= other.number);
                if prevails || !applies_whenever(&other.rule.who, &entry.rule.who) {
                    continue;
                }
                let (one, other_view) = (view(entry), view(other));
                let lost = collection
                    .fields()
                    .iter()
                    .find(|field| one.shows(&field.name) && !other_view.shows(&field.name));
                if let Some(lost) = lost {
                    return Err(format!(
                        "{entry}, {allows} the field {:?} and {other}, does not, but whoever the first applies to, the second applies to as \
                         well, and a principal has the same fields in all records: give both rules the same fields, put a rule for all \
                         records first, or move the fields to a collection of their own",
                        lost.name
                    ));
                }
            }
        }
        Ok(())
    }

    /// Refuses a rule that lets principals write records that they may not read.
    fn check_readable(&self) -> Result<(), String> {
        for (access, name) in WRITES {
            for entry in self.for_access(access) {
                let mut readable = self.for_access(Access::Read);
                if !readable.any(|read| admits_all_of(read, entry, access)) {
                    return Err(format!(
                        "{entry}, lets principals {name} records that no rule lets them read: add .read({}), or call \
                         .allow_blind_writes() if that is meant",
                        entry.rule.who
                    ));
                }
            }
        }
        Ok(())
    }
}

/// Whether a rule for the first applies to every principal to which one for the second does. Those with a role count as signed in.
fn applies_whenever(first: &Who, second: &Who) -> bool {
    match (first, second) {
        (Who::Everyone, _) => true,
        (Who::Role(first), Who::Role(second)) => first.name == second.name,
        (Who::Role(_), _) | (_, Who::Everyone) => false,
        _ => true,
    }
}

/// Whether a rule to read surely admits every record that a rule to write admits, to the same principals.
fn admits_all_of(read: &Entry, write: &Entry, access: Access) -> bool {
    let (read, write) = (&read.rule, &write.rule);
    let rows = match &read.rows {
        None => true,
        some => *some == write.rows,
    };
    let who = match (&read.who, &write.who) {
        (Who::Everyone, _) => true,
        (Who::SignedIn, other) => !matches!(other, Who::Everyone),
        (Who::Owner(field), Who::Owner(other)) if field == other => true,
        // The record gets the name when it is created.
        (Who::Owner(field), _) => access == Access::Create && write.set.contains(field),
        (Who::Role(role), Who::Role(other)) => role.name == other.name,
        (Who::Exists(one), Who::Exists(other)) => {
            let filter = &one.principal.filter;
            one.collection == other.collection
                && one.on == other.on
                && one.principal.field == other.principal.field
                && (filter.is_none() || *filter == other.principal.filter)
        }
        _ => false,
    };
    rows && who
}

struct Check<'a> {
    entry: &'a Entry,
    collection: &'a Collection,
}

impl Check<'_> {
    /// Checks the fields that a rule names, in its collection and in another.
    fn fields(&self, all: &Collections) -> Result<(), String> {
        let (rule, collection) = (&self.entry.rule, self.collection);
        if self.entry.accesses.is_empty() {
            return Err("allows nothing".into());
        }
        let named = rule.view.named_fields().chain(rule.writable.named_fields());
        for name in named.filter(|name| *name != "id") {
            self.known(name)?;
        }
        if let Some(filter) = &rule.rows {
            let fits = Predicate::of(filter, collection, |_| true);
            fits.map_err(|errors| format!("its filter does not fit: {errors}"))?;
        }
        match &rule.who {
            Who::Owner(field) => has_name(collection, field)?,
            Who::Exists(exists) => self.exists(exists, all)?,
            Who::Everyone | Who::SignedIn | Who::Role(_) => {}
        }
        for name in &rule.set {
            self.known(name)?;
            has_name(collection, name)?;
            let field = collection.field(name);
            if field.is_some_and(|field| !field.is_settable()) {
                return Err(format!("can't set the field {name:?}: the server sets it"));
            }
            let is_nullable = field.is_some_and(|field| field.schema.nullable);
            if matches!(rule.who, Who::Everyone) && !is_nullable {
                return Err(format!(
                    "sets the field {name:?} to the name of the principal, and an anonymous one has none: use signed_in()"
                ));
            }
            if !self.entry.accesses.contains(&Access::Create) {
                return Err(format!(
                    "sets the field {name:?}, which happens on creation, and does not allow to create"
                ));
            }
        }
        Ok(())
    }

    fn exists(&self, exists: &Exists, all: &Collections) -> Result<(), String> {
        let Exists {
            collection: name,
            on,
            principal,
        } = exists;
        let Some(theirs) = all.get(name) else {
            return Err(format!("there is no collection {name:?}"));
        };
        let of_theirs = comparison(theirs, &on.theirs)?;
        let of_ours = comparison(self.collection, &on.ours)?;
        if of_theirs != of_ours {
            return Err(format!(
                "the field {:?} of {name} and the field {:?} of {} do not compare: their types differ",
                on.theirs,
                on.ours,
                self.collection.name()
            ));
        }
        has_name(theirs, &principal.field)?;
        if let Some(filter) = &principal.filter {
            let fits = Predicate::of(filter, theirs, |_| true);
            fits.map_err(|errors| format!("its filter does not fit {name}: {errors}"))?;
        }
        Ok(())
    }

    fn known(&self, name: &str) -> Result<(), String> {
        match self.collection.field(name) {
            Some(_) => Ok(()),
            None => Err(unknown(self.collection, name)),
        }
    }
}

fn unknown(collection: &Collection, field: &str) -> String {
    format!("{} has no field {field:?}", collection.name())
}

/// How a field compares that a rule compares with another.
fn comparison(collection: &Collection, field: &str) -> Result<Comparison, String> {
    if field != "id" && collection.field(field).is_none() {
        return Err(unknown(collection, field));
    }
    let comparison = comparison_of(collection, field);
    comparison.map_err(|_| {
        let name = collection.name();
        format!("the field {field:?} of {name} can't be compared")
    })
}

/// Whether a field can have the name of a principal.
fn has_name(collection: &Collection, field: &str) -> Result<(), String> {
    match comparison(collection, field)? {
        Comparison::Text | Comparison::Uuid | Comparison::Decimal => Ok(()),
        Comparison::Boolean | Comparison::Double | Comparison::Time => {
            let name = collection.name();
            Err(format!(
                "the field {field:?} of {name} can't have the name of a principal: it is neither text nor a whole number nor a UUID"
            ))
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::model::filter::Filter;
    use crate::schema::rules::{
        Rule, everyone, exists, on, owner, principal, principal_name, role, signed_in,
    };

    fn fault(rules: &Rules) -> Option<String> {
        let tasks = json!({"type": "object", "properties": {
            "project_id": {"type": "integer"},
            "owner": {"type": "string"},
            "title": {"type": "string"},
            "due": {"type": "string", "format": "date-time"},
            "done": {"type": "boolean"},
            "tags": {"type": "array"},
        }});
        let members = json!({"type": "object", "properties": {
            "project_id": {"type": "integer"},
            "project": {"type": "string"},
            "user_id": {"type": "string"},
            "active": {"type": "boolean"},
        }});
        let collections = [
            Collection::from_schema("tasks", &tasks).timestamps(),
            Collection::from_schema("members", &members),
        ];
        let named = collections.map(|one| (Arc::clone(one.name()), Arc::new(one)));
        let all = Collections::from(named);
        rules.check(&all["tasks"], &all).err()
    }

    #[track_caller]
    #[expect(clippy::needless_pass_by_value, reason = "each is built for its check")]
    fn check_bad(rules: Rules, expected: &str) {
        let fault = fault(&rules).expect("the rules are refused");
        assert!(fault.contains(expected), "{fault}");
    }

    #[track_caller]
    #[expect(clippy::needless_pass_by_value, reason = "each is built for its check")]
    fn check_good(rules: Rules) {
        assert_eq!(fault(&rules), None);
    }

    fn member() -> Rule {
        exists("members", on("project_id"), principal("user_id"))
    }

    fn editor() -> Rule {
        let active = principal("user_id").and(Filter::eq("active", true));
        exists("members", on("project_id"), active)
    }

    struct Staff;

    fn staff() -> Rule {
        role("staff", |_: &Staff| true)
    }

    fn read(rule: Rule) -> Rules {
        Rules::new().read(rule)
    }

    #[test]
    fn a_rule_names_fields_of_its_collection() {
        check_bad(
            read(owner("owns")),
            "rule 1, owner(\"owns\"): tasks has no field \"owns\"",
        );
        check_bad(read(everyone().hide(["x"])), "tasks has no field \"x\"");
        check_bad(read(everyone().show(["x"])), "tasks has no field \"x\"");
        check_bad(
            read(everyone()).update(everyone().writable(["x"])),
            "rule 2, everyone(): tasks has no field \"x\"",
        );
        check_bad(
            read(everyone()).create(signed_in().set("x", principal_name())),
            "tasks has no field \"x\"",
        );
        check_bad(
            read(everyone().rows(Filter::eq("x", 1))),
            "its filter does not fit: x is not a known field",
        );
        check_bad(
            read(everyone().rows(Filter::eq("project_id", "many"))),
            "its filter does not fit: project_id",
        );
        check_good(read(everyone().show(["id", "title"]).hide(["updated_at"])));
    }

    #[test]
    fn exists_names_a_collection_and_fields_that_compare() {
        check_bad(
            read(exists("people", on("project_id"), principal("user_id"))),
            "there is no collection \"people\"",
        );
        check_bad(
            read(exists("members", on("x"), principal("user_id"))),
            "members has no field \"x\"",
        );
        check_bad(
            read(exists("members", on("user_id"), principal("user_id"))),
            "tasks has no field \"user_id\"",
        );
        check_bad(
            read(exists("members", on("project_id"), principal("x"))),
            "members has no field \"x\"",
        );
        check_bad(
            read(exists(
                "members",
                on("project_id").equals("title"),
                principal("user_id"),
            )),
            "do not compare: their types differ",
        );
        check_bad(
            read(exists(
                "members",
                on("project_id").equals("tags"),
                principal("user_id"),
            )),
            "the field \"tags\" of tasks can't be compared",
        );
        check_bad(
            read(exists("members", on("project_id"), principal("active"))),
            "the field \"active\" of members can't have the name of a principal",
        );
        let filtered = principal("user_id").and(Filter::eq("x", 1));
        check_bad(
            read(exists("members", on("project_id"), filtered)),
            "its filter does not fit members: x is not a known field",
        );
        check_good(read(member()));
        check_good(read(exists(
            "members",
            on("project_id").equals("id"),
            principal("user_id"),
        )));
        check_good(read(exists(
            "members",
            on("id").equals("project_id"),
            principal("user_id"),
        )));
        check_good(read(exists(
            "members",
            on("project").equals("title"),
            principal("id"),
        )));
    }

    #[test]
    fn a_field_of_the_owner_can_have_a_name() {
        check_bad(read(owner("done")), "can't have the name of a principal");
        check_bad(read(owner("due")), "can't have the name of a principal");
        check_bad(read(owner("tags")), "can't be compared");
        check_good(read(owner("project_id")));
        check_good(read(owner("id")));
    }

    #[test]
    fn what_is_set_can_be_set_on_creation() {
        let create = |rule: Rule| read(everyone()).create(rule);
        let set = |field: &str| create(signed_in().set(field, principal_name()));
        check_bad(set("created_at"), "can't have the name of a principal");
        check_bad(set("done"), "can't have the name of a principal");
        check_bad(
            create(everyone().set("owner", principal_name())),
            "an anonymous one has none",
        );
        check_bad(
            read(everyone()).update(signed_in().set("owner", principal_name())),
            "does not allow to create",
        );
        check_good(set("owner"));
    }

    #[test]
    fn what_may_be_written_may_be_read() {
        let cases = [
            (everyone(), everyone(), true),
            (everyone(), staff(), true),
            (signed_in(), everyone(), false),
            (signed_in(), owner("owner"), true),
            (owner("owner"), owner("owner"), true),
            (owner("owner"), owner("title"), false),
            (owner("owner"), signed_in(), false),
            (
                owner("owner"),
                signed_in().set("owner", principal_name()),
                false,
            ),
            (staff(), staff(), true),
            (staff(), role("boss", |_: &Staff| true), false),
            (staff(), signed_in(), false),
            (member(), member(), true),
            (member(), editor(), true),
            (editor(), member(), false),
            (member(), owner("owner"), false),
            (
                everyone().rows(Filter::eq("done", false)),
                everyone(),
                false,
            ),
            (
                everyone().rows(Filter::eq("done", false)),
                everyone().rows(Filter::eq("done", false)),
                true,
            ),
            (
                everyone().rows(Filter::eq("done", false)),
                everyone().rows(Filter::eq("done", true)),
                false,
            ),
            (everyone(), everyone().rows(Filter::eq("done", true)), true),
        ];
        for (to_read, to_write, is_covered) in cases {
            let message = format!("{to_read:?} {to_write:?}");
            let rules = read(to_read).write(to_write);
            match fault(&rules) {
                None => assert!(is_covered, "{message}"),
                Some(fault) => {
                    assert!(!is_covered, "{message}: {fault}");
                    let expected = "lets principals create records that no rule lets them read";
                    let update = "lets principals update records that no rule lets them read";
                    assert!(
                        fault.contains(expected) || fault.contains(update),
                        "{fault}"
                    );
                    check_good(rules.allow_blind_writes());
                }
            }
        }
        let create = signed_in().set("owner", principal_name());
        check_good(read(owner("owner")).create(create));
        check_bad(
            Rules::new().delete(signed_in()),
            "add .read(signed_in()), or call .allow_blind_writes()",
        );
    }

    #[test]
    fn every_field_that_a_rule_allows_is_seen_by_someone() {
        let hidden = || signed_in().hide(["title"]);
        let lost = "shows the field \"title\" and rule";
        check_bad(read(owner("owner")).read(hidden()), lost);
        check_bad(read(hidden()).read(owner("owner")), lost);
        check_bad(read(hidden()).read(staff()), lost);
        check_bad(read(member()).read(owner("owner").hide(["title"])), lost);
        check_bad(
            read(everyone())
                .update(everyone().writable(["done"]))
                .update(owner("owner").writable(["title"])),
            "lets be set the field \"title\" and rule",
        );
        check_good(read(staff()).read(hidden()));
        check_good(read(staff()).read(owner("owner").hide(["title"])));
        check_good(read(everyone()).write(owner("owner")));
        check_good(read(member().hide(["title"])).read(owner("owner").hide(["title"])));
    }
}

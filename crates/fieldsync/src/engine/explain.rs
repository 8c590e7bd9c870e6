//! Explains what decides on a subscription: which rule and filter, and how the hub and the store find its records.

use std::fmt::{self, Write as _};

use crate::engine::engine::Engine;
use crate::error::EngineError;
use crate::model::access::{Access, Denied};
use crate::model::filter::{Condition, Filter, Operand};
use crate::model::principal::Principal;
use crate::model::topic::Topic;
use crate::schema::collection::Collection;
use crate::schema::grant::Grant;
use crate::schema::index_key::IndexKey;
use crate::schema::narrowing::Narrowing;
use crate::schema::predicate::Node;
use crate::schema::row_filter::RowFilter;
use crate::schema::rule_grants::deciding;
use crate::schema::rules::Entry;
use crate::store::read_changes::SUBSCRIBER_PAGE;

/// The most values of a list that an explanation shows.
const MAX_SHOWN: usize = 10;

/// What decides on a principal's subscription to a topic, from [`Engine::explain`]. Its text is for developers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Explanation {
    is_granted: bool,
    text: String,
}

impl Explanation {
    /// Whether the principal may subscribe to the topic.
    #[must_use]
    pub fn is_granted(&self) -> bool {
        self.is_granted
    }
}

impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl Engine {
    /// Explains what a principal would see of a topic now, and why: which rules decide, which records and fields they grant, what the
    /// query asks for, and how the hub and the store find the records.
    ///
    /// The text contains values of rules and of records, among them the principal's name. It is for the developer of the app: do not
    /// send it to clients.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # use fieldsync::{Collection, Engine, Filter, MemoryStore, Principal, Rules, Topic, owner, role};
    /// # #[derive(Default, serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
    /// # #[serde(default)]
    /// # struct Task { owner: String, done: bool, notes: String }
    /// # struct Claims { is_staff: bool }
    /// let rules = Rules::new()
    ///     .read(role("staff", |claims: &Claims| claims.is_staff))
    ///     .read(owner("owner").hide(["notes"]));
    /// # let engine = Engine::builder()
    /// #     .collection(Collection::of::<Task>("tasks").rules(rules))
    /// #     .store(MemoryStore::new())
    /// #     .start()
    /// #     .await?;
    /// let open = Topic::of("tasks").filter(Filter::eq("done", false));
    /// let explanation = engine.explain(&Principal::named("ada"), open).await?;
    /// assert_eq!(explanation.to_string(), "\
    /// read tasks?and=%28done.eq.false%29 as \"ada\"
    ///   rule 1, role(\"staff\"): does not apply
    ///   rule 2, owner(\"owner\"): decides
    ///   fields: done, owner
    ///   records: owner.eq.ada
    ///   of them: done.eq.false
    ///   a change is found by: owner \"ada\"
    ///   the store is asked for: owner is \"ada\", and done is false
    ///   its plan: all records of the table, in memory
    /// ");
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// When the collection is unknown. That the principal may not read it is an explanation.
    pub async fn explain(
        &self,
        principal: &Principal,
        topic: impl Into<Topic>,
    ) -> Result<Explanation, EngineError> {
        let topic = topic.into();
        let collection = self.known_collection(&topic.collection)?;
        let mut lines = Lines(format!("read {topic} as {}\n", name_of(principal)));
        lines.rules(&collection, principal);
        let explained = self.explain_grant(&mut lines, &collection, principal, &topic);
        let is_granted = match explained.await {
            Ok(()) => true,
            Err(why) => {
                lines.add("refused", why);
                false
            }
        };
        let text = lines.0;
        Ok(Explanation { is_granted, text })
    }

    /// What is granted, or why nothing is.
    async fn explain_grant(
        &self,
        lines: &mut Lines,
        collection: &Collection,
        principal: &Principal,
        topic: &Topic,
    ) -> Result<(), String> {
        let Some(authorizer) = collection.authorizer() else {
            return Err("the collection has no authorizer".into());
        };
        let asked = authorizer.authorize(principal, Access::Read, collection.name());
        let granted = asked.await.map_err(|denied| reason(&denied))?;
        if principal.is_expired() {
            return Err(Denied::Expired.to_string());
        }
        if let Some(id) = topic.id.as_ref().filter(|id| !collection.has_id_kind(id)) {
            return Err(format!("the collection can't have the id {id}"));
        }
        let granted = self.memberships().resolve(granted, collection).await;
        let granted = granted.map_err(|denied| reason(&denied))?;
        let granted = granted.checked(collection);
        let granted = granted.map_err(|errors| format!("the rule's filter: {errors}"))?;
        let of_record = topic.id.as_ref().map(|_| topic.query.check_of_record());
        let query = of_record.unwrap_or(Ok(()));
        let grant = query.and_then(|()| granted.narrowed(&topic.query, collection));
        let grant = grant.map_err(|errors| format!("the query: {errors}"))?;
        let fields = collection.fields().iter().map(|field| &*field.name);
        let mut shown: Vec<_> = fields.filter(|name| grant.view.shows(name)).collect();
        shown.sort_unstable();
        lines.add("fields", shown.join(", "));
        lines.add("records", rows_of(&grant));
        if let Some(filter) = &topic.query.filter {
            lines.add("of them", filter);
        }
        let by_id = topic.id.as_ref().map(|id| vec![IndexKey::of_record(id)]);
        lines.add(
            "a change is found by",
            match by_id.or_else(|| grant.keys()) {
                Some(keys) => found_by(&keys),
                None if grant.is_for_all() => "its collection: all are shown".into(),
                None => "a test of each: the conditions require no value, or too many".into(),
            },
        );
        if let Some(id) = &topic.id {
            lines.add("the store is asked for", format!("the record {id}"));
            return Ok(());
        }
        let listing = grant.listing(None, SUBSCRIBER_PAGE);
        lines.add(
            "the store is asked for",
            match &listing.narrowing {
                Some(narrowing) => in_words(narrowing),
                None if grant.is_for_all() => "all records".into(),
                None => "all records, and each is tested".into(),
            },
        );
        let plan = self.store().explain(collection.name(), &listing).await;
        let plan = plan.unwrap_or_else(|error| error.to_string());
        lines.add("its plan", plan.replace('\n', "\n    "));
        Ok(())
    }
}

/// The lines of an explanation.
struct Lines(String);

impl Lines {
    fn add(&mut self, name: impl fmt::Display, text: impl fmt::Display) {
        // Writing to a string does not fail.
        let _ = writeln!(self.0, "  {name}: {text}");
    }

    fn rules(&mut self, collection: &Collection, principal: &Principal) {
        let Some(rules) = collection.ruled_by() else {
            let authorizer = collection.authorizer();
            let authorizer = authorizer.map(|authorizer| format!("{authorizer:?}"));
            return self.add("authorizer", authorizer.as_deref().unwrap_or("none"));
        };
        let applies = |entry: &Entry| entry.rule.applies_to(principal);
        let applying = rules.for_access(Access::Read);
        let applying = applying.filter(|entry| applies(entry)).collect();
        let (deciding, _) = deciding(applying);
        for entry in rules.for_access(Access::Read) {
            let decides = deciding.iter().any(|one| one.number == entry.number);
            self.add(
                entry,
                match (applies(entry), decides) {
                    (_, true) => "decides",
                    (true, false) => "applies, but another is for all records",
                    (false, false) => "does not apply",
                },
            );
        }
        if rules.for_access(Access::Read).next().is_none() {
            self.add("rules", "none to read");
        }
    }
}

fn name_of(principal: &Principal) -> String {
    principal.name().map_or_else(
        || "an anonymous principal".into(),
        |name| format!("{name:?}"),
    )
}

/// With the cause.
fn reason(denied: &Denied) -> String {
    match denied {
        Denied::Unavailable(source) => format!("{denied}: {source}"),
        other => other.to_string(),
    }
}

fn rows_of(grant: &Grant) -> String {
    match &grant.rows {
        None => "all".into(),
        Some(rows) => match rows.predicate() {
            Some(predicate) => match condition(&predicate.0) {
                Condition::Or(parts) if parts.is_empty() => "none".into(),
                condition => Filter(condition).to_string(),
            },
            None => match rows {
                RowFilter::Test(_) => format!("those that pass a test of the app's own: {rows:?}"),
                _ => "none".into(),
            },
        },
    }
}

/// A checked condition as it is written.
fn condition(node: &Node) -> Condition {
    let all = |parts: &[Node]| parts.iter().map(condition).collect();
    match node {
        Node::And(parts) | Node::Or(parts) if parts.len() == 1 => condition(&parts[0]),
        Node::And(parts) => Condition::And(all(parts)),
        Node::Or(parts) => Condition::Or(all(parts)),
        Node::Not(part) => Condition::Not(Box::new(condition(part))),
        Node::IsNull(field) => Condition::IsNull(field.clone()),
        Node::Is(field, value) => Condition::Is(field.clone(), *value),
        Node::Compare {
            field,
            operator,
            value,
            ..
        } => Condition::Compare(field.clone(), *operator, Operand::Json(value.clone())),
        Node::In { field, values, .. } => {
            let values = values.iter().cloned().map(Operand::Json);
            Condition::In(field.clone(), values.collect())
        }
    }
}

fn found_by(keys: &[IndexKey]) -> String {
    if keys.is_empty() {
        return "nothing: no record can match".into();
    }
    let shown = keys
        .iter()
        .map(|key| format!("{} {:?}", key.field, key.value));
    some_of(shown, keys.len(), ", ")
}

/// What a store is asked for.
fn in_words(narrowing: &Narrowing) -> String {
    let list = |parts: &[Narrowing], word: &str| {
        let shown = parts.iter().map(|part| match part {
            Narrowing::All(parts) | Narrowing::Any(parts) if parts.len() > 1 => {
                format!("({})", in_words(part))
            }
            one => in_words(one),
        });
        some_of(shown, parts.len(), word)
    };
    match narrowing {
        Narrowing::OneOf(field, values) => {
            let shown = values.iter().map(ToString::to_string);
            format!("{field} is {}", some_of(shown, values.len(), " or "))
        }
        Narrowing::AtLeast(field, value) => format!("{field} is at least {value}"),
        Narrowing::AtMost(field, value) => format!("{field} is at most {value}"),
        Narrowing::IsNull(field) => format!("{field} is null"),
        Narrowing::IsNotNull(field) => format!("{field} is not null"),
        Narrowing::Any(parts) if parts.is_empty() => "nothing".into(),
        Narrowing::All(parts) | Narrowing::Any(parts) if parts.len() == 1 => in_words(&parts[0]),
        Narrowing::All(parts) => list(parts, ", and "),
        Narrowing::Any(parts) => list(parts, ", or "),
    }
}

/// The first few, and how many more there are.
fn some_of(texts: impl Iterator<Item = String>, count: usize, separator: &str) -> String {
    let shown: Vec<_> = texts.take(MAX_SHOWN).collect();
    let mut text = shown.join(separator);
    if let Some(more @ 1..) = count.checked_sub(MAX_SHOWN) {
        let _ = write!(text, " and {more} more");
    }
    text
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::store::memory::MemoryStore;

    #[track_caller]
    fn check(explanation: &Explanation, expected: &[&str]) {
        let text = explanation.to_string();
        let lines: Vec<_> = text.lines().skip(1).map(str::trim).collect();
        assert_eq!(lines, expected);
    }

    #[tokio::test]
    async fn what_a_closure_grants_is_explained() {
        let fields = json!({"type": "object", "properties": {"number": {"type": "integer"}}});
        let notes =
            Collection::from_schema("notes", &fields).authorize_fn(|principal, _| match principal
                .name()
            {
                None => Err(Denied::unavailable("the directory is down")),
                Some("many") => Ok(Grant::full().with_rows(Filter::is_in("number", 1..=12))),
                Some("unknown") => Ok(Grant::full().with_rows(Filter::eq("x", 1))),
                Some(_) => Ok(Grant::full().with_rows_fn("even", |_| true)),
            });
        let builder = Engine::builder()
            .collection(notes)
            .store(MemoryStore::new());
        let engine = builder.start().await.unwrap();
        let explain = async |principal| engine.explain(&principal, "notes").await.unwrap();
        check(
            &explain(Principal::named("ada")).await,
            &[
                "authorizer: AuthorizeFn",
                "fields: number",
                "records: those that pass a test of the app's own: Test(\"even\")",
                "a change is found by: a test of each: the conditions require no value, or too many",
                "the store is asked for: all records, and each is tested",
                "its plan: all records of the table, in memory",
            ],
        );
        check(
            &explain(Principal::named("many")).await,
            &[
                "authorizer: AuthorizeFn",
                "fields: number",
                "records: number.in.(1,2,3,4,5,6,7,8,9,10,11,12)",
                "a change is found by: number \"1\", number \"2\", number \"3\", number \"4\", number \"5\", number \"6\", \
                 number \"7\", number \"8\", number \"9\", number \"10\" and 2 more",
                "the store is asked for: number is 1 or 2 or 3 or 4 or 5 or 6 or 7 or 8 or 9 or 10 and 2 more",
                "its plan: all records of the table, in memory",
            ],
        );
        for (principal, refused) in [
            (
                Principal::named("unknown"),
                "refused: the rule's filter: x is not a known field",
            ),
            (
                Principal::anonymous(),
                "refused: the authorizer failed: the directory is down",
            ),
        ] {
            let explained = explain(principal).await;
            assert!(!explained.is_granted());
            check(&explained, &["authorizer: AuthorizeFn", refused]);
        }
    }
}

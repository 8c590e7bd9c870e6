//! Rules as data: who may do what with which records and fields of a collection. `rule_grants` turns them into grants, and
//! `rule_checks` checks them when the engine starts.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

use crate::model::access::Access;
use crate::model::filter::Filter;
use crate::model::principal::Principal;
use crate::schema::view::View;

/// Who may do what with a collection, as data. What no rule names is denied.
///
/// A rule says who (`everyone()`, `signed_in()`, [`owner`], [`exists`], [`role`]), and may limit the records and the fields.
///
/// ```
/// use fieldsync::{Collection, Rules, everyone, owner, principal_name};
/// # #[derive(Default, serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
/// # #[serde(default)]
/// # struct Post { author: String, text: String }
///
/// let posts = Collection::of::<Post>("posts").rules(
///     Rules::new()
///         .read(everyone())
///         .write(owner("author").set("author", principal_name())),
/// );
/// ```
///
/// # Several rules for one access
///
/// A principal has the records of all rules that apply to it. It has one view of them, since a principal sees the same fields in every
/// record: if a rule for all records applies, the first such rule decides the fields; otherwise they are those that every rule that
/// applies allows. [`EngineBuilder::start`](crate::EngineBuilder::start) refuses rules of which one allows fields that therefore
/// nobody ever gets by it.
///
/// # Denials
///
/// A principal to which no rule for the access applies receives 403, and an anonymous one 401 if the rule of another applies. A
/// record that no rule for reading admits is 404. One that may be read but not written is 403.
#[derive(Debug, Clone, Default)]
#[must_use]
pub struct Rules {
    pub(crate) entries: Vec<Entry>,
    pub(crate) allows_blind_writes: bool,
}

/// A rule, and what it allows to do.
#[derive(Debug, Clone)]
pub(crate) struct Entry {
    /// From 1, in the order in which they were given.
    pub(crate) number: usize,
    pub(crate) accesses: Vec<Access>,
    pub(crate) rule: Rule,
}

/// Who, which records, and which fields: a part of [`Rules`].
#[derive(Debug, Clone)]
#[must_use]
pub struct Rule {
    pub(crate) who: Who,
    pub(crate) rows: Option<Filter>,
    pub(crate) view: View,
    pub(crate) writable: View,
    pub(crate) set: Vec<String>,
}

#[derive(Debug, Clone)]
pub(crate) enum Who {
    Everyone,
    SignedIn,
    Owner(String),
    Exists(Exists),
    Role(Role),
}

/// There is a record in another collection.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Exists {
    pub(crate) collection: Arc<str>,
    pub(crate) on: On,
    pub(crate) principal: PrincipalIs,
}

/// The fields that [`exists`] compares, from [`on`].
#[derive(Debug, Clone, PartialEq)]
pub struct On {
    pub(crate) theirs: String,
    pub(crate) ours: String,
}

/// Which records of the other collection are the principal's, from [`principal`].
#[derive(Debug, Clone, PartialEq)]
pub struct PrincipalIs {
    pub(crate) field: String,
    pub(crate) filter: Option<Filter>,
}

/// The name of the principal, as the value of a field, from [`principal_name`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct PrincipalName;

/// A test of the principal's claims.
#[derive(Clone)]
pub(crate) struct Role {
    pub(crate) name: Arc<str>,
    has: Arc<dyn Fn(&Principal) -> bool + Send + Sync>,
}

/// Every principal, also an anonymous one.
pub fn everyone() -> Rule {
    Rule::of(Who::Everyone)
}

/// Every principal that has a name, which is not empty.
pub fn signed_in() -> Rule {
    Rule::of(Who::SignedIn)
}

/// The principal whose name this field of the record has.
pub fn owner(field: impl Into<String>) -> Rule {
    Rule::of(Who::Owner(field.into()))
}

/// Principals with these claims. The name is for error messages and [`Engine::explain`](crate::Engine::explain); two roles with
/// the same name are the same.
///
/// ```
/// use fieldsync::{Rules, role, signed_in};
///
/// struct Claims { is_staff: bool }
///
/// let rules = Rules::new()
///     .read(signed_in())
///     .write(role("staff", |claims: &Claims| claims.is_staff));
/// ```
pub fn role<T, F>(name: &str, has: F) -> Rule
where
    T: Send + Sync + 'static,
    F: Fn(&T) -> bool + Send + Sync + 'static,
{
    let has = move |principal: &Principal| principal.get::<T>().is_some_and(&has);
    Rule::of(Who::Role(Role {
        name: name.into(),
        has: Arc::new(has),
    }))
}

/// Principals for which there is a record in another collection, with the same value as the record in the fields of [`on`], and with
/// the name of the principal in the field of [`principal`].
///
/// ```
/// use fieldsync::{Filter, Rules, exists, on, principal};
///
/// // The members of a project read its tasks, and its editors write them.
/// let member = || exists("members", on("project_id"), principal("user_id"));
/// let editor = exists("members", on("project_id"), principal("user_id").and(Filter::eq("role", "editor")));
/// let rules = Rules::new().read(member()).write(editor);
/// ```
///
/// The principal may have at most 1,000 such records: with more, the rule can't be evaluated (503). Whether a record exists is read when
/// the rule is asked, and again in the transaction of a write: a membership that was removed meanwhile lets nothing through, and one that
/// the same transaction adds does not count yet. Whether it may be read by the principal does not matter.
///
/// The table should have an index on the field of [`principal`].
pub fn exists(collection: &str, on: On, principal: PrincipalIs) -> Rule {
    Rule::of(Who::Exists(Exists {
        collection: collection.into(),
        on,
        principal,
    }))
}

/// The field of the other collection that has the value of the field of the same name.
#[must_use]
pub fn on(field: &str) -> On {
    On {
        theirs: field.into(),
        ours: field.into(),
    }
}

impl On {
    /// The field of the record has another name than that of the other collection, for example `id`.
    ///
    /// ```
    /// use fieldsync::{Rules, exists, on, principal};
    ///
    /// // Of the collection `projects`: those of which the principal is a member.
    /// let rules = Rules::new().read(exists("members", on("project_id").equals("id"), principal("user_id")));
    /// ```
    #[must_use]
    pub fn equals(self, field: &str) -> Self {
        let ours = field.into();
        Self { ours, ..self }
    }
}

/// The field of the other collection that has the name of the principal.
#[must_use]
pub fn principal(field: &str) -> PrincipalIs {
    PrincipalIs {
        field: field.into(),
        filter: None,
    }
}

impl PrincipalIs {
    /// The record of the other collection must also match.
    #[must_use]
    pub fn and(self, filter: Filter) -> Self {
        let filter = match self.filter {
            Some(before) => before.and(filter),
            None => filter,
        };
        Self {
            filter: Some(filter),
            ..self
        }
    }
}

/// The name of the principal, for [`Rule::set`].
#[must_use]
pub fn principal_name() -> PrincipalName {
    PrincipalName
}

impl Rule {
    fn of(who: Who) -> Self {
        Self {
            who,
            rows: None,
            view: View::full(),
            writable: View::full(),
            set: Vec::new(),
        }
    }

    /// Only records that match. A filter that was given before must match as well.
    pub fn rows(self, filter: Filter) -> Self {
        let rows = match self.rows {
            Some(before) => before.and(filter),
            None => filter,
        };
        Self {
            rows: Some(rows),
            ..self
        }
    }

    /// Hides these fields from who reads by this rule. Like all fields that can't be seen, they can be neither asked for nor compared.
    pub fn hide<N: Into<String>>(self, fields: impl IntoIterator<Item = N>) -> Self {
        let view = self.view.and(&View::except(fields));
        Self { view, ..self }
    }

    /// Shows only these fields, and the id, to who reads by this rule.
    pub fn show<N: Into<String>>(self, fields: impl IntoIterator<Item = N>) -> Self {
        let view = self.view.and(&View::only(fields));
        Self { view, ..self }
    }

    /// Lets only these fields be set by who creates or updates by this rule.
    pub fn writable<N: Into<String>>(self, fields: impl IntoIterator<Item = N>) -> Self {
        let writable = self.writable.and(&View::only(fields));
        Self { writable, ..self }
    }

    /// Gives the field this value in each record that is created by this rule. Its creator can't set the field.
    ///
    /// It says nothing about later updates: without [`Rule::writable`] they may change the field, as far as the record stays one that
    /// the rule admits.
    pub fn set(mut self, field: impl Into<String>, value: PrincipalName) -> Self {
        let PrincipalName = value;
        self.set.push(field.into());
        self
    }

    /// Whether it admits all records.
    pub(crate) fn is_for_all_records(&self) -> bool {
        self.rows.is_none() && matches!(self.who, Who::Everyone | Who::SignedIn | Who::Role(_))
    }

    /// Whether it applies to the principal. Which records it admits then is another question.
    pub(crate) fn applies_to(&self, principal: &Principal) -> bool {
        match &self.who {
            Who::Everyone => true,
            // An empty field has no owner.
            Who::SignedIn | Who::Owner(_) | Who::Exists(_) => {
                principal.name().is_some_and(|name| !name.is_empty())
            }
            Who::Role(role) => (role.has)(principal),
        }
    }
}

impl Rules {
    /// No rules: everything is denied.
    pub fn new() -> Self {
        Self::default()
    }

    /// Who may read records and receive their changes.
    pub fn read(self, rule: Rule) -> Self {
        self.allow([Access::Read], rule)
    }

    /// Who may create records.
    pub fn create(self, rule: Rule) -> Self {
        self.allow([Access::Create], rule)
    }

    /// Who may update records. A record must be one that the rule admits before and after the update.
    pub fn update(self, rule: Rule) -> Self {
        self.allow([Access::Update], rule)
    }

    /// Who may delete records.
    pub fn delete(self, rule: Rule) -> Self {
        self.allow([Access::Delete], rule)
    }

    /// Who may create, update and delete records.
    pub fn write(self, rule: Rule) -> Self {
        self.allow([Access::Create, Access::Update, Access::Delete], rule)
    }

    /// Who may read and write records.
    pub fn read_and_write(self, rule: Rule) -> Self {
        let all = [Access::Read, Access::Create, Access::Update, Access::Delete];
        self.allow(all, rule)
    }

    /// Who may do this.
    pub fn allow(mut self, accesses: impl IntoIterator<Item = Access>, rule: Rule) -> Self {
        self.entries.push(Entry {
            number: self.entries.len() + 1,
            accesses: accesses.into_iter().collect(),
            rule,
        });
        self
    }

    /// Lets principals write records that they may not read, for example to report something. Without it such a rule is a mistake,
    /// with which the engine does not start. A reply shows the id alone.
    pub fn allow_blind_writes(self) -> Self {
        Self {
            allows_blind_writes: true,
            ..self
        }
    }

    /// The fields of which the values decide which records principals may read.
    pub(crate) fn fields_that_decide_who_reads(&self) -> BTreeSet<String> {
        let of_rule = |Entry { rule, .. }: &Entry| {
            let rows = rule.rows.iter().flat_map(Filter::fields);
            let mut fields: Vec<String> = rows.map(str::to_owned).collect();
            match &rule.who {
                Who::Everyone | Who::SignedIn | Who::Role(_) => {}
                Who::Owner(field) => fields.push(field.clone()),
                Who::Exists(exists) => fields.push(exists.on.ours.clone()),
            }
            fields
        };
        self.for_access(Access::Read).flat_map(of_rule).collect()
    }

    /// The rules for this access.
    pub(crate) fn for_access(&self, access: Access) -> impl Iterator<Item = &Entry> {
        let entries = self.entries.iter();
        entries.filter(move |entry| entry.accesses.contains(&access))
    }
}

impl fmt::Debug for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Role").field(&self.name).finish()
    }
}

impl fmt::Display for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "rule {}, {}", self.number, self.rule.who)
    }
}

/// As it is written in Rust.
impl fmt::Display for Who {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Everyone => f.write_str("everyone()"),
            Self::SignedIn => f.write_str("signed_in()"),
            Self::Owner(field) => write!(f, "owner({field:?})"),
            Self::Role(role) => write!(f, "role({:?})", role.name),
            Self::Exists(Exists {
                collection,
                on,
                principal,
            }) => {
                write!(f, "exists({collection:?}, on({:?})", on.theirs)?;
                if on.ours != on.theirs {
                    write!(f, ".equals({:?})", on.ours)?;
                }
                write!(f, ", principal({:?})", principal.field)?;
                if let Some(filter) = &principal.filter {
                    write!(f, ".and({filter})")?;
                }
                f.write_str(")")
            }
        }
    }
}

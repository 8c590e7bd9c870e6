//! The app's rules of a collection: who may do what, and which records are valid.

use std::collections::BTreeSet;
use std::sync::Arc;

use serde::de::DeserializeOwned;

use crate::model::access::{Access, Denied};
use crate::model::field_errors::FieldErrors;
use crate::model::principal::Principal;
use crate::model::record::Fields;
use crate::model::refusal::Refusal;
use crate::schema::authorizer::{AuthorizeFn, Authorizer, OpenToEveryone};
use crate::schema::collection::Collection;
use crate::schema::grant::Grant;
use crate::schema::rule_grants::AuthorizeByRules;
use crate::schema::rules::Rules;

impl Collection {
    /// Allows every principal to read and write every record. Anonymous principals are included.
    #[must_use]
    pub fn open_to_everyone(self) -> Self {
        let mut open = self.authorize(OpenToEveryone);
        open.deciding_fields = Some(BTreeSet::new());
        open
    }

    /// Sets the authorizer, which decides what each principal may do. [`Collection::rules`] is shorter where rules as data can say it.
    #[must_use]
    pub fn authorize(mut self, authorizer: impl Authorizer) -> Self {
        self.authorizer = Some(Arc::new(authorizer));
        self.rules = None;
        self.deciding_fields = None;
        self
    }

    /// Sets rules as data, which decide what each principal may do.
    ///
    /// ```
    /// # use fieldsync::{Collection, Rules, everyone, owner, principal_name};
    /// # #[derive(Default, serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
    /// # #[serde(default)]
    /// # struct Post { author: String, text: String }
    /// let posts = Collection::of::<Post>("posts").rules(
    ///     Rules::new()
    ///         .read(everyone())
    ///         .write(owner("author").set("author", principal_name())),
    /// );
    /// ```
    #[must_use]
    pub fn rules(self, rules: Rules) -> Self {
        let rules = Arc::new(rules);
        let mut ruled = self.authorize(AuthorizeByRules(Arc::clone(&rules)));
        ruled.deciding_fields = Some(rules.fields_that_decide_who_reads());
        ruled.rules = Some(rules);
        ruled
    }

    /// Sets a closure that decides what each principal may do. Implement [`Authorizer`] for rules that need to wait.
    ///
    /// ```
    /// # use fieldsync::{Access, Collection, Denied, Grant};
    /// # #[derive(Default, serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
    /// # #[serde(default)]
    /// # struct Note { text: String }
    /// let notes = Collection::of::<Note>("notes").authorize_fn(|principal, access| {
    ///     match (principal.name(), access) {
    ///         (Some(_), _) | (None, Access::Read) => Ok(Grant::full()),
    ///         (None, _) => Err(Denied::Unauthenticated),
    ///     }
    /// });
    /// ```
    #[must_use]
    pub fn authorize_fn<F>(self, rule: F) -> Self
    where
        F: Fn(&Principal, Access) -> Result<Grant, Denied> + Send + Sync + 'static,
    {
        self.authorize(AuthorizeFn(rule))
    }

    /// Says that the grants of the authorizer limit records by these fields only. Without it any value may decide who reads a record, and
    /// each update is logged with the whole row; with it, the log leaves out large values of other fields that an update does not
    /// change. [`Collection::rules`] needs no such hint.
    ///
    /// The closure of [`Grant::with_rows_fn`] receives records with only these fields and the id. A filter that compares another field
    /// grants nothing (503), and is logged.
    ///
    /// ```
    /// # use fieldsync::{Collection, Denied, Filter, Grant};
    /// # #[derive(Default, serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
    /// # #[serde(default)]
    /// # struct Page { owner: String, body: String }
    /// let pages = Collection::of::<Page>("pages")
    ///     .authorize_fn(|principal, _| {
    ///         let name = principal.name().ok_or(Denied::Unauthenticated)?;
    ///         Ok(Grant::full().with_rows(Filter::eq("owner", name)))
    ///     })
    ///     .rows_decided_by(["owner"]);
    /// ```
    #[must_use]
    pub fn rows_decided_by<N: Into<String>>(mut self, fields: impl IntoIterator<Item = N>) -> Self {
        let fields: BTreeSet<String> = fields.into_iter().map(Into::into).collect();
        let mut unknown = fields.iter().filter(|name| self.field(name).is_none());
        if let Some(name) = unknown.next() {
            let fault =
                format!("field {name:?} can't decide who reads a record: it is not a field");
            self.fault.get_or_insert(fault);
        }
        self.declared_fields = Some(Arc::new(fields));
        self
    }

    /// Validates every new state of a record before it is stored, whoever makes the edit. The closure receives the
    /// record before the edit and after it. `before` is `None` when the edit creates the record, or when the row does not fit
    /// the type. Errors refuse the edit with 422.
    ///
    /// The closure runs inside the transaction, on the current row. It must be quick and must not block, and it may run
    /// more than once for one edit.
    ///
    /// ```
    /// # use fieldsync::{Collection, FieldErrors};
    /// # #[derive(Default, serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
    /// # #[serde(default)]
    /// # struct Booking { seats: u32, taken: u32 }
    /// let bookings = Collection::of::<Booking>("bookings").validate(|_before: Option<&Booking>, after: &Booking| {
    ///     if after.taken > after.seats {
    ///         return Err(FieldErrors::one("taken", "more than there are seats"));
    ///     }
    ///     Ok(())
    /// });
    /// ```
    #[must_use]
    pub fn validate<T, F>(mut self, validate: F) -> Self
    where
        T: DeserializeOwned,
        F: Fn(Option<&T>, &T) -> Result<(), FieldErrors> + Send + Sync + 'static,
    {
        self.hooks.set_validate(validate);
        self
    }

    /// Checks every edit that a principal makes. The closure receives the principal and the record before and after the
    /// edit: `before` is `None` when the edit creates the record, `after` is `None` when it deletes it. The closure
    /// refuses an edit with [`FieldErrors`] (422), [`Denied`] (403, or the status of its variant) or any other [`Refusal`]. A
    /// closure that returns several of them converts them with `Refusal::from`.
    ///
    /// Edits that the app makes itself, without a principal, are not checked. The closure runs as for
    /// [`Collection::validate`].
    ///
    /// ```
    /// # use fieldsync::{Collection, FieldErrors};
    /// # #[derive(Default, serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
    /// # #[serde(default)]
    /// # struct Item { quantity: u32 }
    /// # struct Claims { admin: bool }
    /// let items = Collection::of::<Item>("items").check(|principal, before: Option<&Item>, after: Option<&Item>| {
    ///     let is_admin = principal.get::<Claims>().is_some_and(|claims| claims.admin);
    ///     match (before, after) {
    ///         (Some(before), Some(after)) if after.quantity < before.quantity && !is_admin => {
    ///             Err(FieldErrors::one("quantity", "must not go down"))
    ///         }
    ///         _ => Ok(()),
    ///     }
    /// });
    /// ```
    #[must_use]
    pub fn check<T, F, E>(mut self, check: F) -> Self
    where
        T: DeserializeOwned,
        F: Fn(&Principal, Option<&T>, Option<&T>) -> Result<(), E> + Send + Sync + 'static,
        E: Into<Refusal>,
    {
        self.hooks.set_check(check);
        self
    }

    /// Sets fields of every record that a principal creates, for example its owner. The closure receives the principal
    /// and the fields that it sent, and may set any field, also one that the principal may not write.
    ///
    /// Records that the app creates itself, without a principal, are not changed. The closure runs as for
    /// [`Collection::validate`].
    ///
    /// ```
    /// # use fieldsync::Collection;
    /// # #[derive(Default, serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
    /// # #[serde(default)]
    /// # struct Note { owner: String, text: String }
    /// let notes = Collection::of::<Note>("notes").on_create(|principal, fields| {
    ///     fields.insert("owner".into(), principal.name().into());
    /// });
    /// ```
    #[must_use]
    pub fn on_create<F>(mut self, on_create: F) -> Self
    where
        F: Fn(&Principal, &mut Fields) + Send + Sync + 'static,
    {
        self.hooks.set_on_create(on_create);
        self
    }
}

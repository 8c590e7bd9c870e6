//! What rules grant to a principal.

use std::sync::Arc;

use async_trait::async_trait;
use serde_json::Value;

use crate::model::access::{Access, Denied};
use crate::model::principal::Principal;
use crate::schema::authorizer::Authorizer;
use crate::schema::grant::Grant;
use crate::schema::member_rows::{IsName, RowsOfRule, WantedMembers};
use crate::schema::reads::{Reads, reads};
use crate::schema::rules::{Entry, Exists, Rule, Rules, Who};
use crate::schema::view::View;

/// The authorizer of [`Collection::rules`](crate::Collection::rules).
#[derive(Debug)]
pub(crate) struct AuthorizeByRules(pub(crate) Arc<Rules>);

#[async_trait]
impl Authorizer for AuthorizeByRules {
    async fn authorize(
        &self,
        principal: &Principal,
        access: Access,
        _: &str,
    ) -> Result<Grant, Denied> {
        self.0.grant(principal, access)
    }

    fn reads(&self) -> Vec<Reads> {
        let mut all: Vec<Reads> = Vec::new();
        for entry in &self.0.entries {
            if let Who::Exists(exists) = &entry.rule.who {
                let one = reads(&exists.collection).principal_by(&exists.principal.field);
                if !all.contains(&one) {
                    all.push(one);
                }
            }
        }
        all
    }
}

impl Rules {
    /// What these rules grant. The store has yet to be asked which records there are.
    pub(crate) fn grant(&self, principal: &Principal, access: Access) -> Result<Grant, Denied> {
        let applying = self.for_access(access);
        let applying: Vec<_> = applying
            .filter(|entry| entry.rule.applies_to(principal))
            .collect();
        if applying.is_empty() {
            let may_others = self.for_access(access).next().is_some();
            return Err(match principal.name() {
                None | Some("") if may_others => Denied::Unauthenticated,
                _ => Denied::Forbidden,
            });
        }
        let (deciding, is_for_all) = deciding(applying);
        let views = deciding.iter().map(|entry| &entry.rule.view);
        let writable = deciding.iter().map(|entry| &entry.rule.writable);
        let mut grant = Grant::full()
            .with_view(common(views))
            .with_writable(common(writable));
        let name = principal.name().unwrap_or_default();
        if access == Access::Create {
            let fields = deciding.iter().flat_map(|entry| &entry.rule.set);
            grant.writable = grant.writable.and(&View::except(fields.clone()));
            let value = principal.name().map_or(Value::Null, Value::from);
            grant.set = fields.map(|field| (field.clone(), value.clone())).collect();
        }
        if !is_for_all {
            let rows = deciding.iter().map(|entry| entry.rule.rows_for(name));
            grant = grant.with_rows_of_rules(rows.collect());
        }
        Ok(grant)
    }
}

/// Of the rules that apply to a principal, those that decide: the first that is for all records, or all of them. And whether there is
/// such a first.
pub(crate) fn deciding(applying: Vec<&Entry>) -> (Vec<&Entry>, bool) {
    let mut for_all = applying.iter();
    match for_all.find(|entry| entry.rule.is_for_all_records()) {
        Some(first) => (vec![first], true),
        None => (applying, false),
    }
}

/// What all views show.
fn common<'a>(views: impl Iterator<Item = &'a View>) -> View {
    views.fold(View::full(), |all, one| all.and(one))
}

impl Rule {
    /// The records that the rule admits to the principal with this name.
    fn rows_for(&self, name: &str) -> RowsOfRule {
        let is_name = |field: &String| IsName {
            field: field.clone(),
            name: name.to_owned(),
        };
        let wanted = |exists: &Exists| WantedMembers {
            collection: Arc::clone(&exists.collection),
            principal: is_name(&exists.principal.field),
            filter: exists.principal.filter.clone(),
            theirs: exists.on.theirs.clone(),
            ours: exists.on.ours.clone(),
        };
        RowsOfRule {
            filter: self.rows.clone(),
            owner: match &self.who {
                Who::Owner(field) => Some(is_name(field)),
                _ => None,
            },
            exists: match &self.who {
                Who::Exists(exists) => Some(wanted(exists)),
                _ => None,
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::filter::Filter;
    use crate::schema::rules::{
        everyone, exists, on, owner, principal, principal_name, role, signed_in,
    };

    struct Staff;

    fn staff() -> Rule {
        role("staff", |_: &Staff| true)
    }

    const ALL: [Access; 4] = [Access::Read, Access::Create, Access::Update, Access::Delete];

    fn principals() -> [Principal; 3] {
        let ada = || Principal::named("ada");
        [Principal::anonymous(), ada(), ada().with(Staff)]
    }

    #[test]
    fn what_no_rule_names_is_denied() {
        for principal in principals() {
            for access in ALL {
                let denied = Rules::new().grant(&principal, access).unwrap_err();
                assert_eq!(denied, Denied::Forbidden, "{principal:?} {access:?}");
                // The rules for everything else.
                let others = ALL.into_iter().filter(|other| *other != access);
                let rules = Rules::new().allow(others, everyone());
                let denied = rules.grant(&principal, access).unwrap_err();
                assert_eq!(denied, Denied::Forbidden, "{principal:?} {access:?}");
            }
        }
    }

    #[test]
    fn each_rule_applies_to_whom_it_is_for() {
        let member = || exists("members", on("team"), principal("user"));
        // Anonymous, named, and with the claims.
        for (rule, applies) in [
            (everyone(), [true, true, true]),
            (signed_in(), [false, true, true]),
            (owner("owner"), [false, true, true]),
            (member(), [false, true, true]),
            (staff(), [false, false, true]),
        ] {
            for (principal, applies) in principals().into_iter().zip(applies) {
                let rules = Rules::new().read(rule.clone());
                let unnamed = Rules::new().read(rule.clone());
                let unnamed = unnamed.grant(&Principal::named(""), Access::Read);
                let is_open = matches!(rule.who, Who::Everyone);
                assert_eq!(unnamed.is_ok(), is_open, "{}", rule.who);
                let expected = match (applies, principal.name()) {
                    (true, _) => None,
                    (false, None) => Some(Denied::Unauthenticated),
                    (false, Some(_)) => Some(Denied::Forbidden),
                };
                let denied = rules.grant(&principal, Access::Read).err();
                assert_eq!(denied, expected, "{} {principal:?}", rule.who);
            }
        }
    }

    #[test]
    fn the_first_rule_for_all_records_decides_the_fields() {
        let rules = Rules::new()
            .read(owner("owner").hide(["a"]))
            .read(staff().hide(["b"]))
            .read(signed_in().hide(["c", "b"]));
        let [_, ada, staff] = principals();
        let shown = |principal: &Principal| {
            let grant = rules.grant(principal, Access::Read).unwrap();
            assert!(grant.is_for_all());
            ["a", "b", "c"].map(|name| grant.view.shows(name))
        };
        assert_eq!(shown(&staff), [true, false, true]);
        assert_eq!(shown(&ada), [true, false, false]);
    }

    #[test]
    fn without_one_the_fields_are_those_that_all_allow() {
        let rules = Rules::new()
            .read(owner("owner").hide(["a"]))
            .read(everyone().rows(Filter::eq("public", true)).hide(["b"]));
        let [anonymous, ada, _] = principals();
        let shown = |principal: &Principal| {
            let grant = rules.grant(principal, Access::Read).unwrap();
            assert!(!grant.is_for_all());
            ["a", "b", "c"].map(|name| grant.view.shows(name))
        };
        assert_eq!(shown(&anonymous), [true, false, true]);
        assert_eq!(shown(&ada), [false, false, true]);
    }

    #[test]
    fn a_field_that_is_set_is_not_writable_on_creation() {
        let rules = Rules::new().read_and_write(owner("owner").set("owner", principal_name()));
        let [_, ada, _] = principals();
        let create = rules.grant(&ada, Access::Create).unwrap();
        assert_eq!(create.set, [("owner".into(), "ada".into())]);
        assert!(!create.writable.shows("owner"));
        let update = rules.grant(&ada, Access::Update).unwrap();
        assert!(update.set.is_empty() && update.writable.shows("owner"));
    }

    #[test]
    fn rules_read_the_collections_of_exists() {
        let member = |field| exists("members", on("team"), principal(field));
        let rules = Rules::new()
            .read(member("user"))
            .update(member("user"))
            .delete(member("boss"))
            .create(everyone());
        let expected = ["user", "boss"].map(|field| reads("members").principal_by(field));
        assert_eq!(AuthorizeByRules(Arc::new(rules)).reads(), expected);
    }
}

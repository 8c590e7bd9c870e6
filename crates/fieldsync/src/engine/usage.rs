//! What each principal uses of its limits, and the connections of this node.

use std::collections::HashMap;
use std::hash::{BuildHasher as _, RandomState};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::engine::limits::Limits;
use crate::metrics::Limit;
use crate::model::allowance::{Allowance, Rate};
use crate::model::outcome::Outcome;
use crate::model::principal::{LimitedBy, Principal};
use crate::model::record::json_size;
use crate::model::refusal::Refusal;
use crate::write::batch::Group;

/// The most principals that are remembered, besides those with an open connection. Whoever has that many names or addresses has as many
/// allowances, and gains nothing when they are forgotten.
const MAX_PRINCIPALS: usize = 100_000;

/// When a client that was refused a connection may try again.
const RETRY_CONNECTION: Duration = Duration::from_secs(10);

/// What is used, on this node since its start.
#[derive(Debug)]
pub(crate) struct Usage {
    limits: Limits,
    rates: Rates,
    /// Random, so that nobody can find names that count as one.
    hasher: RandomState,
    used: Mutex<Used>,
}

#[derive(Debug)]
struct Rates {
    edits: Rate,
    keys: Rate,
    log_bytes: Rate,
}

#[derive(Debug, Default)]
struct Used {
    connections: usize,
    by_principal: HashMap<LimitedBy, UsedByOne>,
    /// How many principals are remembered before those that use nothing are forgotten.
    max_principals: usize,
}

#[derive(Debug)]
struct UsedByOne {
    connections: usize,
    edits: Allowance,
    keys: Allowance,
    log_bytes: Allowance,
}

/// An open connection, until it is dropped.
#[derive(Debug)]
pub(crate) struct OpenConnection {
    usage: Arc<Usage>,
    principal: Option<LimitedBy>,
}

/// Why a connection is refused.
#[derive(Debug)]
pub(crate) enum Refused {
    /// The node has as many as it may.
    ByNode,
    /// The principal has as many as it may. It may try again after this time.
    ByPrincipal(Refusal),
}

impl Usage {
    pub(crate) fn new(limits: &Limits) -> Self {
        const HOUR: Duration = Duration::from_secs(3600);
        Self {
            rates: Rates {
                edits: Rate::per_second(limits.principal_edits_per_second),
                keys: Rate::within(limits.principal_idempotency_keys, 24 * HOUR),
                log_bytes: Rate::within(limits.principal_log_bytes_per_hour, HOUR),
            },
            limits: limits.clone(),
            hasher: RandomState::new(),
            used: Mutex::default(),
        }
    }

    /// How a principal is counted, if it is.
    pub(crate) fn of(&self, principal: Option<&Principal>) -> Option<LimitedBy> {
        let principal = principal?;
        let key = principal.counted_by()?;
        Some(LimitedBy(self.hasher.hash_one(key)))
    }

    /// Opens a connection, unless there are too many.
    pub(crate) fn connect(
        self: &Arc<Self>,
        principal: &Principal,
    ) -> Result<OpenConnection, Refused> {
        let principal = self.of(Some(principal));
        let mut used = self.lock();
        if used.connections >= self.limits.connections {
            Limit::Connections.reached();
            return Err(Refused::ByNode);
        }
        if let Some(principal) = principal {
            let limit = self.limits.principal_connections;
            let one = self.of_one(&mut used, principal);
            if one.connections >= limit {
                Limit::PrincipalConnections.reached();
                return Err(Refused::ByPrincipal(Refusal::OverLimit {
                    limit: format!("{limit} open connections"),
                    retry_after: RETRY_CONNECTION,
                }));
            }
            one.connections += 1;
        }
        used.connections += 1;
        drop(used);
        Ok(OpenConnection {
            usage: Arc::clone(self),
            principal,
        })
    }

    /// Refuses a request to write before it is read, if the principal may make no edit now.
    pub(crate) fn check(&self, principal: &Principal) -> Result<(), Refusal> {
        let Some(principal) = self.of(Some(principal)) else {
            return Ok(());
        };
        let mut used = self.lock();
        let now = Instant::now();
        let one = self.of_one(&mut used, principal);
        let edits = one.edits.check(self.rates.edits, now);
        edits.map_err(|wait| self.too_many_edits(wait))?;
        self.check_log_bytes(one, now)
    }

    /// Counts edits that a principal is about to make. If some have idempotency keys and no more may be stored, the result is why.
    pub(crate) fn take_edits(
        &self,
        principal: Option<&Principal>,
        edits: usize,
        has_keys: bool,
    ) -> Result<Option<Refusal>, Refusal> {
        let Some(principal) = self.of(principal) else {
            return Ok(None);
        };
        let mut used = self.lock();
        let now = Instant::now();
        let one = self.of_one(&mut used, principal);
        self.check_log_bytes(one, now)?;
        let taken = one.edits.take(edits as f64, self.rates.edits, now);
        taken.map_err(|wait| self.too_many_edits(wait))?;
        if !has_keys {
            return Ok(None);
        }
        let checked = one.keys.check(self.rates.keys, now);
        Ok(checked.err().map(|retry_after| {
            let limit = self.limits.principal_idempotency_keys;
            let limit = format!("{limit} idempotency keys per day");
            Refusal::OverLimit { limit, retry_after }
        }))
    }

    /// Counts what a group of edits has stored.
    pub(crate) fn charge(&self, group: &Group, outcomes: &[Outcome]) {
        let Some(principal) = self.of(group.principal.as_ref()) else {
            return;
        };
        let (mut keys, mut bytes) = (0, 0);
        for ((edit, collection, _), outcome) in group.edits.iter().zip(outcomes) {
            let is_new = !matches!(outcome, Outcome::Replayed { .. });
            keys += u32::from(is_new && edit.has_idempotency_key());
            if let Outcome::Committed(change) = outcome {
                let logged = change.for_log(collection);
                bytes += json_size(&logged.after) + json_size(&logged.previous);
            }
        }
        let mut used = self.lock();
        let now = Instant::now();
        let one = self.of_one(&mut used, principal);
        one.keys.charge(keys.into(), self.rates.keys, now);
        one.log_bytes
            .charge(bytes as f64, self.rates.log_bytes, now);
    }

    fn check_log_bytes(&self, one: &mut UsedByOne, now: Instant) -> Result<(), Refusal> {
        let checked = one.log_bytes.check(self.rates.log_bytes, now);
        checked.map_err(|wait| {
            let limit = self.limits.principal_log_bytes_per_hour;
            let limit = format!("{limit} bytes of changes per hour");
            over(Limit::PrincipalLogBytes, limit, wait)
        })
    }

    fn too_many_edits(&self, wait: Duration) -> Refusal {
        let limit = self.limits.principal_edits_per_second;
        over(
            Limit::PrincipalEdits,
            format!("{limit} edits per second"),
            wait,
        )
    }

    fn of_one<'a>(&self, used: &'a mut Used, principal: LimitedBy) -> &'a mut UsedByOne {
        let now = Instant::now();
        if used.by_principal.len() >= used.max_principals.max(1000)
            && !used.by_principal.contains_key(&principal)
        {
            self.forget(used, now);
        }
        let Rates {
            edits,
            keys,
            log_bytes,
        } = self.rates;
        used.by_principal
            .entry(principal)
            .or_insert_with(|| UsedByOne {
                connections: 0,
                edits: Allowance::full(edits, now),
                keys: Allowance::full(keys, now),
                log_bytes: Allowance::full(log_bytes, now),
            })
    }

    /// Forgets the principals that use nothing, and if those are too few, all that have no connection.
    fn forget(&self, used: &mut Used, now: Instant) {
        let principals = &mut used.by_principal;
        principals.retain(|_, one| one.connections > 0 || !self.is_unused(one, now));
        if principals.len() > MAX_PRINCIPALS / 2 {
            principals.retain(|_, one| one.connections > 0);
        }
        used.max_principals = principals.len() * 2;
    }

    fn is_unused(&self, one: &mut UsedByOne, now: Instant) -> bool {
        one.edits.is_full(self.rates.edits, now)
            && one.keys.is_full(self.rates.keys, now)
            && one.log_bytes.is_full(self.rates.log_bytes, now)
    }

    fn lock(&self) -> MutexGuard<'_, Used> {
        self.used.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn over(reached: Limit, limit: String, retry_after: Duration) -> Refusal {
    reached.reached();
    Refusal::OverLimit { limit, retry_after }
}

impl Drop for OpenConnection {
    fn drop(&mut self) {
        let mut used = self.usage.lock();
        used.connections -= 1;
        let Some(principal) = self.principal else {
            return;
        };
        if let Some(one) = used.by_principal.get_mut(&principal) {
            one.connections -= 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn usage(change: impl FnOnce(&mut Limits)) -> Arc<Usage> {
        let mut limits = Limits::default();
        change(&mut limits);
        Arc::new(Usage::new(&limits))
    }

    fn principals(usage: &Usage) -> usize {
        usage.lock().by_principal.len()
    }

    #[test]
    fn what_one_principal_uses_is_not_taken_from_others() {
        let usage = usage(|limits| limits.principal_edits_per_second = 1);
        let (ada, bob) = (Principal::named("ada"), Principal::named("bob"));
        let take = |principal: &Principal| usage.take_edits(Some(principal), 1, false);
        assert!((0..20).all(|_| take(&ada).is_ok()));
        let Err(Refusal::OverLimit { limit, .. }) = take(&ada) else {
            panic!("the allowance is used up")
        };
        assert_eq!(limit, "1 edits per second");
        assert!(usage.check(&ada).is_err());
        assert_eq!(take(&bob), Ok(None));
        // Nobody knows whether two anonymous clients are one.
        assert!((0..100).all(|_| take(&Principal::anonymous()).is_ok()));
        let address = Principal::anonymous().limit_key("192.0.2.1");
        assert_eq!((0..100).filter(|_| take(&address).is_ok()).count(), 20);
        assert!(take(&Principal::anonymous().limit_key("192.0.2.2")).is_ok());
        // A name is not an address.
        assert!(take(&Principal::named("192.0.2.1")).is_ok());
    }

    #[test]
    fn a_client_with_many_keys_does_not_fill_the_memory() {
        let usage = usage(|_| {});
        let ada = usage.connect(&Principal::named("ada")).unwrap();
        for number in 0..250_000 {
            let address = Principal::anonymous().limit_key(number.to_string());
            usage.take_edits(Some(&address), 2000, false).unwrap();
        }
        assert!(principals(&usage) <= MAX_PRINCIPALS);
        // Connections are not forgotten.
        let ada = (usage.of(Some(&Principal::named("ada"))).unwrap(), ada);
        assert_eq!(usage.lock().by_principal[&ada.0].connections, 1);
        drop(ada.1);
        assert_eq!(usage.lock().by_principal[&ada.0].connections, 0);
    }

    #[test]
    fn principals_that_use_nothing_are_forgotten() {
        let usage = usage(|_| {});
        for number in 0..50_000 {
            let address = Principal::anonymous().limit_key(number.to_string());
            usage.check(&address).unwrap();
        }
        assert!(principals(&usage) <= 1000, "{}", principals(&usage));
    }
}

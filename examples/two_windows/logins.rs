//! With `--roles`: who sits at which window, what they may do, and their logins. The app's own part of rights: fieldsync has no
//! users, no passwords and no sessions.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use fieldsync::{Access, Denied, Engine, EngineError, Grant, Principal, View};
use uuid::Uuid;

/// How long a login lasts.
const LIFETIME: Duration = Duration::from_secs(8 * 3600);

/// Who sits at a window, and the one field that they may set.
pub(crate) struct Person {
    pub(crate) name: &'static str,
    pub(crate) window: &'static str,
    may_set: &'static str,
}

pub(crate) static PEOPLE: [Person; 2] = [
    Person {
        name: "Ada",
        window: "/window1/",
        may_set: "first_name",
    },
    Person {
        name: "Grace",
        window: "/window2/",
        may_set: "last_name",
    },
];

/// Who may do what with the users.
pub(crate) fn rule(principal: &Principal, access: Access) -> Result<Grant, Denied> {
    let person = principal.get::<&'static Person>();
    let person = person.ok_or(Denied::Unauthenticated)?;
    Ok(match access {
        Access::Read | Access::Delete => Grant::full(),
        Access::Create | Access::Update => {
            Grant::full().with_writable(View::only([person.may_set]))
        }
    })
}

/// The logins of this process. An app keeps them in its database, where all nodes find them.
#[derive(Default)]
pub(crate) struct Logins {
    /// By the secret in the cookie.
    by_secret: Mutex<HashMap<String, Login>>,
}

struct Login {
    person: &'static Person,
    /// Names the login in fieldsync. It is no secret.
    session: String,
    expires_at: SystemTime,
}

impl Logins {
    /// Who makes a request with these cookies at a person's window.
    pub(crate) fn principal(&self, person: &Person, cookies: &str) -> Option<Principal> {
        let mut cookies = cookies
            .split(';')
            .filter_map(|cookie| cookie.trim().split_once('='));
        let (_, secret) = cookies.find(|(name, _)| *name == "login")?;
        let logins = self.lock();
        let login = logins.get(secret)?;
        (login.person.name == person.name).then(|| {
            Principal::named(login.person.name)
                .session(login.session.as_str())
                .expires_at(login.expires_at)
                .with(login.person)
        })
    }

    /// Signs a person in, without asking for a password. Returns the value of `Set-Cookie`: the cookie is sent to this person's window
    /// alone, so that one browser has both.
    pub(crate) fn sign_in(&self, person: &'static Person) -> String {
        let (secret, now) = (Uuid::new_v4().to_string(), SystemTime::now());
        let login = Login {
            person,
            session: Uuid::new_v4().to_string(),
            expires_at: now + LIFETIME,
        };
        let mut logins = self.lock();
        logins.retain(|_, login| login.expires_at > now);
        logins.insert(secret.clone(), login);
        format!(
            "login={secret}; Path={}; HttpOnly; SameSite=Strict",
            person.window
        )
    }

    /// Ends every login of both people, and then what they have opened.
    pub(crate) async fn sign_out_everywhere(&self, engine: &Engine) -> Result<(), EngineError> {
        // First, so that nobody comes back.
        self.lock().clear();
        for person in &PEOPLE {
            engine.revoke(person.name).await?;
        }
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Login>> {
        self.by_secret
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

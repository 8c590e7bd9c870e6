//! Revoking principals and sessions.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::time::timeout;

use crate::engine::engine::{Engine, ProposedEdit};
use crate::engine::permissions::Permissions;
use crate::error::EngineError;
use crate::live::revocations::Target;
use crate::model::edit::Edit;
use crate::model::outcome::Outcome;

/// How long a revocation waits for the streams of this node to end. They end without it, too.
const FOLLOW_TIMEOUT: Duration = Duration::from_secs(1);

impl Engine {
    /// Ends everything that the principal with this name has opened, on all nodes: sockets are closed with 4401, event streams
    /// and subscriptions end. On this node that has happened when the future resolves. The others follow within the poll
    /// interval and half a second, also if the broker is down.
    ///
    /// **Invalidate the credential first.** This keeps nobody from coming back, and asks no rule: whoever still has a valid
    /// credential connects again and goes on where it was. A principal that was made before, and is only now opening something,
    /// counts as one that has opened it; see also [`Principal::checked_at`](crate::Principal::checked_at).
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # use fieldsync::{Collection, Engine, MemoryStore, Principal};
    /// # use futures_util::StreamExt as _;
    /// # let schema = serde_json::json!({"type": "object"});
    /// # let notes = Collection::from_schema("notes", &schema).open_to_everyone();
    /// # let engine = Engine::builder().collection(notes).store(MemoryStore::new()).start().await?;
    /// let ada = engine.on_behalf_of(Principal::named("ada"));
    /// let mut notes = ada.subscribe("notes", None).await?;
    /// // First: delete ada's sessions from the app's own table. Then:
    /// engine.revoke("ada").await?;
    /// assert!(notes.next().await.is_none());
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// When the store fails, or when the engine is stopping. Then nothing may have ended: call it again.
    pub async fn revoke(&self, principal: &str) -> Result<(), EngineError> {
        self.revoke_target(Target::principal(principal)).await
    }

    /// Ends everything that was opened in one [session](crate::Principal::session), as [`Engine::revoke`] does for all sessions of
    /// a principal.
    ///
    /// # Errors
    /// Same as [`Engine::revoke`].
    pub async fn revoke_session(&self, id: &str) -> Result<(), EngineError> {
        self.revoke_target(Target::session(id)).await
    }

    /// Logs a revocation, which all nodes follow: the creation of a record, which is deleted again.
    async fn revoke_target(&self, target: Target) -> Result<(), EngineError> {
        self.check_ready()?;
        let revocations = self.revocations();
        let collection = &revocations.collection;
        let name = &**collection.name();
        let id = uuid::Uuid::now_v7();
        let target = serde_json::json!({"target": target.to_text()});
        let edits = [
            Edit::create(name, target).with_id(id),
            Edit::delete((name, id)),
        ];
        let edits = edits.map(|edit| ProposedEdit {
            edit,
            permissions: Some(Permissions::full(Arc::clone(collection))),
        });
        let position = |_: &Permissions, outcome: Outcome| outcome.position();
        let logged = self.write(None, edits.into(), Instant::now(), position);
        if let Some(last) = logged.await?.pop() {
            // What was logged reaches this node in any case.
            let _ = timeout(FOLLOW_TIMEOUT, revocations.followed(last)).await;
        }
        Ok(())
    }
}

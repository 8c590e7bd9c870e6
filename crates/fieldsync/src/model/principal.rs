//! The principal: who makes a request.

use std::sync::Arc;

/// Who makes a request. The app puts it into the request's extensions; without one it is [`Principal::anonymous`].
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct Principal {
    name: Option<Arc<str>>,
}

impl Principal {
    /// Nobody in particular.
    #[must_use]
    pub fn anonymous() -> Self {
        Self::default()
    }

    /// Somebody whom the app knows under this name.
    pub fn named(name: impl Into<Arc<str>>) -> Self {
        Self {
            name: Some(name.into()),
        }
    }

    /// The name, unless anonymous.
    #[must_use]
    pub fn name(&self) -> Option<&str> {
        self.name.as_deref()
    }
}

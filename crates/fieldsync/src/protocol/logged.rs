//! What the log says of an error that is the server's: its cause, which the client does not learn, without the values of records.

use crate::error::EngineError;
use crate::model::refusal::Refusal;
use crate::protocol::problem::Problem;

impl Problem {
    /// The problem for an error. One that is the server's is logged, since the client does not learn its cause.
    pub(crate) fn logged(error: &EngineError) -> Self {
        let problem = Self::from(error);
        if problem.status.is_server_error() {
            let status = problem.status.as_u16();
            match message_without_values(error) {
                Some(error) => tracing::error!(error, status, "a request failed"),
                None => {
                    let error = error as &dyn std::error::Error;
                    tracing::error!(error, status, "a request failed");
                }
            }
        }
        problem
    }
}

/// The message of an error whose own message may contain values.
fn message_without_values(error: &EngineError) -> Option<String> {
    match error {
        EngineError::Unreadable { key, source } => Some(format!(
            "record {key} does not fit the type: {}",
            without_quoted(&source.to_string())
        )),
        EngineError::Refused(Refusal::AppFailed(message)) => Some(without_quoted(message)),
        _ => None,
    }
}

/// A message of serde, in which values are in quotes, backticks or bare numbers before what was expected.
fn without_quoted(message: &str) -> String {
    let (found, expected) = match message.split_once(", expected") {
        Some((found, expected)) => (found, format!(", expected{expected}")),
        None => (message, String::new()),
    };
    let is_name = ["missing field", "unknown field", "on_create"];
    if is_name.iter().any(|name| found.contains(name)) {
        return message.to_owned();
    }
    let end = found.find(['"', '`']).unwrap_or(found.len());
    format!("{}{expected}", found[..end].trim_end())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn error_of<T: serde::de::DeserializeOwned + std::fmt::Debug>(
        value: serde_json::Value,
    ) -> String {
        let source = serde_json::from_value::<T>(value).unwrap_err();
        let key = ("users", 1).into();
        message_without_values(&EngineError::Unreadable { key, source }).unwrap()
    }

    #[test]
    fn messages_name_types_and_fields_but_no_values() {
        #[derive(Debug, serde::Deserialize)]
        #[serde(rename_all = "lowercase")]
        enum Mood {
            Good,
        }
        assert_eq!(
            error_of::<i32>(json!("secret")),
            "record users/1 does not fit the type: invalid type: string, expected i32"
        );
        assert_eq!(
            error_of::<u8>(json!(4711)),
            "record users/1 does not fit the type: invalid value: integer, expected u8"
        );
        assert_eq!(
            error_of::<Mood>(json!("secret")),
            "record users/1 does not fit the type: unknown variant, expected `good`"
        );
        assert!(matches!(
            serde_json::from_value(json!("good")),
            Ok(Mood::Good)
        ));
        let failed = Refusal::AppFailed("on_create set \"x\", which is not a field".into());
        let message = message_without_values(&failed.into()).unwrap();
        assert!(message.contains("\"x\""), "{message}");
    }
}

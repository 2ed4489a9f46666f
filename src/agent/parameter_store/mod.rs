//! Values of Parameter Store for documents.

use std::error::Error;
use std::fmt;
use std::pin::Pin;

use crate::protocol::wire::session_document::{StoredParameter, StoredParameters};
use crate::runtime::cause::in_one_line;

/// Most names that one call may ask for.
const AT_ONCE: usize = 10;

/// An answer of Parameter Store that is on its way.
pub type Lookup<'a> = Pin<
    Box<
        dyn Future<Output = Result<Vec<StoredParameter>, Box<dyn Error + Send + Sync>>> + Send + 'a,
    >,
>;

/// A way to Parameter Store.
pub trait ParameterStore: fmt::Debug + Send + Sync {
    /// Gets the parameters of these names, at most ten, without decrypting any. What is not there is
    /// left out.
    fn get<'a>(&'a self, names: &'a [String]) -> Lookup<'a>;
}

/// Gets everything that a document refers to.
///
/// # Errors
/// A text for the person.
pub async fn look_up(
    store: Option<&dyn ParameterStore>,
    names: &[String],
) -> Result<StoredParameters, String> {
    if names.is_empty() {
        return Ok(StoredParameters::default());
    }
    let listed = || names.join(", ");
    let store = store.ok_or_else(|| {
        let names = listed();
        format!("the document refers to Parameter Store ({names}), which this agent cannot ask")
    })?;
    let mut answers = Vec::new();
    for names in names.chunks(AT_ONCE) {
        let found = store.get(names).await.map_err(|error| {
            let error = in_one_line(&*error);
            format!("cannot look up {} in Parameter Store: {error}", listed())
        })?;
        answers.extend(found);
    }
    StoredParameters::collect(names, &answers).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    #[tokio::test]
    async fn names_are_asked_for_ten_at_a_time() {
        let names: Vec<_> = (0..21).map(|n| format!("p{n}")).collect();
        let store = Store::default();

        look_up(Some(&store), &names).await.unwrap();

        let calls = store.calls.lock().unwrap();
        assert_eq!(calls.iter().map(Vec::len).collect::<Vec<_>>(), [10, 10, 1]);
        assert_eq!(calls.concat(), names);
    }

    #[tokio::test]
    async fn nothing_is_asked_for_without_names() {
        assert!(look_up(None, &[]).await.is_ok());
    }

    #[tokio::test]
    async fn failure_and_absence_of_the_store_are_told_with_the_names() {
        let names = ["p".to_owned(), "broken".to_owned()];

        assert_eq!(
            look_up(Some(&Store::default()), &names).await.unwrap_err(),
            "cannot look up p, broken in Parameter Store: no such operation"
        );
        assert_eq!(
            look_up(None, &names).await.unwrap_err(),
            "the document refers to Parameter Store (p, broken), which this agent cannot ask"
        );
    }

    #[derive(Debug, Default)]
    struct Store {
        calls: Mutex<Vec<Vec<String>>>,
    }

    impl ParameterStore for Store {
        fn get<'a>(&'a self, names: &'a [String]) -> Lookup<'a> {
            self.calls.lock().unwrap().push(names.to_vec());
            Box::pin(async move {
                if names.contains(&"broken".to_owned()) {
                    return Err("no such operation".into());
                }
                let answer = |name: &String| StoredParameter {
                    name: name.clone(),
                    kind: "String".into(),
                    ..StoredParameter::default()
                };
                Ok(names.iter().map(answer).collect())
            })
        }
    }
}

//! Parameter Store, asked with the node's own credentials.

use serde::{Deserialize, Serialize};

use super::parameter_store::{Lookup, ParameterStore};
use crate::aws::Client;
use crate::protocol::wire::session_document::StoredParameter;

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Request<'a> {
    names: &'a [String],
    with_decryption: bool,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Answer {
    #[serde(default)]
    parameters: Vec<StoredParameter>,
}

impl ParameterStore for Client {
    fn get<'a>(&'a self, names: &'a [String]) -> Lookup<'a> {
        Box::pin(async move {
            let request = Request {
                names,
                with_decryption: false,
            };
            let answer: Answer = self.ssm("GetParameters", &request).await?;
            Ok(answer.parameters)
        })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::aws::tests::server::{Reply, TestServer};

    #[tokio::test]
    async fn parameters_are_asked_for_without_decryption() {
        let answer = r#"{"Parameters":[{"Name":"p","Type":"String","Value":"v","Version":3,
            "ARN":"arn:p","LastModifiedDate":1.5,"DataType":"text"}],"InvalidParameters":["q"]}"#;
        let server = TestServer::start(move |_, _| Reply::json(answer)).await;

        let found = server
            .client()
            .get(&["p".into(), "q".into()])
            .await
            .unwrap();

        let expected = StoredParameter {
            name: "p".into(),
            kind: "String".into(),
            value: "v".into(),
            version: 3,
            selector: String::new(),
            arn: "arn:p".into(),
        };
        assert_eq!(found, [expected]);
        let seen = &server.seen()[0];
        assert_eq!(seen.operation(), "GetParameters");
        assert_eq!(
            seen.json(),
            json!({"Names": ["p", "q"], "WithDecryption": false})
        );
    }

    #[tokio::test]
    async fn endpoint_without_parameter_store_is_told_as_it_says() {
        let server = TestServer::start(|_, _| Reply::refusal("UnknownOperationException")).await;

        let error = server.client().get(&["p".into()]).await.unwrap_err();

        assert!(
            error.to_string().contains("UnknownOperationException"),
            "{error}"
        );
    }
}

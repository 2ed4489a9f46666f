//! Parameter Store, asked with the node's own credentials.

use serde::{Deserialize, Serialize};

use super::session::{Lookup, ParameterStore};
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

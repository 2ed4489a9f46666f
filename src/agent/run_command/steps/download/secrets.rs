//! Credentials that a document takes from Parameter Store: `{{ssm-secure:name}}` and `{{ssm:name}}`.
//! They are asked for when they are needed, and are in no file and no log.

use std::sync::LazyLock;

use regex::Regex;
use serde::{Deserialize, Serialize};

use super::DownloadError;
use crate::aws::{Client, Secret};

static REFERENCE: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(r"\{\{\s*(ssm-secure|ssm):([-0-9A-Za-z_./:]+)\s*\}\}").expect("it is a pattern")
});
/// Type of a parameter that is kept encrypted.
const SECURE_STRING: &str = "SecureString";

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Request<'a> {
    names: [&'a str; 1],
    with_decryption: bool,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Answer {
    #[serde(default)]
    parameters: Vec<Parameter>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Parameter {
    #[serde(rename = "Type")]
    kind: String,
    value: Secret,
}

/// Whether `text` is one reference to a secure parameter.
pub(super) fn is_secure_reference(text: &str) -> bool {
    REFERENCE
        .captures(text)
        .is_some_and(|found| &found[1] == "ssm-secure" && found[0].len() == text.trim().len())
}

/// `text` with what it refers to.
pub(super) async fn reveal(client: &Client, text: &str) -> Result<Secret, DownloadError> {
    let mut revealed = String::new();
    let mut rest = 0;
    for found in REFERENCE.captures_iter(text) {
        let (prefix, name) = (&found[1], &found[2]);
        let whole = found.get_match();
        revealed.push_str(&text[rest..whole.start()]);
        revealed.push_str(look_up(client, prefix, name).await?.expose());
        rest = whole.end();
    }
    revealed.push_str(&text[rest..]);
    Ok(Secret::new(revealed))
}

async fn look_up(client: &Client, prefix: &str, name: &str) -> Result<Secret, DownloadError> {
    let request = Request {
        names: [name],
        with_decryption: true,
    };
    let answer: Answer = client
        .ssm("GetParameters", &request)
        .await
        .map_err(DownloadError::Call)?;
    let Some(parameter) = answer.parameters.into_iter().next() else {
        return Err(DownloadError::NoParameter(name.to_owned()));
    };
    let is_secure = parameter.kind == SECURE_STRING;
    if is_secure != (prefix == "ssm-secure") {
        return Err(DownloadError::ParameterType {
            prefix: prefix.to_owned(),
            kind: parameter.kind,
        });
    }
    Ok(parameter.value)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::aws::tests::server::{Reply, TestServer};

    #[tokio::test]
    async fn secure_values_are_decrypted_and_take_the_place_of_their_references() {
        let server = TestServer::start(|_, seen| {
            let name = seen.json()["Names"][0].as_str().unwrap().to_owned();
            let kind = if name == "plain" {
                "String"
            } else {
                SECURE_STRING
            };
            if name == "none" {
                return Reply::json(r#"{"Parameters":[],"InvalidParameters":["none"]}"#);
            }
            Reply::json(
                &json!({"Parameters": [{"Name": name, "Type": kind, "Value": format!("<{name}>")}]})
                    .to_string(),
            )
        })
        .await;
        let client = server.client();

        let plain = reveal(&client, "as it is {{other}}").await.unwrap();
        let secure = reveal(&client, "{{ ssm-secure:/a/b:2 }}").await.unwrap();
        let both = reveal(&client, "x{{ssm:plain}}-{{ssm-secure:s}}").await;

        assert_eq!(plain.expose(), "as it is {{other}}");
        assert_eq!(secure.expose(), "</a/b:2>");
        assert_eq!(both.unwrap().expose(), "x<plain>-<s>");
        let asked = server.seen()[0].json();
        assert_eq!(asked, json!({"Names": ["/a/b:2"], "WithDecryption": true}));
        for (text, why) in [
            (
                "{{ssm-secure:none}}",
                "parameter none cannot be found in Parameter Store",
            ),
            (
                "{{ssm-secure:plain}}",
                "ssm-secure: refers to a parameter of type String",
            ),
            (
                "{{ssm:secret}}",
                "ssm: refers to a parameter of type SecureString",
            ),
        ] {
            let refused = reveal(&client, text).await.unwrap_err().to_string();
            assert_eq!(refused, why);
        }
    }

    #[test]
    fn only_one_whole_reference_to_a_secure_parameter_is_one() {
        for text in ["{{ssm-secure:t}}", " {{ ssm-secure:/x/t-1.2 }} "] {
            assert!(is_secure_reference(text), "{text}");
        }
        for text in [
            "",
            "token",
            "{{ssm:t}}",
            "x{{ssm-secure:t}}",
            "{{ssm-secure:}}",
        ] {
            assert!(!is_secure_reference(text), "{text}");
        }
    }
}

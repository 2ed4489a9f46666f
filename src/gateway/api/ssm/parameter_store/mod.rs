//! Parameter Store: PutParameter, GetParameter, GetParameters, GetParametersByPath,
//! DescribeParameters, DeleteParameter, DeleteParameters. Nodes may ask GetParameters too.
//!
//! Values of secure strings are encrypted with the gateway's own key, which goes by the name of AWS's
//! default key. As in AWS, who does not ask for decryption gets them as they are kept; nodes may ask,
//! as the policy that AWS gives to managed nodes lets them.

mod list;
mod put;

use serde::{Deserialize, Serialize};

use super::super::ApiState;
use super::super::answer::{ApiError, epoch_seconds};
use super::super::signature::ACCOUNT;
use super::super::validation::{length, required};
use crate::gateway::store::parameters::{Parameter, SECURE_STRING};

pub(super) use list::{describe, get_by_path};
pub(super) use put::put;

/// Most names in one call, by the model.
const NAMES: usize = 10;
/// Region in ARNs; the gateway is in none.
const REGION: &str = "us-east-1";

/// The one key there is; AWS's default.
const KEY_ID: &str = "alias/aws/ssm";

/// Members of GetParameter and DeleteParameter.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(in crate::gateway::api) struct NameRequest {
    name: Option<String>,
    #[serde(default)]
    with_decryption: bool,
}

/// Members of GetParameters and DeleteParameters.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(in crate::gateway::api) struct NamesRequest {
    names: Option<Vec<String>>,
    #[serde(default)]
    with_decryption: bool,
}

/// GetParameter's result.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
pub(in crate::gateway::api) struct Got {
    parameter: Shown,
}

/// GetParameters' result.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
pub(in crate::gateway::api) struct GotMany {
    parameters: Vec<Shown>,
    invalid_parameters: Vec<String>,
}

/// DeleteParameter's result.
#[derive(Debug, Serialize)]
pub(super) struct Deleted {}

/// DeleteParameters' result.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct DeletedMany {
    deleted_parameters: Vec<String>,
    invalid_parameters: Vec<String>,
}

/// A parameter with its value.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
pub(in crate::gateway::api) struct Shown {
    name: String,
    #[serde(rename = "Type")]
    kind: String,
    value: String,
    version: i64,
    #[serde(skip_serializing_if = "String::is_empty")]
    selector: String,
    last_modified_date: f64,
    #[serde(rename = "ARN")]
    arn: String,
    data_type: String,
}

/// One parameter, in its latest version or in that of `name:version`.
///
/// # Errors
/// `ParameterNotFound`, `ParameterVersionNotFound`, `InternalServerError`.
pub(in crate::gateway::api) async fn get(
    state: &ApiState,
    request: NameRequest,
) -> Result<Got, ApiError> {
    let name = required("name", request.name)?;
    length("name", &name, 1..=2048)?;
    if let Some(parameter) = find(state, &name, request.with_decryption).await? {
        return Ok(Got { parameter });
    }
    let (bare, selector) = split(&name);
    if selector.is_some() && state.store.parameter(bare, None).await?.is_some() {
        let text = format!("There is no such version of the parameter: {name}.");
        return Err(ApiError::new("ParameterVersionNotFound", text));
    }
    let text = format!("Parameter {name} not found.");
    Err(ApiError::new("ParameterNotFound", text))
}

async fn find(
    state: &ApiState,
    asked: &str,
    with_decryption: bool,
) -> Result<Option<Shown>, ApiError> {
    let (name, selector) = split(asked);
    // Labels there are none.
    let version = match selector.map(str::parse) {
        None => None,
        Some(Ok(version)) => Some(version),
        Some(Err(_)) => return Ok(None),
    };
    let Some(parameter) = state.store.parameter(name, version).await? else {
        return Ok(None);
    };
    let shown = Shown::new(state, parameter, with_decryption)?;
    let selector = selector.map_or_else(String::new, |selector| format!(":{selector}"));
    Ok(Some(Shown { selector, ..shown }))
}

/// The name and what is behind its colon, of `name:version` or of an ARN.
fn split(asked: &str) -> (&str, Option<&str>) {
    let within_arn = asked.split_once(":parameter").map(|(_, name)| name);
    let asked = match within_arn {
        Some(path) if asked.starts_with("arn:") => {
            // The ARN of a name without slashes has one all the same.
            let name = path.trim_start_matches('/');
            if name.contains('/') { path } else { name }
        }
        _ => asked,
    };
    match asked.split_once(':') {
        Some((name, selector)) => (name, Some(selector)),
        None => (asked, None),
    }
}

/// Several parameters; those that are not there are named apart.
///
/// # Errors
/// `ValidationException`, `InternalServerError`.
pub(in crate::gateway::api) async fn get_many(
    state: &ApiState,
    request: NamesRequest,
) -> Result<GotMany, ApiError> {
    let (mut parameters, mut invalid_parameters) = (Vec::new(), Vec::new());
    let with_decryption = request.with_decryption;
    for name in names(request)? {
        match find(state, &name, with_decryption).await? {
            Some(parameter) => parameters.push(parameter),
            None => invalid_parameters.push(name),
        }
    }
    Ok(GotMany {
        parameters,
        invalid_parameters,
    })
}

fn names(request: NamesRequest) -> Result<Vec<String>, ApiError> {
    let names = required("names", request.names)?;
    if !(1..=NAMES).contains(&names.len()) {
        let text = format!("{} names were given, 1 to {NAMES} are allowed", names.len());
        return Err(ApiError::validation(text));
    }
    Ok(names)
}

/// Deletes a parameter.
///
/// # Errors
/// `ParameterNotFound`.
pub(super) async fn delete(state: &ApiState, request: NameRequest) -> Result<Deleted, ApiError> {
    let name = required("name", request.name)?;
    if state.store.delete_parameter(&name).await? {
        return Ok(Deleted {});
    }
    let text = format!("Parameter {name} not found.");
    Err(ApiError::new("ParameterNotFound", text))
}

/// Deletes parameters; those that are not there are named apart.
///
/// # Errors
/// `ValidationException`.
pub(super) async fn delete_many(
    state: &ApiState,
    request: NamesRequest,
) -> Result<DeletedMany, ApiError> {
    let (mut deleted_parameters, mut invalid_parameters) = (Vec::new(), Vec::new());
    for name in names(request)? {
        if state.store.delete_parameter(&name).await? {
            deleted_parameters.push(name);
        } else {
            invalid_parameters.push(name);
        }
    }
    Ok(DeletedMany {
        deleted_parameters,
        invalid_parameters,
    })
}

fn arn(name: &str) -> String {
    let name = name.trim_start_matches('/');
    format!("arn:aws:ssm:{REGION}:{ACCOUNT}:parameter/{name}")
}

impl Shown {
    fn new(
        state: &ApiState,
        parameter: Parameter,
        with_decryption: bool,
    ) -> Result<Self, ApiError> {
        let value = if with_decryption && parameter.kind == SECURE_STRING {
            state.store.reveal(&parameter)?.expose().to_owned()
        } else {
            parameter.value
        };
        Ok(Self {
            arn: arn(&parameter.name),
            name: parameter.name,
            kind: parameter.kind,
            value,
            version: parameter.version,
            selector: String::new(),
            last_modified_date: epoch_seconds(parameter.modified),
            data_type: parameter.data_type,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn version_is_told_from_the_colons_of_an_arn() {
        let arn = "arn:aws:ssm:us-east-1:000000000000:parameter";
        for (asked, name, selector) in [
            ("a", "a", None),
            ("/a/b:2", "/a/b", Some("2")),
            ("a:label", "a", Some("label")),
            (format!("{arn}/a").as_str(), "a", None),
            (format!("{arn}/a/b").as_str(), "/a/b", None),
            (format!("{arn}/a/b:3").as_str(), "/a/b", Some("3")),
        ] {
            assert_eq!(split(asked), (name, selector), "{asked}");
        }
    }
}

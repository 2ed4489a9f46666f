//! The argument contract between the AWS CLI and the program it knows as `session-manager-plugin`.
//!
//! ```text
//! session-manager-plugin <response> <region> StartSession <profile> <request-json> <ssm-endpoint-url>
//! ```
//!
//! | argument | content |
//! |---|---|
//! | 1 | the response of StartSession as JSON, or the name of an environment variable that holds it |
//! | 2 | region |
//! | 3 | `StartSession` |
//! | 4 | profile, or empty |
//! | 5 | the request of StartSession as JSON; only `Target` is of interest |
//! | 6 | URL of the ssm endpoint |
//!
//! Old command lines end after argument 3. Member names of both JSON texts are matched without
//! regard to case. The official plugin removes the environment variable after reading it; a process
//! that may have threads cannot do so safely, and this one starts no children that could inherit it.

use serde_json::{Map, Value};

use super::api::StartSessionResponse;
use crate::protocol::wire::SessionId;

/// Names of environment variables that hold a response start like this.
pub const RESPONSE_VARIABLE: &str = "AWS_SSM_START_SESSION_RESPONSE";
/// The only operation there is.
pub const OPERATION: &str = "StartSession";

/// Arguments without which nothing can be started: response, region, operation.
const REQUIRED_ARGUMENTS: usize = 3;

/// What the command line asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Invocation {
    /// No arguments: say that the program is there and what it is for.
    Notice,
    /// `--version`.
    Version,
    /// Run a session that was started already.
    Start(Box<Start>),
}

/// A session to run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Start {
    /// What StartSession answered.
    pub response: StartSessionResponse,
    /// Region of later calls.
    pub region: String,
    /// Profile of later calls, if one was named.
    pub profile: Option<String>,
    /// The node, if the request was handed over.
    pub target: Option<String>,
    /// URL of the ssm endpoint, if one was named.
    pub endpoint: Option<String>,
}

/// A command line that breaks the contract.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UsageError {
    /// Too few arguments.
    #[error("unknown operation {0:?}")]
    UnknownOperation(String),
    /// Argument 3 is something else than `StartSession`.
    #[error("invalid operation {0:?}: only {OPERATION} is known")]
    InvalidOperation(String),
    /// Argument 1 names an environment variable that is not set.
    #[error("environment variable {0} is not set, although it should hold the session")]
    VariableMissing(String),
    /// The response is no JSON object. Its text is not repeated, because it holds a token.
    #[error("the response of StartSession is not a JSON object: {0}")]
    Response(String),
    /// A member of the response is absent, null, empty or of another type.
    #[error("the response of StartSession has no usable {0}")]
    Member(&'static str),
    /// The session id cannot be one.
    #[error("the response of StartSession has a bad SessionId: {0}")]
    SessionId(String),
    /// The request is no JSON object.
    #[error("the request of StartSession is not a JSON object: {0}")]
    Request(String),
}

/// Reads the arguments after the program's name; `variable` looks up an environment variable.
///
/// # Errors
/// [`UsageError`].
pub fn parse(
    arguments: &[String],
    variable: impl FnOnce(&str) -> Option<String>,
) -> Result<Invocation, UsageError> {
    match arguments {
        [] => return Ok(Invocation::Notice),
        [only] if only == "--version" => return Ok(Invocation::Version),
        [first, ..] if arguments.len() < REQUIRED_ARGUMENTS => {
            return Err(UsageError::UnknownOperation(first.clone()));
        }
        _ => {}
    }
    let argument = |index: usize| arguments.get(index).map_or("", String::as_str);
    let given = |index: usize| Some(argument(index).to_owned()).filter(|text| !text.is_empty());

    if argument(2) != OPERATION {
        return Err(UsageError::InvalidOperation(argument(2).to_owned()));
    }
    let response = match argument(0) {
        name if name.starts_with(RESPONSE_VARIABLE) => {
            variable(name).ok_or_else(|| UsageError::VariableMissing(name.to_owned()))?
        }
        text => text.to_owned(),
    };
    Ok(Invocation::Start(Box::new(Start {
        response: parse_response(&response)?,
        region: argument(1).to_owned(),
        profile: given(3),
        target: given(4).map_or(Ok(None), |request| parse_target(&request))?,
        endpoint: given(5),
    })))
}

fn parse_response(text: &str) -> Result<StartSessionResponse, UsageError> {
    let object = parse_object(text).map_err(UsageError::Response)?;
    let member = |name: &'static str| {
        find(&object, name)
            .and_then(Value::as_str)
            .filter(|text| !text.is_empty())
            .map(str::to_owned)
            .ok_or(UsageError::Member(name))
    };
    Ok(StartSessionResponse {
        session_id: SessionId::new(member("SessionId")?)
            .map_err(|error| UsageError::SessionId(error.to_string()))?,
        token: member("TokenValue")?,
        stream_url: member("StreamUrl")?,
    })
}

fn parse_target(request: &str) -> Result<Option<String>, UsageError> {
    let object = parse_object(request).map_err(UsageError::Request)?;
    Ok(find(&object, "Target")
        .and_then(Value::as_str)
        .map(str::to_owned))
}

/// Parses a JSON object. The parser's words name positions and types, never the text itself.
fn parse_object(text: &str) -> Result<Map<String, Value>, String> {
    match serde_json::from_str(text) {
        Ok(Value::Object(object)) => Ok(object),
        Ok(_) => Err("it is another kind of value".into()),
        Err(error) => Err(error.to_string()),
    }
}

/// The member of exactly this name, or else the first whose name differs only in case.
fn find<'a>(object: &'a Map<String, Value>, name: &str) -> Option<&'a Value> {
    object.get(name).or_else(|| {
        object
            .iter()
            .find_map(|(key, value)| key.eq_ignore_ascii_case(name).then_some(value))
    })
}

#[cfg(test)]
mod tests;

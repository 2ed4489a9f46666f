//! What a step that runs a document is told.

use serde_json::{Map, Value};

use super::super::super::document::member;

/// Where the document is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    /// Systems Manager has it.
    SystemsManager,
    /// It is a file.
    Local,
}

/// The inputs of a step.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Inputs {
    pub(super) place: Place,
    /// What names it there.
    pub(super) path: String,
    /// The values of its parameters, without those that are null.
    pub(super) parameters: Map<String, Value>,
}

impl Inputs {
    /// Reads them; the error is the text for the reply.
    pub(super) fn read(properties: &Value) -> Result<Self, String> {
        let invalid =
            |what: &str| format!("Invalid format in plugin properties {properties};\nerror {what}");
        let members = properties.as_object();
        let members = members.ok_or_else(|| invalid("inputs must be an object"))?;
        let text = |name: &str| match member(members, name) {
            None => Ok(String::new()),
            Some(Value::String(text)) if !text.contains('\0') => Ok(text.clone()),
            Some(_) => Err(invalid(&format!("{name} must be a string"))),
        };
        let (place, path) = (text("documentType")?, text("documentPath")?);
        let place = match place.as_str() {
            "SSMDocument" => Place::SystemsManager,
            "LocalPath" => Place::Local,
            "" => {
                return Err("invalid input: documentType must be SSMDocument or LocalPath".into());
            }
            // The reference's words.
            _ => return Err("invalid input: Document type specified in invalid".into()),
        };
        if path.is_empty() {
            return Err("invalid input: Document Path must be provided".into());
        }
        let parameters = parameters(member(members, "documentParameters"))?;
        Ok(Self {
            place,
            path,
            parameters,
        })
    }
}

/// An object, or the text of one in JSON or YAML.
fn parameters(value: Option<&Value>) -> Result<Map<String, Value>, String> {
    let read = match value {
        None => Some(Map::new()),
        Some(Value::Object(members)) => Some(members.clone()),
        Some(Value::String(text)) if text.trim().is_empty() => Some(Map::new()),
        Some(Value::String(text)) => match parse(text)? {
            Value::Object(members) => Some(members),
            _ => None,
        },
        Some(_) => None,
    };
    let mut read = read.ok_or_else(|| {
        preparing("documentParameters must be an object, or the JSON or YAML text of one")
    })?;
    // They take the place of defaults otherwise.
    read.retain(|_, value| !value.is_null());
    Ok(read)
}

fn parse(text: &str) -> Result<Value, String> {
    parse_either(text).map_err(|why| preparing(&format!("documentParameters: {why}")))
}

/// JSON or YAML; says what is wrong with it as both.
pub(super) fn parse_either(text: &str) -> Result<Value, String> {
    let json = match serde_json::from_str(text) {
        Ok(value) => return Ok(value),
        Err(error) => error,
    };
    serde_saphyr::from_str(text).map_err(|yaml| {
        // It shows the lines around.
        let yaml = yaml.to_string();
        let yaml = yaml.lines().next().unwrap_or_default();
        format!("it is neither JSON ({json}) nor YAML ({yaml})")
    })
}

/// The reference's words for a document that is not ready to run.
pub(super) fn preparing(why: &str) -> String {
    format!("There was an error while preparing documents - {why}")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read(parameters: &Value) -> Result<Map<String, Value>, String> {
        let inputs = json!({
            "documentType": "LocalPath", "DocumentPath": "d", "documentParameters": parameters,
        });
        Inputs::read(&inputs).map(|inputs| inputs.parameters)
    }

    #[test]
    fn parameters_are_an_object_or_its_text_without_nulls() {
        let expected = json!({"a": ["x", "z"], "b": 1})
            .as_object()
            .unwrap()
            .clone();
        for parameters in [
            json!({"a": ["x", "z"], "b": 1, "c": null}),
            json!(r#"{"a": ["x", "z"], "b": 1, "c": null}"#),
            json!("a:\n  - x\n  - z\nb: 1\nc:\n"),
        ] {
            assert_eq!(read(&parameters), Ok(expected.clone()), "{parameters}");
        }
        assert_eq!(read(&json!("")), Ok(Map::new()));
        assert_eq!(read(&json!(null)), Ok(Map::new()));
    }

    #[test]
    fn inputs_that_make_no_sense_say_so() {
        for parameters in [json!([]), json!("[1]"), json!("{"), json!("a: [")] {
            let refused = read(&parameters).unwrap_err();
            let expected = "There was an error while preparing documents - documentParameters";
            assert!(refused.starts_with(expected), "{refused}");
        }
        for (inputs, text) in [
            (
                json!({"documentType": "File", "documentPath": "x"}),
                "invalid input: Document type specified in invalid",
            ),
            (
                json!({"documentPath": "x"}),
                "invalid input: documentType must be SSMDocument or LocalPath",
            ),
            (
                json!({"documentType": "LocalPath"}),
                "invalid input: Document Path must be provided",
            ),
        ] {
            assert_eq!(Inputs::read(&inputs).unwrap_err(), text);
        }
        let refused = Inputs::read(&json!({"documentType": 1})).unwrap_err();
        assert!(
            refused.ends_with("error documentType must be a string"),
            "{refused}"
        );
    }
}

//! Reads elements out of an XML answer.

use quick_xml::Reader;
use quick_xml::events::Event;

use super::unexpected;
use crate::aws::error::CallError;

/// Deepest nesting that is followed; the answers have four.
const DEPTH: usize = 16;

/// The text of the first element at `path`, root first, namespaces ignored; absent if there is none
/// or it is empty.
///
/// # Errors
/// [`CallError::Answer`] if `xml` is no XML.
pub(super) fn text(
    operation: &str,
    xml: &[u8],
    path: &[&str],
) -> Result<Option<String>, CallError> {
    let first = texts(operation, xml, path)?.into_iter().next();
    let first = first.map(|text| text.trim().to_owned());
    Ok(first.filter(|text| !text.is_empty()))
}

/// The texts of all elements at `path` that are not written as empty ones, spaces included.
///
/// # Errors
/// [`CallError::Answer`] if `xml` is no XML.
pub(super) fn texts(operation: &str, xml: &[u8], path: &[&str]) -> Result<Vec<String>, CallError> {
    let no_xml = |reason: String| unexpected(operation, &reason);
    let mut reader = Reader::from_reader(xml);
    let mut open: Vec<String> = Vec::new();
    let mut found = String::new();
    let mut all = Vec::new();
    loop {
        let event = reader.read_event();
        match event.map_err(|error| no_xml(error.to_string()))? {
            Event::Start(_) if open.len() == DEPTH => return Err(no_xml("it is too deep".into())),
            Event::Start(start) => {
                open.push(String::from_utf8_lossy(start.local_name().as_ref()).into_owned());
            }
            Event::End(_) => {
                if open == path {
                    all.push(std::mem::take(&mut found));
                }
                open.pop();
            }
            Event::Text(text) if open == path => {
                found.push_str(&text.decode().map_err(|error| no_xml(error.to_string()))?);
            }
            Event::GeneralRef(reference) if open == path => {
                let name = reference
                    .decode()
                    .map_err(|error| no_xml(error.to_string()))?;
                let text = quick_xml::escape::unescape(&format!("&{name};"))
                    .map_err(|error| no_xml(error.to_string()))?
                    .into_owned();
                found.push_str(&text);
            }
            Event::Eof if !open.is_empty() => return Err(no_xml("it is cut off".into())),
            Event::Eof => break,
            _ => {}
        }
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_of_the_first_element_at_the_path_is_read() {
        let xml =
            br#"<?xml version="1.0"?><A xmlns="urn:x"><C>no</C><B><C/><D>a&amp;b</D></B></A>"#;

        let read = |path: &[&str]| text("Op", xml, path).unwrap();

        assert_eq!(read(&["A", "B", "D"]).as_deref(), Some("a&b"));
        assert_eq!(read(&["A", "B", "C"]), None);
        assert_eq!(read(&["B"]), None);
    }

    #[test]
    fn texts_of_all_elements_are_read_with_their_spaces() {
        let xml = b"<L><C><K> a &lt; </K></C><C><K>b</K><S>1</S></C><K>no</K></L>";

        assert_eq!(texts("Op", xml, &["L", "C", "K"]).unwrap(), [" a < ", "b"]);
    }

    #[test]
    fn garbage_is_an_error() {
        let deep = "<a>".repeat(DEPTH + 1);
        for garbage in ["<A><B>", "<A></B>", "<A", &deep] {
            let error = text("Op", garbage.as_bytes(), &["A", "B"]).unwrap_err();
            assert!(matches!(error, CallError::Answer { .. }), "{garbage}");
        }
    }
}

//! ListDocuments and its filters.

use serde::{Deserialize, Serialize};

use super::super::super::ApiState;
use super::super::super::answer::{ApiError, epoch_seconds};
use super::super::super::validation::{cursor, length, not_in_set, page_size, page_token};
use super::built_in;
use super::description::owner;
use crate::gateway::store::activations::Tag;
use crate::gateway::store::documents::Document;

const LIST: &str = "ListDocuments";
/// Documents on a page unless the caller says otherwise; the model allows 1 to 50.
const PAGE_SIZE: usize = 50;
/// Filters in one call, by the model.
const FILTERS: usize = 6;

/// ListDocuments' members.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(in crate::gateway::api::ssm) struct Request {
    filters: Option<Vec<KeyValues>>,
    /// The older form of filters.
    document_filter_list: Option<Vec<KeyValue>>,
    max_results: Option<i64>,
    next_token: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct KeyValues {
    key: String,
    #[serde(default)]
    values: Vec<String>,
}

#[derive(Debug, Deserialize)]
struct KeyValue {
    key: String,
    value: String,
}

/// ListDocuments' result.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(in crate::gateway::api::ssm) struct Documents {
    document_identifiers: Vec<Identifier>,
    #[serde(skip_serializing_if = "Option::is_none")]
    next_token: Option<String>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Identifier {
    name: String,
    created_date: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    display_name: Option<String>,
    owner: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    version_name: Option<String>,
    platform_types: Vec<String>,
    document_version: String,
    document_type: String,
    schema_version: String,
    document_format: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    target_type: Option<String>,
    tags: Vec<Tag>,
    author: String,
}

/// Lists the default versions of documents, by name.
///
/// # Errors
/// `ValidationException`, `InvalidFilterKey`, `InvalidNextToken`.
pub(in crate::gateway::api::ssm) async fn list(
    state: &ApiState,
    request: Request,
) -> Result<Documents, ApiError> {
    let size = page_size(request.max_results, 1..=50, PAGE_SIZE)?;
    let after = cursor(LIST, request.next_token.as_deref())?.unwrap_or_default();
    let filter = Filter::new(request.filters, request.document_filter_list)?;
    let own = built_in::all().filter(|document| document.name > after && filter.accepts(document));
    let mut items: Vec<Document> = own.cloned().collect();
    let keep = filter.clone();
    let page = state
        .store
        .documents(Some(after), size, move |document| keep.accepts(document))
        .await?;
    items.extend(page.items);
    items.sort_by(|a, b| a.name.cmp(&b.name));
    let more = items.len() > size || page.next.is_some();
    items.truncate(size);
    let next = items.last().filter(|_| more);
    Ok(Documents {
        next_token: next.map(|document| page_token(LIST, &document.name)),
        document_identifiers: items.into_iter().map(Identifier::from).collect(),
    })
}

impl From<Document> for Identifier {
    fn from(document: Document) -> Self {
        Self {
            owner: owner(&document.name),
            name: document.name,
            created_date: epoch_seconds(document.created),
            display_name: document.version.display_name,
            version_name: document.version.version_name,
            platform_types: document.version.platforms,
            document_version: document.number.to_string(),
            document_type: document.document_type,
            schema_version: document.version.schema_version,
            document_format: document.version.format,
            target_type: document.version.target_type,
            tags: document.tags,
            author: document.version.author,
        }
    }
}

/// All filters of a call: a document is listed if it passes every one.
#[derive(Debug, Clone)]
struct Filter(Vec<(Key, Vec<String>)>);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Key {
    /// The beginning of the name.
    Name,
    Owner,
    PlatformTypes,
    DocumentType,
    TargetType,
    /// A part of the name.
    SearchKeyword,
    TagName,
    TagValue(String),
}

impl Key {
    fn parse(text: &str) -> Option<Self> {
        Some(match text {
            "Name" => Self::Name,
            "Owner" => Self::Owner,
            "PlatformTypes" => Self::PlatformTypes,
            "DocumentType" => Self::DocumentType,
            "TargetType" => Self::TargetType,
            "SearchKeyword" => Self::SearchKeyword,
            "tag-key" => Self::TagName,
            _ => Self::TagValue(text.strip_prefix("tag:")?.to_owned()),
        })
    }
}

impl Filter {
    fn new(
        filters: Option<Vec<KeyValues>>,
        older: Option<Vec<KeyValue>>,
    ) -> Result<Self, ApiError> {
        let older = older.into_iter().flatten().map(|filter| KeyValues {
            key: filter.key,
            values: vec![filter.value],
        });
        let filters: Vec<KeyValues> = filters.into_iter().flatten().chain(older).collect();
        if filters.len() > FILTERS {
            let text = format!("at most {FILTERS} filters are allowed");
            return Err(ApiError::validation(text));
        }
        filters
            .into_iter()
            .map(parse)
            .collect::<Result<_, _>>()
            .map(Self)
    }

    fn accepts(&self, document: &Document) -> bool {
        self.0.iter().all(|(key, values)| {
            let has = |text: &str| values.iter().any(|value| value == text);
            match key {
                Key::Name => values.iter().any(|start| document.name.starts_with(start)),
                Key::Owner => values.iter().any(|value| is_owned(document, value)),
                Key::PlatformTypes => document.version.platforms.iter().any(|name| has(name)),
                Key::DocumentType => has(&document.document_type),
                Key::TargetType => document.version.target_type.as_deref().is_some_and(has),
                Key::SearchKeyword => values.iter().any(|word| contains(&document.name, word)),
                Key::TagName => document.tags.iter().any(|tag| has(&tag.key)),
                Key::TagValue(name) => {
                    let mut tags = document.tags.iter();
                    tags.any(|tag| tag.key == *name && has(&tag.value))
                }
            }
        })
    }
}

fn parse(filter: KeyValues) -> Result<(Key, Vec<String>), ApiError> {
    const OWNERS: [&str; 6] = ["Amazon", "Private", "Public", "Self", "ThirdParty", "All"];
    let KeyValues { key, values } = filter;
    let parsed = Key::parse(&key).ok_or_else(|| {
        let text = format!("The specified key {key} isn't valid.");
        ApiError::new("InvalidFilterKey", text)
    })?;
    for value in &values {
        length("filters", value, 1..=256)?;
    }
    if parsed == Key::Owner {
        let [owner] = values.as_slice() else {
            return Err(ApiError::validation(
                "Owner filter can only have one value.",
            ));
        };
        if !OWNERS.contains(&owner.as_str()) {
            return Err(not_in_set("filters", owner, &OWNERS));
        }
    }
    Ok((parsed, values))
}

fn is_owned(document: &Document, by: &str) -> bool {
    let is_built_in = built_in::find(&document.name).is_some();
    match by {
        "Amazon" | "Public" => is_built_in,
        "Self" | "Private" => !is_built_in,
        "All" => true,
        _ => false,
    }
}

fn contains(name: &str, word: &str) -> bool {
    name.to_ascii_lowercase()
        .contains(&word.to_ascii_lowercase())
}

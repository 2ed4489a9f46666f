//! The source `GitHub`: a file, or a folder with everything in it, by GitHub's contents API.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::Bytes;
use http::header::{ACCEPT, AUTHORIZATION};
use http::{HeaderMap, HeaderValue, StatusCode};
use serde::Deserialize;
use url::Url;

use super::destination::{Destination, segments};
use super::get_options::GetOptions;
use super::source_info::SourceInfo;
use super::tree::{Budget, Folder};
use super::{Context, DownloadError, FILES, Retries, secrets};
use crate::aws::{Client, Download};

/// What the API calls answers about files and folders.
const JSON: HeaderValue = HeaderValue::from_static("application/vnd.github+json");
/// What it calls a file as it is.
const RAW: HeaderValue = HeaderValue::from_static("application/vnd.github.raw+json");
/// Longest answer about a file or folder: a file of 1 MiB is in it, a folder of 1000 entries.
const ANSWER: usize = 8 << 20;
/// The branch that is meant if none is named, as in the reference.
const BRANCH: &str = "master";

/// A part of a repository.
struct Repository<'a> {
    client: &'a Client,
    contents: Url,
    /// The state that is wanted; none for the default branch.
    state: Option<String>,
    headers: HeaderMap,
}

/// A file or a folder.
#[derive(Deserialize)]
#[serde(untagged)]
enum Contents {
    Folder(Vec<Entry>),
    One(Entry),
}

#[derive(Deserialize)]
struct Entry {
    #[serde(rename = "type")]
    kind: String,
    name: String,
    path: String,
    #[serde(default)]
    content: String,
    #[serde(default)]
    encoding: String,
}

/// Downloads what is at the path.
pub(super) async fn download(
    context: &Context<'_>,
    info: &SourceInfo,
    destination: &Destination,
) -> Result<(), DownloadError> {
    let mut repository = Repository::open(context, info).await?;
    let path = info.text("path")?;
    let (mut first, is_default) = (
        repository.look(&path).await,
        info.text("getOptions")?.is_empty(),
    );
    if is_default && matches!(first, Err(DownloadError::Status(_))) {
        // Unlike the reference: there are repositories without that branch.
        repository.state = None;
        if let Ok(found) = repository.look(&path).await {
            first = Ok(found);
        }
    }
    let budget = &mut Budget::default();
    let mut ahead = match first? {
        Contents::One(file) => {
            let (place, name) = destination.file(&file.name)?;
            let folder = Folder::open(place).await?;
            return repository.save(file, &folder, &name, budget).await;
        }
        Contents::Folder(entries) => entries,
    };
    let folder = Folder::open(destination.tree()).await?;
    let top = segments(&path)?.len();
    let mut seen = 0;
    while let Some(entry) = ahead.pop() {
        seen += 1;
        if seen > FILES {
            return Err(DownloadError::TooMany);
        }
        let within = segments(&entry.path)?;
        let within = within.get(top..).unwrap_or_default().join("/");
        if entry.kind == "file" {
            repository
                .save_raw(&entry.path, &folder, &within, budget)
                .await?;
            continue;
        }
        match repository.look(&entry.path).await? {
            Contents::Folder(entries) => ahead.extend(entries),
            // A link to a file is one to who asks.
            Contents::One(file) => repository.save(file, &folder, &within, budget).await?,
        }
    }
    Ok(())
}

impl<'a> Repository<'a> {
    async fn open(context: &'a Context<'_>, info: &SourceInfo) -> Result<Self, DownloadError> {
        let client = context.client()?;
        let named = |member: &str| {
            let name = info.text(member)?;
            match segments(&name)?[..] {
                [one] => Ok(one.to_owned()),
                _ => Err(DownloadError::Input(format!(
                    "the {member} must be specified in SourceInfo for the source type GitHub"
                ))),
            }
        };
        let (owner, repository) = (named("owner")?, named("repository")?);
        let state = match GetOptions::read(&info.text("getOptions")?)? {
            GetOptions::Default => BRANCH.to_owned(),
            GetOptions::Branch(state) | GetOptions::Commit(state) => state,
        };
        let mut headers = HeaderMap::new();
        let token = info.text("tokenInfo")?;
        if !token.is_empty() {
            headers.insert(AUTHORIZATION, authorization(client, &token).await?);
        }
        let base = &context.task.settings.github;
        let mut contents = Url::parse(base).map_err(|error| {
            DownloadError::Input(format!("{base} is no address of GitHub's API: {error}"))
        })?;
        if let Ok(mut path) = contents.path_segments_mut() {
            path.pop_if_empty();
            path.extend(["repos", &owner, &repository, "contents"]);
        }
        Ok(Self {
            client,
            contents,
            state: Some(state),
            headers,
        })
    }

    /// Asks what is at a path.
    async fn look(&self, path: &str) -> Result<Contents, DownloadError> {
        let answer = self.ask(path, JSON).await?;
        let body = answer.bytes(ANSWER).await?;
        serde_json::from_slice(&body).map_err(|_| {
            DownloadError::Input(format!(
                "Could not download from GitHub repository: the answer about {path:?} is not understood"
            ))
        })
    }

    /// Saves a file that was looked at.
    async fn save(
        &self,
        file: Entry,
        folder: &Folder,
        name: &str,
        budget: &mut Budget,
    ) -> Result<(), DownloadError> {
        if file.kind != "file" {
            return Err(DownloadError::Input(format!(
                "Could not download from GitHub repository: {:?} is a {}",
                file.path, file.kind
            )));
        }
        if file.encoding != "base64" {
            // The API has no content for files above 1 MiB.
            return self.save_raw(&file.path, folder, name, budget).await;
        }
        let text: String = file.content.split_ascii_whitespace().collect();
        let content = BASE64.decode(text).map_err(|_| {
            DownloadError::Input(format!("the content of {:?} is not base64", file.path))
        })?;
        folder.write(name, Bytes::from(content), budget).await
    }

    async fn save_raw(
        &self,
        path: &str,
        folder: &Folder,
        name: &str,
        budget: &mut Budget,
    ) -> Result<(), DownloadError> {
        let mut retries = Retries::default();
        loop {
            let download = self.ask(path, RAW).await?;
            match folder.save(name, download, budget).await {
                Ok(()) => return Ok(()),
                Err(failure) => retries.wait(failure).await?,
            }
        }
    }

    async fn ask(&self, path: &str, what: HeaderValue) -> Result<Download, DownloadError> {
        let mut url = self.contents.clone();
        if let Ok(mut whole) = url.path_segments_mut() {
            whole.extend(segments(path)?);
        }
        if let Some(state) = &self.state {
            url.query_pairs_mut().append_pair("ref", state);
        }
        let mut headers = self.headers.clone();
        headers.insert(ACCEPT, what);
        let answer = self.client.fetch(&url, &headers, false).await?;
        if answer.status() == StatusCode::OK {
            return Ok(answer);
        }
        let spent = answer.headers().get("x-ratelimit-remaining");
        let why = match answer.status() {
            StatusCode::FORBIDDEN | StatusCode::TOO_MANY_REQUESTS
                if spent.is_some_and(|count| count == "0") =>
            {
                "Rate limit exceeded".to_owned()
            }
            StatusCode::UNAUTHORIZED => "401 Unauthorized, tokenInfo gives no access".to_owned(),
            status => status.to_string(),
        };
        Err(DownloadError::Status(format!("{why} ({path:?} on GitHub)")))
    }
}

/// The header that shows a token.
async fn authorization(client: &Client, named: &str) -> Result<HeaderValue, DownloadError> {
    if !secrets::is_secure_reference(named) {
        return Err(DownloadError::Input(
            "tokenInfo must be '{{ ssm-secure:parameter-name }}'".into(),
        ));
    }
    let token = secrets::reveal(client, named).await?;
    let value = HeaderValue::from_str(&format!("Bearer {}", token.expose().trim()));
    let mut value =
        value.map_err(|_| DownloadError::Input("the token cannot stand in a header".to_owned()))?;
    value.set_sensitive(true);
    Ok(value)
}

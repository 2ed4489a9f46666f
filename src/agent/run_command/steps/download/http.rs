//! The source `HTTP`.

mod digest;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use http::header::{AUTHORIZATION, WWW_AUTHENTICATE};
use http::{HeaderMap, HeaderValue, StatusCode};
use url::Url;

use self::digest::Challenge;
use super::destination::Destination;
use super::source_info::SourceInfo;
use super::tree::{Budget, Folder};
use super::{Context, DownloadError, Retries, secrets};
use crate::aws::{Client, Download, Secret};

/// The reference's words.
const INSECURE: &str = "Non secure URL provided and insecure download is not allowed. Provide a secure URL or set 'allowInsecureDownload' to true to perform the download operation";

/// How a server is told who asks.
#[derive(Debug)]
enum Authentication {
    None,
    Basic { user: Secret, password: Secret },
    Digest { user: Secret, password: Secret },
}

/// What to get.
struct Source<'a> {
    client: &'a Client,
    url: Url,
    authentication: Authentication,
    allows_insecure: bool,
}

/// Downloads what is at the URL.
pub(super) async fn download(
    context: &Context<'_>,
    info: &SourceInfo,
    destination: &Destination,
) -> Result<(), DownloadError> {
    let source = Source::open(context, info).await?;
    let name = format!("download{}", number(context));
    let (place, name) = destination.file(&name)?;
    let mut download = source.ask().await?;
    let folder = Folder::open(place).await?;
    let budget = &mut Budget::default();
    let mut retries = Retries::default();
    loop {
        match folder.save(&name, download, budget).await {
            Ok(()) => return Ok(()),
            Err(failure) => retries.wait(failure).await?,
        }
        download = source.ask().await?;
    }
}

/// A number for the name of a file that has none, like the reference's random one, but the same
/// whenever the step starts over.
fn number(context: &Context<'_>) -> u64 {
    let digest =
        aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, context.task.mark().as_bytes());
    let bytes = digest.as_ref().iter().take(7);
    bytes.fold(0, |number, byte| number << 8 | u64::from(*byte))
}

impl<'a> Source<'a> {
    async fn open(context: &'a Context<'_>, info: &SourceInfo) -> Result<Self, DownloadError> {
        let refused = |why: String| DownloadError::Input(why);
        let mut url = Url::parse(&info.text("url")?)
            .map_err(|error| refused(format!("the url in SourceInfo is none: {error}")))?;
        if !matches!(url.scheme(), "http" | "https") || !url.has_host() {
            return Err(refused(
                "the url in SourceInfo must be of http or https".into(),
            ));
        }
        let allows_insecure = info.flag("allowInsecureDownload")?;
        if url.scheme() == "http" && !allows_insecure {
            return Err(refused(INSECURE.into()));
        }
        let client = context.client()?;
        let (user, password) = (info.text("username")?, info.text("password")?);
        let method = info.text("authMethod")?;
        let authentication = match method.as_str() {
            "" | "None" => Authentication::None,
            "Basic" | "Digest" => {
                let user = secrets::reveal(client, &user).await?;
                let password = secrets::reveal(client, &password).await?;
                if method == "Basic" {
                    Authentication::Basic { user, password }
                } else {
                    Authentication::Digest { user, password }
                }
            }
            other => {
                return Err(refused(format!(
                    "authMethod must be None, Basic or Digest, not {other:?}"
                )));
            }
        };
        // What stands in a URL would be sent in the request line.
        let _ = url.set_username("");
        let _ = url.set_password(None);
        Ok(Self {
            client,
            url,
            authentication,
            allows_insecure,
        })
    }

    /// The answer, which is a success.
    async fn ask(&self) -> Result<Download, DownloadError> {
        let answer = match &self.authentication {
            Authentication::None => self.fetch(None).await?,
            Authentication::Basic { user, password } => {
                let pair = format!("{}:{}", user.expose(), password.expose());
                let pair = format!("Basic {}", BASE64.encode(pair));
                self.fetch(Some(&pair)).await?
            }
            Authentication::Digest { user, password } => {
                let first = self.fetch(None).await?;
                // Whom it redirects to is told nothing.
                let is_here = first.url().origin() == self.url.origin();
                if first.status() == StatusCode::UNAUTHORIZED && is_here {
                    let challenge = challenge(first.headers())?;
                    let path = &first.url()[url::Position::BeforePath..url::Position::AfterQuery];
                    let nonce = uuid::Uuid::new_v4().simple().to_string();
                    let answer = challenge.answer(user.expose(), password.expose(), path, &nonce);
                    self.fetch_at(first.url(), Some(&answer)).await?
                } else {
                    first
                }
            }
        };
        if answer.status() != StatusCode::OK {
            return Err(DownloadError::Status(answer.status().to_string()));
        }
        Ok(answer)
    }

    async fn fetch(&self, authorization: Option<&str>) -> Result<Download, DownloadError> {
        self.fetch_at(&self.url, authorization).await
    }

    async fn fetch_at(
        &self,
        url: &Url,
        authorization: Option<&str>,
    ) -> Result<Download, DownloadError> {
        let mut headers = HeaderMap::new();
        if let Some(text) = authorization {
            let mut value = HeaderValue::from_str(text).map_err(|_| {
                DownloadError::Input("the credentials cannot stand in a header".into())
            })?;
            value.set_sensitive(true);
            headers.insert(AUTHORIZATION, value);
        }
        let answer = self.client.fetch(url, &headers, self.allows_insecure);
        Ok(answer.await?)
    }
}

/// The challenge among those of an answer that can be taken up.
fn challenge(headers: &HeaderMap) -> Result<Challenge, DownloadError> {
    let offered = headers.get_all(WWW_AUTHENTICATE).iter();
    let texts = offered.filter_map(|value| value.to_str().ok());
    let mut challenges: Vec<Challenge> = texts.flat_map(Challenge::parse_all).collect();
    // The strongest one.
    challenges.sort_by_key(|challenge| challenge.algorithm);
    challenges.pop().ok_or_else(|| {
        DownloadError::Status(
            "401 Unauthorized, without a challenge for Digest that this agent knows".into(),
        )
    })
}

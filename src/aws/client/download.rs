//! Downloads: answers of any length, whose bodies come piece by piece.

use std::time::Duration;

use bytes::Bytes;
use http::header::{AUTHORIZATION, LOCATION, USER_AGENT};
use http::{HeaderMap, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::{Body, Incoming};
use url::Url;

use super::{Authority, Client, Draft, OUR_USER_AGENT, judge_answer};
use crate::aws::error::CallError;
use crate::aws::http::{HttpError, explain_read, within};
use crate::aws::retry::Attempts;

/// How long an answer may take to begin, and each of its pieces to come.
const PATIENCE: Duration = Duration::from_secs(60);
/// Longest body of a refusal that is read.
const REFUSAL: usize = 64 << 10;
/// Most redirects that are followed.
const REDIRECTS: usize = 10;

/// An answer whose body is still to come.
#[derive(Debug)]
pub struct Download {
    url: Url,
    answer: Response<Incoming>,
}

/// Why there is no answer to a plain GET.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// No connection, or no answer.
    #[error(transparent)]
    Http(#[from] HttpError),
    /// One redirect after another.
    #[error("more than {REDIRECTS} redirects")]
    TooManyRedirects,
    /// From TLS to no TLS.
    #[error("it redirects to {0}, which is not secure")]
    Insecure(String),
    /// To nowhere, or to something else than HTTP.
    #[error("it redirects to {0:?}, which is no URL of HTTP")]
    Location(String),
    /// The URL or a header cannot stand in a request.
    #[error("it cannot be asked for: {0}")]
    Request(#[from] http::Error),
}

impl Download {
    /// Where it came from, after redirects.
    pub fn url(&self) -> &Url {
        &self.url
    }

    /// Its status.
    pub fn status(&self) -> StatusCode {
        self.answer.status()
    }

    /// Its headers.
    pub fn headers(&self) -> &HeaderMap {
        self.answer.headers()
    }

    /// How long the rest of its body is, if the server said so.
    pub fn length(&self) -> Option<u64> {
        self.answer.body().size_hint().exact()
    }

    /// The next piece of its body, nothing at its end.
    ///
    /// # Errors
    /// [`HttpError`] if the connection broke, or nothing came for a minute.
    pub async fn next(&mut self) -> Result<Option<Bytes>, HttpError> {
        let host = self.url.host_str().unwrap_or_default().to_owned();
        let body = self.answer.body_mut();
        let next = async {
            while let Some(frame) = body.frame().await {
                let frame = frame.map_err(|cause| explain_read(&host, cause.into()))?;
                if let Ok(data) = frame.into_data() {
                    return Ok(Some(data));
                }
            }
            Ok(None)
        };
        within(PATIENCE, &host, next).await
    }

    /// The rest of its body, of at most `limit` bytes.
    ///
    /// # Errors
    /// [`HttpError`].
    pub async fn bytes(self, limit: usize) -> Result<Bytes, HttpError> {
        let host = self.url.host_str().unwrap_or_default().to_owned();
        let body = Limited::new(self.answer.into_body(), limit);
        let read = async {
            let read = body.collect().await;
            read.map_err(|cause| explain_read(&host, cause))
        };
        within(PATIENCE, &host, read)
            .await
            .map(http_body_util::Collected::to_bytes)
    }
}

impl Client {
    /// GETs `url` without a signature, as this client reaches other hosts: with its certificates and
    /// proxies. Redirects are followed; `authorization` goes to the first host only, and there is no
    /// way from `https` to `http` unless `insecure`.
    ///
    /// # Errors
    /// [`FetchError`]; an answer is one whatever its status.
    pub async fn fetch(
        &self,
        url: &Url,
        headers: &HeaderMap,
        insecure: bool,
    ) -> Result<Download, FetchError> {
        let mut at = url.clone();
        for _ in 0..=REDIRECTS {
            let mut request = Request::get(at.as_str())
                .header(USER_AGENT, OUR_USER_AGENT)
                .body(Full::new(Bytes::new()))?;
            request.headers_mut().extend(headers.clone());
            if at.origin() != url.origin() {
                request.headers_mut().remove(AUTHORIZATION);
            }
            let route = self.shared.routes.route(&at, &self.shared.proxies);
            let answer = route.open(request, PATIENCE).await?;
            let Some(next) = redirect(&at, &answer)? else {
                return Ok(Download { url: at, answer });
            };
            if at.scheme() == "https" && next.scheme() != "https" && !insecure {
                return Err(FetchError::Insecure(shown(&next)));
            }
            at = next;
        }
        Err(FetchError::TooManyRedirects)
    }

    /// Makes a call as often as `attempts` allow; gives the answer as soon as it begins.
    ///
    /// # Errors
    /// [`CallError`].
    pub(in crate::aws) async fn open(
        &self,
        draft: &Draft<'_>,
        authority: Authority<'_>,
        mut attempts: Attempts,
    ) -> Result<Download, CallError> {
        loop {
            let (failure, clock_changed) = match self.open_once(draft, authority).await {
                Ok((download, _)) if draft.success.contains(&download.status()) => {
                    return Ok(download);
                }
                Ok((download, clock_changed)) => (refusal(draft, download).await, clock_changed),
                Err(failure) => (failure, false),
            };
            self.recover(&mut attempts, draft, failure, clock_changed)
                .await?;
        }
    }

    async fn open_once(
        &self,
        draft: &Draft<'_>,
        authority: Authority<'_>,
    ) -> Result<(Download, bool), CallError> {
        let request = self.sign_draft(draft, authority).await?;
        let route = self.shared.route(draft.service, &draft.url);
        let answer = route.open(request, draft.timeout).await;
        let answer = answer.map_err(|cause| CallError::Network {
            operation: draft.operation.to_owned(),
            cause,
        })?;
        let clock_changed = self.observe_clock(answer.headers());
        let url = draft.url.clone();
        Ok((Download { url, answer }, clock_changed))
    }
}

/// The failure that an answer tells.
async fn refusal(draft: &Draft<'_>, download: Download) -> CallError {
    let (status, headers) = (download.status(), download.headers().clone());
    // A refusal without its reason is one all the same.
    let body = download.bytes(REFUSAL).await.unwrap_or_default();
    let mut whole = Response::new(body);
    *whole.status_mut() = status;
    *whole.headers_mut() = headers;
    match judge_answer(draft, &whole) {
        Err(failure) => failure,
        Ok(()) => CallError::refusal(
            draft.operation,
            status.as_u16(),
            whole.headers(),
            whole.body(),
        ),
    }
}

/// Where an answer sends who asked.
fn redirect(at: &Url, answer: &Response<Incoming>) -> Result<Option<Url>, FetchError> {
    if !matches!(answer.status().as_u16(), 301 | 302 | 303 | 307 | 308) {
        return Ok(None);
    }
    let Some(location) = answer.headers().get(LOCATION) else {
        return Ok(None);
    };
    let text = String::from_utf8_lossy(location.as_bytes()).into_owned();
    let next = at.join(&text).ok();
    let next = next.filter(|next| matches!(next.scheme(), "http" | "https") && next.has_host());
    next.map(Some).ok_or(FetchError::Location(text))
}

/// A URL without what may be secret.
fn shown(url: &Url) -> String {
    let mut url = url.clone();
    let _ = url.set_password(None);
    let _ = url.set_username("");
    url.set_query(None);
    url.to_string()
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;
    use crate::aws::tests::server::{Reply, TestServer};

    fn url(server: &TestServer, path: &str) -> Url {
        Url::parse(&format!("http://{}{path}", server.address)).unwrap()
    }

    fn moved(to: &str) -> Reply {
        Reply(302, vec![("location", to.to_owned())], String::new())
    }

    #[tokio::test]
    async fn body_comes_in_pieces_after_redirects() {
        let server = TestServer::start(|_, seen| match seen.path.as_str() {
            "/a" => moved("/b"),
            _ => Reply(200, vec![], "x".repeat(300_000)),
        })
        .await;

        let (client, none) = (server.client(), HeaderMap::new());
        let got = client.fetch(&url(&server, "/a"), &none, false).await;
        let mut got = got.unwrap();

        assert_eq!((got.status().as_u16(), got.url().path()), (200, "/b"));
        assert_eq!(got.length(), Some(300_000));
        let mut length = 0;
        while let Some(piece) = got.next().await.unwrap() {
            length += piece.len();
        }
        assert_eq!(length, 300_000);
    }

    #[tokio::test]
    async fn authorization_stays_with_the_first_host() {
        let other = TestServer::start(|_, _| Reply(200, vec![], "there".into())).await;
        let there = url(&other, "/").to_string();
        let server = TestServer::start(move |_, seen| match seen.path.as_str() {
            "/here" => moved("/again"),
            _ => moved(&there),
        })
        .await;
        let headers = HeaderMap::from_iter([(AUTHORIZATION, HeaderValue::from_static("secret"))]);

        let client = server.client();
        let got = client.fetch(&url(&server, "/here"), &headers, false).await;
        let got = got.unwrap();

        assert_eq!(&got.bytes(10).await.unwrap()[..], b"there");
        let sent =
            |server: &TestServer, n: usize| server.seen()[n].header("authorization").to_owned();
        assert_eq!(
            (sent(&server, 0), sent(&server, 1)),
            ("secret".into(), "secret".into())
        );
        assert_eq!(sent(&other, 0), "");
    }

    #[tokio::test]
    async fn redirects_that_lead_nowhere_good_are_refused() {
        let plain = TestServer::start(|_, _| Reply(200, vec![], String::new())).await;
        let there = url(&plain, "/?key=secret").to_string();
        let server = TestServer::start_tls(move |_, seen| match seen.path.as_str() {
            "/plain" => moved(&there),
            "/file" => moved("file:///etc/passwd"),
            _ => moved("/loop"),
        })
        .await;
        let at = |path: &str| Url::parse(&format!("https://{}{path}", server.address)).unwrap();
        let client = server.client();
        let none = HeaderMap::new();

        let refused = client.fetch(&at("/plain"), &none, false).await.unwrap_err();
        assert!(matches!(&refused, FetchError::Insecure(to) if !to.contains("secret")));
        assert!(client.fetch(&at("/plain"), &none, true).await.is_ok());
        let refused = client.fetch(&at("/file"), &none, true).await.unwrap_err();
        assert!(matches!(refused, FetchError::Location(_)));
        let refused = client.fetch(&at("/loop"), &none, true).await.unwrap_err();
        assert!(matches!(refused, FetchError::TooManyRedirects));
    }
}

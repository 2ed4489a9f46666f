//! The source `Git`: a repository, cloned by the host's own git.
//!
//! The clone is made in the step's folder, which only the agent's user enters, looked through, and
//! moved to the destination. What git needs to know of secrets is in files beside it that are there
//! as long as git runs; none is on a command line.

mod credentials;
mod moving;
mod program;

use std::path::PathBuf;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use url::Url;

use self::credentials::Credentials;
use self::program::Git;
use super::super::super::runner::blocking;
use super::super::Begun;
use super::super::processes::Processes;
use super::destination::Destination;
use super::get_options::GetOptions;
use super::source_info::SourceInfo;
use super::tree::{Budget, Folder};
use super::{Context, DownloadError, PATIENCE, secrets};
use crate::aws::Secret;

/// What to clone.
#[derive(Debug)]
pub(super) struct Repository {
    /// Without a name and a password.
    address: String,
    /// Its host, with the port if it names one; empty for a path.
    host: String,
    is_http: bool,
    user: Secret,
    password: Secret,
    key: Secret,
    skips_host_key: bool,
}

/// Clones the repository.
pub(super) async fn download(
    context: &Context<'_>,
    info: &SourceInfo,
    destination: &Destination,
    cancel: &CancellationToken,
) -> Result<(), DownloadError> {
    let wanted = GetOptions::read(&info.text("getOptions")?)?;
    let deadline = Instant::now() + PATIENCE;
    let repository = tokio::select! {
        repository = Repository::read(context, info) => repository?,
        () = cancel.cancelled() => return Err(DownloadError::Cancelled),
    };
    let task = context.task;
    if task.begun != Begun::No {
        // An earlier run of the agent began with it.
        Processes::left(task).kill().await;
    }
    let folder = Folder::open(destination.tree()).await?;
    let workplace = Workplace::make(task.step_folder().join("git")).await?;
    let clone = workplace.0.join("clone");
    let cloned = async {
        let credentials = Credentials::write(workplace.0.join("credentials"), &repository).await?;
        let git = Git {
            task,
            credentials: &credentials,
            clone: &clone,
            cancel,
            deadline,
        };
        git.clone(&repository).await?;
        git.check_out(&wanted).await
    };
    let moved = match cloned.await {
        Ok(()) => {
            let clone = clone.clone();
            tokio::task::spawn_blocking(move || {
                moving::look_through(&clone, &mut Budget::default())?;
                moving::move_tree(&clone, &folder)
            })
            .await
            .unwrap_or_else(|error| {
                Err(DownloadError::Input(format!(
                    "the clone cannot be moved: {error}"
                )))
            })
        }
        Err(failure) => Err(failure),
    };
    workplace.remove().await;
    moved
}

/// A folder that is removed in the end.
struct Workplace(PathBuf);

impl Workplace {
    /// Makes it, without what an earlier run left in it.
    async fn make(path: PathBuf) -> Result<Self, DownloadError> {
        let shown = path.display().to_string();
        let made = blocking(move || {
            remove_all(&path)?;
            crate::runtime::atomic_file::create_private_dir(&path)?;
            Ok(Self(path))
        });
        made.await
            .map_err(|cause| DownloadError::Write { path: shown, cause })
    }

    async fn remove(self) {
        let path = self.0;
        // What stays is removed with the command's folder.
        let _ = blocking(move || remove_all(&path)).await;
    }
}

fn remove_all(path: &std::path::Path) -> std::io::Result<()> {
    match std::fs::remove_dir_all(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error),
        Ok(()) | Err(_) => Ok(()),
    }
}

impl Repository {
    async fn read(context: &Context<'_>, info: &SourceInfo) -> Result<Self, DownloadError> {
        let refused = |why: &str| DownloadError::Input(why.to_owned());
        let written = info.text("repository")?;
        let mut repository = Self::parse(&written)?;
        let (user, password) = (info.text("username")?, info.text("password")?);
        let key = info.exact_text("privateSSHKey")?;
        repository.skips_host_key = info.flag("skipHostKeyChecking")?;
        if repository.is_http && !key.trim().is_empty() {
            return Err(refused(
                "privateSSHKey is not for repositories at http and https, which take username and password",
            ));
        }
        let has_name = !user.is_empty() || !password.is_empty();
        if has_name && !repository.is_http {
            return Err(refused(
                "username and password are for repositories at http and https, others take privateSSHKey",
            ));
        }
        if has_name {
            let client = context.task.services.client.as_ref();
            repository.user = reveal(client, &user).await?;
            repository.password = reveal(client, &password).await?;
        }
        if !key.trim().is_empty() {
            let client = context.task.services.client.as_ref();
            repository.key = reveal(client, &key).await?;
        }
        Ok(repository)
    }

    /// Reads what names a repository: a URL, `host:path` as SSH has it, or a path.
    fn parse(written: &str) -> Result<Self, DownloadError> {
        let refused = |why: &str| DownloadError::Input(why.to_owned());
        if written.is_empty() {
            return Err(refused("the repository must be specified in SourceInfo"));
        }
        if written.starts_with('-') || written.chars().any(char::is_control) {
            return Err(refused("the repository in SourceInfo is no address of one"));
        }
        let mut repository = Self {
            address: written.to_owned(),
            host: String::new(),
            is_http: false,
            user: Secret::default(),
            password: Secret::default(),
            key: Secret::default(),
            skips_host_key: false,
        };
        let Some((scheme, _)) = written.split_once("://") else {
            return Ok(repository);
        };
        let mut url = Url::parse(written)
            .map_err(|_| refused("the repository in SourceInfo is no address of one"))?;
        match scheme.to_ascii_lowercase().as_str() {
            "http" | "https" => {
                // What stands in the address would be on git's command line.
                let decoded = |text: &str| Secret::new(decode(text));
                repository.user = decoded(url.username());
                repository.password = decoded(url.password().unwrap_or_default());
                let _ = url.set_username("");
                let _ = url.set_password(None);
                repository.host = match (url.host_str(), url.port()) {
                    (Some(host), Some(port)) => format!("{host}:{port}"),
                    (Some(host), None) => host.to_owned(),
                    (None, _) => String::new(),
                };
                repository.address = url.to_string();
                repository.is_http = true;
            }
            "ssh" | "git" | "file" => {}
            other => {
                return Err(DownloadError::Input(format!(
                    "repositories at {other}:// are not supported"
                )));
            }
        }
        Ok(repository)
    }
}

async fn reveal(client: Option<&crate::aws::Client>, text: &str) -> Result<Secret, DownloadError> {
    match client {
        Some(client) => secrets::reveal(client, text).await,
        None if text.contains("{{") => Err(DownloadError::NoClient),
        None => Ok(Secret::new(text)),
    }
}

/// `text` with `%XX` as what it stands for.
fn decode(text: &str) -> String {
    url::form_urlencoded::parse(text.replace('+', "%2B").as_bytes())
        .map(|(key, _)| key.into_owned())
        .next()
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn name_and_password_are_taken_out_of_an_address() {
        let repository = Repository::parse("https://me:p%40s+s@git.example:8443/a/b.git").unwrap();

        assert_eq!(repository.address, "https://git.example:8443/a/b.git");
        assert_eq!(repository.host, "git.example:8443");
        assert_eq!(repository.user.expose(), "me");
        assert_eq!(repository.password.expose(), "p@s+s");
        for plain in [
            "git@git.example:a/b.git",
            "ssh://git@h/a",
            "/srv/a.git",
            "file:///srv/a.git",
        ] {
            let repository = Repository::parse(plain).unwrap();
            assert_eq!(repository.address, plain);
            assert!(!repository.is_http);
        }
    }

    #[test]
    fn addresses_that_git_would_take_for_something_else_are_refused() {
        for written in [
            "",
            "--upload-pack=x",
            "ext::sh -c id",
            "https://",
            "foo://h/a",
            "a\nb",
        ] {
            let refused = Repository::parse(written);
            // What has no scheme of ours reaches git, which is told what it may use.
            if written.starts_with("ext::") {
                assert_eq!(refused.unwrap().address, written);
            } else {
                assert!(refused.is_err(), "{written}");
            }
        }
    }
}

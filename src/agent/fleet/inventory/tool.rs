//! Programs of the host that are asked for what they know, with a limit on time and on what they say.

use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt as _};
use tokio::process::Command;

use super::error::GatherError;

/// Longest run: a package database of 10,000 packages is told in seconds.
const PATIENCE: Duration = Duration::from_secs(120);
/// Most that is read of what a program says: several times what may be sent.
const OUTPUT: u64 = 32 << 20;
/// What is read of its complaints.
const COMPLAINT: u64 = 4 << 10;

/// Where `program` is, if it is on the path.
pub(super) fn find(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path)
        .map(|folder| folder.join(program))
        .find(|file| file.is_file())
}

/// What `program` says.
///
/// # Errors
/// [`GatherError::Tool`].
pub(super) async fn ask(program: &'static str, arguments: &[&str]) -> Result<String, GatherError> {
    let failed = |reason: String| GatherError::Tool { program, reason };
    let mut child = Command::new(program)
        .args(arguments)
        // Its words are parsed.
        .env("LC_ALL", "C")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .map_err(|error| failed(format!("cannot be run: {error}")))?;
    let (output, complaint) = (child.stdout.take(), child.stderr.take());
    let run = async {
        let said = tokio::try_join!(read(output, OUTPUT), read(complaint, COMPLAINT));
        Ok::<_, std::io::Error>((said?, child.wait().await?))
    };
    let ended = tokio::time::timeout(PATIENCE, run).await;
    let ended = ended.map_err(|_| failed(format!("takes longer than {} s", PATIENCE.as_secs())))?;
    let ((output, complaint), status) = ended.map_err(|error| failed(error.to_string()))?;
    if output.len() as u64 > OUTPUT {
        return Err(failed(format!("says more than {OUTPUT} bytes")));
    }
    if !status.success() {
        let complaint = String::from_utf8_lossy(&complaint);
        return Err(failed(format!(
            "failed with {status}: {}",
            complaint.trim()
        )));
    }
    Ok(String::from_utf8_lossy(&output).into_owned())
}

/// Reads one byte more than `limit` at most, then lets the rest go by.
async fn read(stream: Option<impl AsyncRead + Unpin>, limit: u64) -> std::io::Result<Vec<u8>> {
    let mut said = Vec::new();
    let Some(mut stream) = stream else {
        return Ok(said);
    };
    (&mut stream).take(limit + 1).read_to_end(&mut said).await?;
    tokio::io::copy(&mut stream, &mut tokio::io::sink()).await?;
    Ok(said)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn program_that_fails_says_why() {
        let error = ask("sh", &["-c", "echo no >&2; exit 3"]).await.unwrap_err();

        assert_eq!(error.to_string(), "sh failed with exit status: 3: no");
    }

    #[tokio::test]
    async fn program_that_is_not_there_is_told() {
        assert!(find("no-such-program-anywhere").is_none());
        let error = ask("no-such-program-anywhere", &[]).await.unwrap_err();

        assert!(error.to_string().contains("cannot be run"), "{error}");
    }

    #[tokio::test]
    async fn complaints_without_end_hold_nobody_up() {
        let script = "head -c 300000 /dev/zero >&2; echo done";

        assert_eq!(ask("sh", &["-c", script]).await.unwrap(), "done\n");
    }
}

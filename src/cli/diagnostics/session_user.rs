//! Whether the account that sessions run as is there, has a shell, and has the sudo that is wanted.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use nix::unistd::{AccessFlags, User, access};

use super::subject::Subject;
use super::verdict::Verdict;
use crate::agent::config::DefaultUser;

const SSM_USER: &str = "ssm-user";
/// The reference's file; sudo reads no name with a dot.
const SUDOERS: &str = "/etc/sudoers.d/ssm-agent-users";
const SUDOERS_OFF: &str = "/etc/sudoers.d/ssm-agent-users.off";

/// Looks at the account and at its line for sudo.
pub(super) fn check(subject: &Subject) -> Verdict {
    let Ok(settings) = &subject.settings else {
        return Verdict::skipped("the configuration cannot be read");
    };
    let state_owner = fs::metadata(&subject.places.state).map_or(0, |metadata| metadata.uid());
    if settings.session.default_user == DefaultUser::Agent || state_owner != 0 {
        return Verdict::skipped("sessions run as the agent's own user");
    }
    let account = match User::from_name(SSM_USER) {
        Ok(Some(user)) => Some(Account {
            has_shell: access(&user.shell, AccessFlags::X_OK).is_ok(),
            shell: user.shell.display().to_string(),
        }),
        Ok(None) => None,
        Err(error) => {
            return Verdict::failed(
                format!("{SSM_USER} cannot be looked up: {error}"),
                "check the user database: `getent passwd ssm-user`",
            );
        }
    };
    judge(
        account.as_ref(),
        Sudo::of(Path::new(SUDOERS), Path::new(SUDOERS_OFF)),
        settings.session.ssm_user_sudo,
    )
}

/// The account, as far as it matters here.
struct Account {
    shell: String,
    has_shell: bool,
}

/// What the account may do with sudo.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sudo {
    Given,
    /// The file is there, and sudo does not like its owner or mode.
    Ignored,
    Off,
    Never,
}

impl Sudo {
    fn of(file: &Path, off: &Path) -> Self {
        match fs::metadata(file) {
            Ok(found) if found.uid() != 0 || found.mode() & 0o022 != 0 => Self::Ignored,
            Ok(_) => Self::Given,
            Err(_) if off.exists() => Self::Off,
            Err(_) => Self::Never,
        }
    }
}

/// `wanted` is what the configuration says; without a word the first session decides.
fn judge(account: Option<&Account>, sudo: Sudo, wanted: Option<bool>) -> Verdict {
    let Some(account) = account else {
        return Verdict::success(format!("{SSM_USER} is made with the first session"));
    };
    if !account.has_shell {
        return Verdict::failed(
            format!("the shell of {SSM_USER}, {}, cannot be run", account.shell),
            "give it one: `usermod --shell /bin/sh ssm-user`",
        );
    }
    match (sudo, wanted) {
        (Sudo::Ignored, Some(true) | None) => Verdict::failed(
            format!("sudo ignores {SUDOERS}, which others may write"),
            format!("chown root:root {SUDOERS}; chmod 440 {SUDOERS}"),
        ),
        (Sudo::Off | Sudo::Never, Some(true)) => Verdict::success(format!(
            "{SSM_USER} is there, and gets sudo with the next session"
        )),
        (Sudo::Given | Sudo::Ignored, Some(false)) => Verdict::success(format!(
            "{SSM_USER} is there, and loses sudo with the next session"
        )),
        (Sudo::Given, _) => Verdict::success(format!("{SSM_USER} is there and may use sudo")),
        (Sudo::Off | Sudo::Never, _) => {
            Verdict::success(format!("{SSM_USER} is there and may not use sudo"))
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::super::verdict::Outcome;
    use super::*;

    #[test]
    fn account_without_a_shell_and_sudoers_that_sudo_ignores_are_told() {
        let account = |has_shell| Account {
            shell: "/bin/none".into(),
            has_shell,
        };

        assert_eq!(judge(None, Sudo::Never, None).status, Outcome::Success);
        let broken = judge(Some(&account(false)), Sudo::Given, None);
        assert!(broken.note.contains("/bin/none"), "{broken:?}");
        let ignored = judge(Some(&account(true)), Sudo::Ignored, None);
        assert_eq!(ignored.status, Outcome::Failed);
        let given = judge(Some(&account(true)), Sudo::Given, Some(true));
        assert!(given.note.contains("may use sudo"), "{given:?}");
    }

    #[test]
    fn sudoers_file_counts_as_sudo_would_have_it() {
        let folder = tempfile::tempdir().unwrap();
        let (file, off) = (folder.path().join("users"), folder.path().join("users.off"));

        assert_eq!(Sudo::of(&file, &off), Sudo::Never);
        fs::write(&off, "").unwrap();
        assert_eq!(Sudo::of(&file, &off), Sudo::Off);
        fs::write(&file, "").unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o666)).unwrap();
        assert_eq!(Sudo::of(&file, &off), Sudo::Ignored);
    }
}

use super::*;

/// A package whose scripts succeed but for those named, and what its host keeps.
struct Package {
    plan: Plan,
    outcomes: Vec<(&'static str, Outcome)>,
}

/// What came of a run.
#[derive(Debug, PartialEq, Eq)]
struct Run {
    /// The scripts, as `install 2`.
    scripts: Vec<String>,
    end: End,
    /// The state that was noted last, as `Installed 2`.
    state: String,
    told: String,
}

impl Package {
    fn install(new: &str, old: Option<&str>) -> Self {
        Self {
            plan: Plan {
                package: "P".into(),
                new: Some(new.into()),
                old: old.map(str::to_owned),
                in_place: false,
                standing: Standing::Absent,
                is_changed: false,
            },
            outcomes: Vec::new(),
        }
    }

    fn uninstall(old: &str) -> Self {
        let mut package = Self::install("", Some(old));
        package.plan.new = None;
        package
    }

    fn standing(mut self, standing: Standing) -> Self {
        self.plan.standing = standing;
        self
    }

    fn in_place(mut self) -> Self {
        self.plan.in_place = true;
        self
    }

    fn changed(mut self) -> Self {
        self.plan.is_changed = true;
        self
    }

    fn with(mut self, script: &'static str, outcome: Outcome) -> Self {
        self.outcomes.push((script, outcome));
        self
    }

    fn failing(self, script: &'static str) -> Self {
        self.with(script, Outcome::Failed(Status::Failed))
    }

    fn run(&self) -> Run {
        let plan = &self.plan;
        let mut run = Run {
            scripts: Vec::new(),
            end: End::Failed,
            state: String::new(),
            told: String::new(),
        };
        let mut phase = plan.first();
        loop {
            let version = plan.version(plan.subject(phase));
            let script = format!("{} {version}", phase.action());
            if let Some(state) = plan.state_during(phase) {
                run.state = format!("{state:?} {version}");
            }
            let mut outcomes = self.outcomes.iter();
            let outcome = outcomes.find(|(name, _)| *name == script);
            let outcome = outcome.map_or(&Outcome::Success, |(_, outcome)| outcome);
            run.scripts.push(script);
            assert!(run.scripts.len() < 10, "{run:?}");
            let transition = plan.after(phase, outcome);
            for text in [&transition.info, &transition.error].into_iter().flatten() {
                run.told.push_str(text);
                run.told.push('\n');
            }
            if let Some(subject) = transition.remove {
                run.told
                    .push_str(&format!("(removed {})\n", plan.version(subject)));
            }
            if let Some((subject, state)) = transition.state {
                run.state = format!("{state:?} {}", plan.version(subject));
            }
            match transition.next {
                Next::Run(next) => phase = next,
                Next::End(end) => {
                    run.end = end;
                    return run;
                }
            }
        }
    }
}

fn run(scripts: &[&str], end: End, state: &str, told: &str) -> Run {
    Run {
        scripts: scripts.iter().map(|script| (*script).to_owned()).collect(),
        end,
        state: state.into(),
        told: told.into(),
    }
}

#[test]
fn first_version_is_installed_and_validated() {
    assert_eq!(
        Package::install("1", None).run(),
        run(
            &["install 1", "validate 1"],
            End::Success,
            "Installed 1",
            "Successfully installed P 1\n"
        )
    );
}

#[test]
fn other_version_is_uninstalled_first() {
    assert_eq!(
        Package::install("2", Some("1")).run(),
        run(
            &["uninstall 1", "install 2", "validate 2"],
            End::Success,
            "Installed 2",
            "Successfully uninstalled P 1\nSuccessfully installed P 2\n(removed 1)\n"
        )
    );
    let despite = Package::install("2", Some("1"))
        .failing("uninstall 1")
        .run();
    assert_eq!(despite.state, "Installed 2");
}

#[test]
fn version_that_fails_is_rolled_back() {
    for failing in ["install 2", "validate 2"] {
        let got = Package::install("2", Some("1")).failing(failing).run();

        assert_eq!((got.end, got.state.as_str()), (End::Failed, "Installed 1"));
        assert_eq!(
            got.scripts[got.scripts.len() - 3..],
            ["uninstall 2", "install 1", "validate 1"]
        );
        assert!(got.told.ends_with(
            "Failed to install package; install status Failed\nSuccessfully uninstalled P 2\n\
             Failed to install P 2, successfully rolled back to P 1\n(removed 2)\n"
        ));
    }
}

#[test]
fn failure_with_nothing_to_go_back_to_is_noted() {
    let first = Package::install("1", None).failing("install 1").run();
    assert_eq!((first.end, first.state.as_str()), (End::Failed, "Failed 1"));
    let again = Package::install("2", Some("1"))
        .failing("install 2")
        .failing("install 1")
        .run();
    assert_eq!((again.end, again.state.as_str()), (End::Failed, "Failed 1"));
    let same = Package::install("1", Some("1")).failing("install 1").run();
    assert_eq!(same.scripts, ["uninstall 1", "install 1"]);
}

#[test]
fn time_out_is_told_and_rolled_back() {
    let late =
        Package::install("2", Some("1")).with("install 2", Outcome::Failed(Status::TimedOut));

    let got = late.run();

    assert!(
        got.told
            .contains("Failed to install package; install status TimedOut")
    );
    assert_eq!(got.state, "Installed 1");
}

#[test]
fn in_place_update_needs_its_script_and_is_rolled_back_too() {
    let update = || Package::install("2", Some("1")).in_place();

    assert_eq!(update().run().scripts, ["update 2", "validate 2"]);
    let missing = update().with("update 2", Outcome::Missing).run();
    assert_eq!(
        (missing.scripts.len(), missing.state.as_str()),
        (1, "Failed 2")
    );
    assert!(
        missing
            .told
            .starts_with("missing update script required for in-place update")
    );
    let failed = update().failing("update 2").run();
    assert_eq!(
        failed.scripts,
        ["update 2", "uninstall 2", "install 1", "validate 1"]
    );
    let first = Package::install("1", None).in_place().run();
    assert_eq!(first.scripts, ["install 1", "validate 1"]);
}

#[test]
fn installed_version_is_left_alone_unless_it_is_broken_or_its_manifest_changed() {
    let installed = || Package::install("1", None).standing(Standing::Installed);

    assert_eq!(
        installed().run(),
        run(
            &["validate 1"],
            End::Success,
            "",
            "P 1 is already installed\n"
        )
    );
    let broken = installed().failing("validate 1").run();
    assert_eq!(broken.scripts[..2], ["validate 1", "install 1"]);
    let mut changed = installed().changed();
    changed.plan.old = Some("1".into());
    assert_eq!(
        changed.run().scripts,
        ["validate 1", "uninstall 1", "install 1", "validate 1"]
    );
}

#[test]
fn version_that_nobody_wrote_down_has_to_say_itself_that_it_is_installed() {
    let unknown = || Package::install("1", None).standing(Standing::Unknown);

    assert_eq!(unknown().run().state, "Installed 1");
    let silent = unknown().with("validate 1", Outcome::Missing).run();
    assert_eq!(silent.scripts[..2], ["validate 1", "install 1"]);
}

#[test]
fn reboots_end_the_run_with_the_state_kept() {
    for (script, state) in [
        ("uninstall 1", "Upgrading 1"),
        ("install 2", "Installing 2"),
        ("validate 2", "Installing 2"),
    ] {
        let got = Package::install("2", Some("1"))
            .with(script, Outcome::Reboot)
            .run();
        assert_eq!((got.end, got.state.as_str()), (End::Reboot, state));
    }
}

#[test]
fn what_a_reboot_interrupted_is_gone_on_with() {
    let after = |standing| Package::install("2", Some("1")).standing(standing);

    let installed = after(Standing::Installing).run();
    assert_eq!(
        (installed.scripts, installed.state),
        (vec!["validate 2".to_owned()], "Installed 2".into())
    );
    let not_yet = after(Standing::Installing).failing("validate 2").run();
    assert_eq!(not_yet.scripts[..2], ["validate 2", "install 2"]);
    let back = after(Standing::RollbackInstall).run();
    assert_eq!(
        (back.end, back.scripts),
        (End::Failed, vec!["validate 1".to_owned()])
    );
    let going_back = after(Standing::RollbackUninstall).run();
    assert_eq!(
        going_back.scripts,
        ["uninstall 2", "install 1", "validate 1"]
    );
    assert_eq!(going_back.end, End::Failed);
}

#[test]
fn uninstall_removes_the_package_or_says_that_it_failed() {
    assert_eq!(
        Package::uninstall("1").run(),
        run(
            &["uninstall 1"],
            End::Success,
            "None 1",
            "Successfully uninstalled P 1\n(removed 1)\n"
        )
    );
    assert_eq!(
        Package::uninstall("1").failing("uninstall 1").run(),
        run(
            &["uninstall 1"],
            End::Failed,
            "Failed 1",
            "Failed to uninstall version 1 of package; uninstall status Failed\n"
        )
    );
}

#[test]
fn cancelled_script_is_the_last_one() {
    let got = Package::install("2", Some("1"))
        .with("install 2", Outcome::Cancelled)
        .run();

    assert_eq!((got.end, got.state.as_str()), (End::Cancelled, "Failed 2"));
    let check = Package::install("1", None)
        .standing(Standing::Installed)
        .with("validate 1", Outcome::Cancelled)
        .run();
    assert_eq!((check.end, check.state.as_str()), (End::Cancelled, ""));
}

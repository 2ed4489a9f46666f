use super::*;

#[test]
fn group_is_looked_for_where_systemd_mounts_hierarchies() {
    let hybrid =
        "4:memory:/else\n1:name=systemd:/system.slice/a.service\n0::/system.slice/a.service\n";
    let unified = "0::/system.slice/a.service\n";
    let old = "2:cpu,cpuacct:/else\n1:name=systemd:/system.slice/a.service\n";

    for (membership, expected) in [
        (
            hybrid,
            &[
                "/sys/fs/cgroup/system.slice/a.service",
                "/sys/fs/cgroup/unified/system.slice/a.service",
                "/sys/fs/cgroup/systemd/system.slice/a.service",
            ][..],
        ),
        (
            unified,
            &[
                "/sys/fs/cgroup/system.slice/a.service",
                "/sys/fs/cgroup/unified/system.slice/a.service",
            ],
        ),
        (old, &["/sys/fs/cgroup/systemd/system.slice/a.service"]),
        ("garbage", &[]),
    ] {
        let found: Vec<_> = candidates(membership).collect();
        assert_eq!(
            found,
            expected.iter().map(PathBuf::from).collect::<Vec<_>>()
        );
    }
}

#[test]
fn processes_of_groups_below_count_too() {
    // Files as the kernel shows them; the real ones need root.
    let folder = tempfile::tempdir().unwrap();
    let delegated = Delegated(folder.path().to_owned());
    let group = delegated.make("session-alice-1").unwrap();
    fs::write(group.path().join(PROCESSES), "12\n13\n").unwrap();
    fs::create_dir_all(group.path().join("inner/most")).unwrap();
    fs::write(group.path().join("inner/most").join(PROCESSES), "14\n").unwrap();

    let members: Vec<_> = group.members().into_iter().map(Pid::as_raw).collect();

    assert_eq!(members, [12, 13, 14]);
    assert_eq!(delegated.make("session-alice-1").unwrap(), group);
    assert_eq!(delegated.find("session-alice-1"), Some(group));
    assert_eq!(delegated.find("session-alice-2"), None);
}

#[test]
fn groups_are_removed_from_below() {
    let folder = tempfile::tempdir().unwrap();
    let group = Delegated(folder.path().to_owned()).make("one").unwrap();
    fs::create_dir_all(group.path().join("inner/most")).unwrap();
    fs::create_dir_all(group.path().join("other")).unwrap();

    group.remove();

    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
}

#[test]
fn groups_that_nobody_is_in_are_removed_by_their_name() {
    let folder = tempfile::tempdir().unwrap();
    let delegated = Delegated(folder.path().to_owned());
    for name in ["step-1", "step-2", "session-alice-1"] {
        delegated.make(name).unwrap();
    }
    // A folder with a file cannot be removed, as a group with a process.
    fs::write(folder.path().join("step-2").join(PROCESSES), "12\n").unwrap();

    delegated.remove_empty("step-");

    assert_eq!(
        delegated.find("step-2").unwrap().members(),
        [Pid::from_raw(12)]
    );
    assert!(!folder.path().join("step-1").exists());
    assert!(folder.path().join("session-alice-1").exists());
}

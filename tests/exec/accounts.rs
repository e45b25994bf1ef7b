//! Switching to another user or group. Only root may do that: without root these tests are skipped.

use firelink::exec::spec::ExecSpec;
use nix::unistd::{Group, Uid, User, getgrouplist};

use crate::own_process::in_own_process;
use crate::skip::skip;
use crate::support::{argv, output_of, refusal, run, shell};

fn as_user(user: &str) -> ExecSpec {
    ExecSpec { user: Some(user.into()), ..ExecSpec::default() }
}

/// True for root; else the test is skipped.
fn is_root() -> bool {
    let is_root = Uid::effective().is_root();
    if !is_root {
        skip("only root can become another user");
    }
    is_root
}

#[test]
fn a_job_with_a_user_has_the_users_ids_groups_and_home() {
    if !is_root() {
        return;
    }
    let nobody = User::from_name("nobody").unwrap().unwrap();
    let c_name = std::ffi::CString::new("nobody").unwrap();
    let mut groups: Vec<u32> = getgrouplist(&c_name, nobody.gid).unwrap().iter().map(|gid| gid.as_raw()).collect();
    groups.sort_unstable();
    for name in ["nobody".to_owned(), nobody.uid.to_string()] {
        let told = output_of("grep -E '^(Uid|Gid|Groups):' /proc/self/status; echo $HOME $USER $LOGNAME $SHELL", &as_user(&name));
        let lines: Vec<Vec<&str>> = told.lines().map(|line| line.split_whitespace().collect()).collect();
        let (uid, gid) = (nobody.uid.to_string(), nobody.gid.to_string());
        assert_eq!(&lines[0][1..], [&*uid; 4]);
        assert_eq!(&lines[1][1..], [&*gid; 4]);
        let mut found: Vec<u32> = lines[2][1..].iter().map(|text| text.parse().unwrap()).collect();
        found.sort_unstable();
        assert_eq!(found, groups);
        let home = nobody.dir.to_string_lossy();
        let login_shell = nobody.shell.to_string_lossy();
        assert_eq!(lines[3], [&*home, "nobody", "nobody", &*login_shell]);
    }
}

#[test]
fn a_configured_group_replaces_the_users_own() {
    if !is_root() {
        return;
    }
    let daemon = Group::from_name("daemon").unwrap().unwrap();
    let spec = ExecSpec { group: Some("daemon".into()), ..as_user("nobody") };
    assert_eq!(output_of("id -un; id -g", &spec), format!("nobody\n{}", daemon.gid));
    let group_only = ExecSpec { group: Some("daemon".into()), ..ExecSpec::default() };
    assert_eq!(output_of("id -u; id -g; id -G", &group_only), format!("0\n{0}\n{0}", daemon.gid));
}

#[test]
fn a_variable_of_the_job_wins_over_the_accounts() {
    if !is_root() {
        return;
    }
    let spec = ExecSpec { env: vec![("HOME".into(), "/own".into())], ..as_user("nobody") };
    assert_eq!(output_of("echo $HOME $USER", &spec), "/own nobody");
}

#[test]
fn niceness_and_limits_are_set_with_the_rights_of_the_daemon() {
    if !is_root() {
        return;
    }
    // SAFETY: reading the niceness of this process touches no memory of ours.
    let ours = unsafe { nix::libc::getpriority(nix::libc::PRIO_PROCESS, 0) };
    let spec = ExecSpec { nice: Some(-5), ..as_user("nobody") };
    assert_eq!(output_of("nice; id -un", &spec), format!("{}\nnobody", (ours - 5).max(-20)));
}

#[test]
fn an_unknown_account_is_an_error_with_its_name() {
    let told = refusal(&shell("true"), &as_user("no-such-user-x"));
    assert_eq!(told, "there is no user `no-such-user-x` on this machine");
    let spec = ExecSpec { group: Some("no-such-group-x".into()), ..ExecSpec::default() };
    assert_eq!(refusal(&shell("true"), &spec), "there is no group `no-such-group-x` on this machine");
}

#[test]
fn a_program_that_the_user_may_not_execute_is_an_error() {
    if !is_root() {
        return;
    }
    use std::os::unix::fs::PermissionsExt;
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("mine");
    std::fs::write(&path, "#!/bin/sh\n").unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o700)).unwrap();
    let name = path.display().to_string();
    let told = refusal(&argv(&[&name]), &as_user("nobody"));
    assert_eq!(told, format!("`{name}` may not be executed by the user `nobody`"));
}

#[test]
fn the_exit_status_of_a_program_that_became_root_is_not_lost_on_a_daemon_that_may_not_signal_it() {
    const NAME: &str = "accounts::the_exit_status_of_a_program_that_became_root_is_not_lost_on_a_daemon_that_may_not_signal_it";
    const ROLE: &str = "EXEC_TEST_ROLE";
    let root = Uid::from_raw(0);
    if std::env::var(ROLE).is_ok() {
        // The set-user-id program, here as root altogether, as sudo(8) is.
        nix::unistd::setresuid(root, root, root).unwrap();
        std::process::exit(5);
    }
    // Where set-user-id programs are not honoured there is no such program.
    let no_suid = || {
        let flags = nix::sys::statvfs::statvfs(&std::env::temp_dir()).unwrap().flags();
        flags.contains(nix::sys::statvfs::FsFlags::ST_NOSUID)
    };
    if !is_root() {
        return;
    }
    if no_suid() {
        return skip("the file system of temporary files honours no set-user-id programs");
    }
    if !in_own_process(NAME) {
        return;
    }
    use std::os::unix::fs::PermissionsExt;
    let dir = tempfile::tempdir().unwrap();
    let program = dir.path().join("program");
    std::fs::copy(std::env::current_exe().unwrap(), &program).unwrap();
    std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o4755)).unwrap();
    let nobody = User::from_name("nobody").unwrap().unwrap().uid;
    nix::unistd::setresuid(nobody, nobody, root).unwrap();
    let spec = ExecSpec { env: vec![(ROLE.into(), "1".into())], ..ExecSpec::default() };
    let finished = run(&argv(&[&program.display().to_string(), "--exact", NAME]), &spec);
    nix::unistd::setresuid(root, root, root).unwrap();
    assert_eq!(finished.exit, firelink::model::Exit::Code(5), "{}", finished.text());
}

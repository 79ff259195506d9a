use std::process::Command;

/// Set in the process that has a mount namespace of its own.
const INSIDE: &str = "LMKD_TEST_PRIVATE_MOUNTS";

/// Does the `body` of a test where these mounts are made and nobody else sees them: in another
/// process, which runs that test alone.
pub(crate) fn with_mounts(mounts: &str, test: &str, body: impl FnOnce()) {
    if std::env::var_os(INSIDE).is_some() {
        return body();
    }
    let can = Command::new("unshare").args(["-m", "sh", "-c", mounts]).output();
    if !can.is_ok_and(|can| can.status.success()) {
        return eprintln!("skipped: no right to do this: {mounts}");
    }
    let inside = Command::new("unshare")
        .args(["-m", "sh", "-c", &format!("{mounts} && exec \"$0\" --exact {test} --nocapture")])
        .arg(std::env::current_exe().unwrap())
        .env(INSIDE, "1")
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&inside.stdout);
    assert!(inside.status.success() && said.contains("1 passed"), "{inside:?}");
}

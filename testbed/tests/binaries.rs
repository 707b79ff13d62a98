// SPDX-License-Identifier: MIT OR Apache-2.0
//! The programs are found where they are said to be looked for, and built as pinned.

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::{Command, Output},
};

use anyhow::Result;
use testbed::Binary;

/// The environment of a process is its own, so each case runs the role below in a process of its own.
fn find_in(environment: &[(&str, &Path)]) -> Result<Output> {
    let mut role = Command::new(std::env::current_exe()?);
    role.args(["--exact", "role_of_a_search", "--ignored", "--nocapture"]);
    role.env("TESTBED_ROLE", "search");
    for name in [
        "CI",
        "KUBEBUILDER_ASSETS",
        "XDG_CACHE_HOME",
        "ZONAL_TESTBED_KWOK",
    ] {
        role.env_remove(name);
    }
    Ok(role.envs(environment.iter().copied()).output()?)
}

#[test]
#[ignore = "a role that other tests start"]
fn role_of_a_search() {
    if std::env::var_os("TESTBED_ROLE").is_none() {
        return;
    }
    match Binary::Kwok.find_blocking() {
        Ok(path) => println!("found={}", path.display()),
        Err(error) if error.is_unavailable() => testbed::skip("a search", &error.to_string()),
        Err(error) => panic!("{error}"),
    }
}

#[test]
fn the_variable_goes_before_the_assets_and_these_before_the_path() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let [named, assets, path] = ["named", "assets", "path"].map(|name| dir.path().join(name));
    let in_named = program(&named)?;
    let in_assets = program(&assets)?;
    let in_path = program(&path)?;
    let search: (&str, &Path) = ("PATH", &path);
    let assets: (&str, &Path) = ("KUBEBUILDER_ASSETS", &assets);
    assert_eq!(found(&[search])?, in_path);
    assert_eq!(found(&[search, assets])?, in_assets);
    assert_eq!(
        found(&[search, assets, ("ZONAL_TESTBED_KWOK", &in_named)])?,
        in_named
    );
    Ok(())
}

#[test]
fn without_program_and_toolchain_a_test_skips_aloud_and_fails_in_ci() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let nothing: [(&str, &Path); 2] = [("PATH", dir.path()), ("XDG_CACHE_HOME", dir.path())];
    let skipped = find_in(&nothing)?;
    assert!(skipped.status.success());
    assert!(String::from_utf8(skipped.stderr)?.contains("SKIPPED a search: kwok is not available"));

    let in_ci = find_in(&[nothing[0], nothing[1], ("CI", Path::new("true"))])?;
    assert!(!in_ci.status.success());
    Ok(())
}

#[test]
#[ignore = "builds for minutes what is not there yet"]
fn every_program_can_be_had() -> Result<()> {
    for binary in Binary::ALL {
        let begun = std::time::Instant::now();
        let path = binary.find_blocking()?;
        println!(
            "{} {:.1?} {}",
            binary.name(),
            begun.elapsed(),
            path.display()
        );
    }
    Ok(())
}

fn found(environment: &[(&str, &Path)]) -> Result<PathBuf> {
    let output = String::from_utf8(find_in(environment)?.stdout)?;
    let line = output
        .lines()
        .find_map(|line| Some(line.split_once("found=")?.1));
    Ok(line.unwrap_or_default().into())
}

/// A file that may be executed; nobody will.
fn program(folder: &Path) -> Result<PathBuf> {
    fs::create_dir(folder)?;
    let path = folder.join("kwok");
    fs::write(&path, "#!/bin/sh\n")?;
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755))?;
    Ok(path)
}

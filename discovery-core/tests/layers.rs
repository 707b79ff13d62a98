// SPDX-License-Identifier: MIT OR Apache-2.0
//! Holds the order of the modules: a module names only inner ones, and no member depends on a face.

use std::{fs, path::Path};

/// Inner to outer; modules of one row do not name each other unless listed under `BESIDE`.
const ROWS: [&[&str]; 8] = [
    &["model", "clock", "sync", "corpus"],
    &["hash", "config"],
    &["store"],
    &["health", "pick"],
    &["source"],
    &["telemetry", "runtime"],
    &["client"],
    &["manual"],
];

/// Of one row, who may name whom.
const BESIDE: [(&str, &str); 1] = [("runtime", "telemetry")];

fn row(module: &str) -> Option<usize> {
    ROWS.iter().position(|row| row.contains(&module))
}

/// Every `crate::module` that the text names outside comments.
fn named(text: &str) -> Vec<String> {
    let mut modules = Vec::new();
    let code: String = text
        .lines()
        .filter(|line| !line.trim_start().starts_with("//"))
        .flat_map(|line| [line, "\n"])
        .collect();
    for (at, _) in code.match_indices("crate::") {
        let rest = &code[at + "crate::".len()..];
        if let Some(group) = rest.strip_prefix('{') {
            modules.extend(group_heads(group));
        } else {
            modules.push(head(rest));
        }
    }
    modules
}

fn head(text: &str) -> String {
    text.chars()
        .take_while(|c| c.is_ascii_alphanumeric() || *c == '_')
        .collect()
}

/// The first names of the items of a `use crate::{…}` group.
fn group_heads(group: &str) -> Vec<String> {
    let (mut depth, mut heads, mut expect) = (0, Vec::new(), true);
    for (at, c) in group.char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth == 0 => break,
            '}' => depth -= 1,
            ',' if depth == 0 => expect = true,
            c if expect && c.is_ascii_alphabetic() => {
                heads.push(head(&group[at..]));
                expect = false;
            }
            _ => {}
        }
    }
    heads
}

fn rust_files(folder: &Path, files: &mut Vec<std::path::PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            rust_files(&path, files);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
}

#[test]
fn a_module_names_only_inner_ones() {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    rust_files(&source, &mut files);
    assert!(
        files.len() > 20,
        "the sources are where they are looked for"
    );
    let mut wrong = Vec::new();
    for file in files {
        let inside = file.strip_prefix(&source).unwrap();
        let module = inside
            .components()
            .next()
            .unwrap()
            .as_os_str()
            .to_str()
            .unwrap()
            .trim_end_matches(".rs");
        if module == "lib" {
            continue;
        }
        let own =
            row(module).unwrap_or_else(|| panic!("{module} has no row: add it to the ground plan"));
        for other in named(&fs::read_to_string(&file).unwrap())
            .iter()
            .filter(|other| *other != module)
        {
            let allowed = match row(other) {
                Some(theirs) => theirs < own || BESIDE.contains(&(module, other)),
                None => false,
            };
            if !allowed {
                wrong.push(format!("{} names crate::{other}", inside.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn nobody_but_the_command_and_the_tests_depends_on_a_face() {
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    for (member, faces) in [
        ("discovery-core", &["dns-sidecar", "lb-proxy", "zonal"][..]),
        ("dns-sidecar", &["lb-proxy", "zonal"]),
        ("lb-proxy", &["dns-sidecar", "zonal"]),
        ("testbed", &["dns-sidecar", "lb-proxy", "zonal"]),
    ] {
        let manifest = fs::read_to_string(workspace.join(member).join("Cargo.toml")).unwrap();
        for face in faces {
            let depends = manifest.lines().any(|line| line.starts_with(face));
            assert!(!depends, "{member} depends on {face}");
        }
    }
}

#[test]
fn without_features_the_core_brings_neither_kube_nor_tls() {
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR")).join("Cargo.toml");
    let manifest = fs::read_to_string(manifest).unwrap();
    let (_, dependencies) = manifest.split_once("\n[dependencies]\n").unwrap();
    let (dependencies, _) = dependencies.split_once("\n[").unwrap();
    let named = |name: &str| {
        let is_it = |line: &&str| line.split(['.', ' ', '=']).next() == Some(name);
        dependencies.lines().find(is_it)
    };
    for name in ["kube", "flate2", "memchr", "rustls", "tokio-rustls"] {
        let line = named(name).unwrap_or_else(|| panic!("{name} is where it is looked for"));
        assert!(line.contains("optional = true"), "{line}");
    }
    assert_eq!(named("k8s-openapi"), None);
    assert!(named("hyper-util").is_some_and(|line| !line.contains("client-legacy")));
}

#[test]
fn the_check_sees_what_it_should() {
    let text = "// crate::client\nuse crate::{\n    model::{A, B},\n    store::C,\n};\nlet x = crate::pick::p2c();";
    assert_eq!(named(text), ["model", "store", "pick"]);
}

// SPDX-License-Identifier: MIT OR Apache-2.0
//! The quick start of the README, run as written, its output compared with `quickstart.golden`.
//!
//! The demo runs on the ports that the README names when they are free; where they are not, it moves on and this test
//! follows it. `UPDATE_GOLDEN=1 cargo test -p zonal --test quickstart` writes the golden file anew.

use std::{
    fs,
    io::{BufRead as _, BufReader},
    path::Path,
    process::{Child, Command, Stdio},
};

#[test]
fn the_quick_start_prints_what_the_golden_file_says() {
    let demo = Demo::start();
    let mut transcript = String::new();
    for command in commands() {
        transcript.extend([format!("$ {command}\n"), demo.run(&command)]);
    }
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/quickstart.golden");
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        fs::write(&golden, &transcript).unwrap();
    }
    assert_eq!(transcript, fs::read_to_string(golden).unwrap());
}

/// The commands of the README's quick start, without the prompt.
fn commands() -> Vec<String> {
    let readme =
        fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../README.md")).unwrap();
    let (_, block) = readme
        .split_once("<!-- quickstart")
        .expect("the README has a quick start");
    let commands: Vec<_> = block
        .lines()
        .skip_while(|line| !line.starts_with("```console"))
        .skip(1)
        .take_while(|line| !line.starts_with("```"))
        .map(|line| {
            line.strip_prefix("$ zonal ")
                .expect("a command begins with the prompt")
                .to_owned()
        })
        .collect();
    assert!(commands.len() >= 5);
    commands
        .into_iter()
        .map(|command| format!("zonal {command}"))
        .collect()
}

struct Demo {
    process: Child,
    admin: String,
    dns: String,
}

impl Demo {
    fn start() -> Self {
        let mut process = Command::new(env!("CARGO_BIN_EXE_zonal"))
            .arg("demo")
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let lines = BufReader::new(process.stdout.take().unwrap()).lines();
        let (mut admin, mut dns) = (None, None);
        for line in lines.map(Result::unwrap) {
            let words: Vec<_> = line.split_whitespace().collect();
            match words[..] {
                ["dns", address, ..] => dns = Some(address.to_owned()),
                ["page", url, ..] => admin = Some(url.trim_start_matches("http://").to_owned()),
                ["end", ..] => break,
                _ => {}
            }
        }
        Self {
            process,
            admin: admin.unwrap(),
            dns: dns.unwrap(),
        }
    }

    fn run(&self, command: &str) -> String {
        sorted_answers(&self.zonal(command))
    }

    fn zonal(&self, command: &str) -> String {
        let output = Command::new(env!("CARGO_BIN_EXE_zonal"))
            .args(command.split_whitespace().skip(1))
            .env("ZONAL_ADMIN", &self.admin)
            .env("ZONAL_DNS", &self.dns)
            .output()
            .unwrap();
        assert!(
            output.status.code().is_some_and(|code| code <= 1),
            "{command}: {output:?}"
        );
        String::from_utf8(output.stdout).unwrap()
    }
}

impl Drop for Demo {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// DNS shuffles its answers, and the backends' port depends on what is free: both are made steady.
fn sorted_answers(output: &str) -> String {
    let mut lines: Vec<String> = output
        .lines()
        .map(|line| {
            let words = line.split(' ').map(|word| match word.rsplit_once(":18") {
                Some((address, port)) if port.len() == 3 => format!("{address}:18xxx"),
                _ if word.len() == 5 && word.starts_with("18") => "18xxx".to_owned(),
                _ => word.to_owned(),
            });
            words.collect::<Vec<_>>().join(" ")
        })
        .collect();
    if lines.iter().any(|line| line.contains(" IN ")) {
        lines.sort();
    }
    lines
        .iter()
        .flat_map(|line| [line.as_str(), "\n"])
        .collect()
}

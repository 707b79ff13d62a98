// SPDX-License-Identifier: MIT OR Apache-2.0
//! Writes SCOREBOARD.md and the README's line from what a test run printed: which requirement is shown by which test.
//!
//! In: `testbed/scoreboard.txt` (ids and titles), the output of `cargo test`, and `benches/results/*.jsonl` with rows
//! `{"id", "value", "limit", "pass"}` of runs that are too long for a test. A test shows the ids that its name begins with
//! (`f10_…`, `w1_k1_…`). A skipped, ignored or failed test shows nothing.
//!
//! `scoreboard LOG` writes; `scoreboard LOG --check` ends with 1 when what is committed says something else.

use std::{
    collections::{BTreeMap, BTreeSet},
    env,
    fmt::Write as _,
    fs, io,
    path::Path,
    process::ExitCode,
};

fn main() -> ExitCode {
    let arguments: Vec<_> = env::args().skip(1).collect();
    let (log, is_check) = match &arguments[..] {
        [log] => (log, false),
        [log, check] if check == "--check" => (log, true),
        _ => {
            eprintln!("usage: scoreboard LOG [--check]");
            return ExitCode::from(2);
        }
    };
    match run(Path::new(log), is_check) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => {
            eprintln!(
                "SCOREBOARD.md or README.md is not what this run shows: ./check test score, then commit them"
            );
            ExitCode::FAILURE
        }
        Err(error) => {
            eprintln!("scoreboard: {error}");
            ExitCode::from(74)
        }
    }
}

/// Whether the files say now, or said already, what the run shows.
fn run(log: &Path, is_check: bool) -> io::Result<bool> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("a member");
    let catalogue = fs::read_to_string(root.join("testbed/scoreboard.txt"))?;
    let rows = rows(&catalogue);
    let mut shown = shown_by_tests(&fs::read_to_string(log)?);
    for file in results(&root.join("benches/results"))? {
        shown_by_rows(&fs::read_to_string(&file)?, &mut shown);
    }
    let unknown: Vec<_> = shown
        .keys()
        .filter(|id| !rows.iter().any(|(known, _)| known == *id))
        .collect();
    if !unknown.is_empty() {
        let text = format!("testbed/scoreboard.txt has no row {unknown:?}");
        return Err(io::Error::other(text));
    }
    let readme = fs::read_to_string(root.join("README.md"))?;
    let files = [
        ("SCOREBOARD.md", page(&rows, &shown)),
        ("README.md", with_line(&readme, &line(&rows, &shown))?),
    ];
    let mut is_same = true;
    for (name, text) in files {
        let path = root.join(name);
        let is_written = fs::read_to_string(&path).is_ok_and(|before| before == text);
        if !is_check && !is_written {
            fs::write(&path, text)?;
        }
        is_same &= is_written || !is_check;
    }
    Ok(is_same)
}

/// Ids and titles in the order of the catalogue.
fn rows(catalogue: &str) -> Vec<(String, &str)> {
    let lines = catalogue.lines().filter(|line| !line.starts_with('#'));
    lines
        .filter_map(|line| line.split_once('\t'))
        .map(|(id, title)| (id.to_owned(), title))
        .collect()
}

/// What shows each id.
type Shown = BTreeMap<String, BTreeSet<String>>;

fn shown_by_tests(log: &str) -> Shown {
    let skipped: BTreeSet<&str> = log
        .lines()
        .filter_map(|line| line.split_once("SKIPPED ")?.1.split_once(':'))
        .map(|(name, _)| name)
        .collect();
    let mut shown = Shown::new();
    for line in log.lines() {
        // What a process under test prints may stand before it on the line.
        let ok = line.strip_suffix(" ... ok");
        let Some((_, name)) = ok.and_then(|line| line.rsplit_once("test ")) else {
            continue;
        };
        let name = name.rsplit("::").next().unwrap_or(name);
        if !skipped.contains(name) {
            for id in ids(name) {
                shown.entry(id).or_default().insert(name.to_owned());
            }
        }
    }
    shown
}

/// The ids that a test's name begins with.
fn ids(name: &str) -> impl Iterator<Item = String> {
    let is_id = |word: &&str| {
        let (letter, number) = word.split_at(word.len().min(1));
        // L2b is a row beside L2.
        let digits = number.strip_suffix('b').unwrap_or(number);
        "wkfbdlxrs".contains(letter)
            && !digits.is_empty()
            && digits.bytes().all(|b| b.is_ascii_digit())
    };
    name.split('_').take_while(is_id).map(|word| {
        let (letter, number) = word.split_at(1);
        letter.to_uppercase() + number
    })
}

fn results(folder: &Path) -> io::Result<Vec<std::path::PathBuf>> {
    if !folder.exists() {
        return Ok(Vec::new());
    }
    let mut files: Vec<_> = fs::read_dir(folder)?
        .map(|entry| entry.map(|entry| entry.path()))
        .collect::<Result<_, _>>()?;
    files.retain(|path| path.extension().is_some_and(|ending| ending == "jsonl"));
    files.sort();
    Ok(files)
}

fn shown_by_rows(text: &str, shown: &mut Shown) {
    for row in text
        .lines()
        .filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok())
    {
        // Figures of benches that are no requirement's have names of their own.
        let id = row["id"]
            .as_str()
            .filter(|id| ids(&id.to_lowercase()).count() == 1);
        if let (Some(id), Some(true)) = (id, row["pass"].as_bool()) {
            let measured = format!("measured {}, limit {}", row["value"], row["limit"]);
            shown.entry(id.to_owned()).or_default().insert(measured);
        }
    }
}

fn page(rows: &[(String, &str)], shown: &Shown) -> String {
    let mut text = String::from(HEAD);
    for (id, title) in rows {
        let by = shown.get(id).map_or_else(String::new, |by| {
            by.iter()
                .map(|name| format!("`{name}`"))
                .collect::<Vec<_>>()
                .join(", ")
        });
        let _ = writeln!(text, "| {id} | {title} | {by} |");
    }
    text
}

/// The README's line: how many of each family are shown.
fn line(rows: &[(String, &str)], shown: &Shown) -> String {
    let count = |letter: char| {
        let of_family = rows.iter().filter(|(id, _)| id.starts_with(letter));
        let all = of_family.clone().count();
        let done = of_family.filter(|(id, _)| shown.contains_key(id)).count();
        format!("{done}/{all}")
    };
    let families = FAMILIES.map(|(letter, name)| format!("{name} {}", count(letter)));
    format!(
        "Shown by tests that CI runs: {} ([scoreboard](SCOREBOARD.md)).",
        families.join(" · ")
    )
}

fn with_line(readme: &str, line: &str) -> io::Result<String> {
    let missing = || io::Error::other("README.md has no scoreboard markers");
    let (before, rest) = readme.split_once(BEGIN).ok_or_else(missing)?;
    let (_, after) = rest.split_once(END).ok_or_else(missing)?;
    Ok(format!("{before}{BEGIN}\n{line}\n{END}{after}"))
}

const FAMILIES: [(char, &str); 9] = [
    ('W', "watch"),
    ('K', "client holes"),
    ('F', "faults"),
    ('B', "bad input"),
    ('D', "deterministic suites"),
    ('L', "load"),
    ('X', "proxy"),
    ('R', "DNS"),
    ('S', "security gates"),
];
const BEGIN: &str = "<!-- scoreboard: written by ./check score -->";
const END: &str = "<!-- /scoreboard -->";
const HEAD: &str = "# Scoreboard

Written by `./check test score` from the tests that passed and the results in `benches/results`; never by hand. An empty
last column means: not shown yet.

| id | what has to hold | shown by |
| --- | --- | --- |
";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_test_shows_the_ids_that_its_name_begins_with() {
        let of = |name| ids(name).collect::<Vec<_>>();
        assert_eq!(of("w1_k1_a_refused_watch"), ["W1", "K1"]);
        assert_eq!(of("f10_a_drip"), ["F10"]);
        assert_eq!(of("l2b_an_answer"), ["L2b"]);
        assert_eq!(of("a_f10_drip"), [""; 0]);
        assert_eq!(of("file_is_read"), [""; 0]);
    }

    #[test]
    fn skipped_failed_and_ignored_tests_show_nothing() {
        let log = "SKIPPED f3_dropped: no root\ntest f3_dropped ... ok\ntest f4_killed ... FAILED\n\
                   test f5_gone ... ignored\nnoisetest a::f6_gone ... ok\n";
        let shown = shown_by_tests(log);
        assert_eq!(shown.into_keys().collect::<Vec<_>>(), ["F6"]);
    }

    #[test]
    fn a_measured_row_counts_when_it_passed() {
        let mut shown = Shown::new();
        let rows = "{\"id\":\"L7\",\"value\":4.2,\"limit\":5,\"pass\":true}\n{\"id\":\"L8\",\"pass\":false}\nnoise\n";
        shown_by_rows(rows, &mut shown);
        assert_eq!(
            shown["L7"].first().map(String::as_str),
            Some("measured 4.2, limit 5")
        );
        assert!(!shown.contains_key("L8"));
    }

    #[test]
    fn the_line_stands_between_its_markers() {
        let readme = format!("a\n{BEGIN}\nold\n{END}\nb");
        assert_eq!(
            with_line(&readme, "new").unwrap(),
            format!("a\n{BEGIN}\nnew\n{END}\nb")
        );
        assert!(with_line("nothing", "new").is_err());
    }
}

// SPDX-License-Identifier: MIT OR Apache-2.0
//! Instructions that one operation of a hot path takes, as valgrind counts them: the same on a busy machine as on a quiet one.
//!
//! Each operation runs in a process of its own under callgrind, once a few times and once many times; the difference is what
//! it takes, without the set-up. `cargo bench -p benches --bench instructions` compares with `benches/instructions.tsv` and
//! ends with 1 where an operation takes a tenth more, or a tenth less, than is written there; `-- --write` writes it anew. A
//! count says nothing about caches and waiting: nanoseconds are the other benches' business.

use anyhow::{Context as _, bail, ensure};
use benches::{keys, published};
use discovery_core::{
    hash::HashKey,
    pick::{Bound, Picker},
    telemetry::DnsTransport,
};
use dns_sidecar::{Config, IndexBuilder, Responder};
use std::{
    env, fs,
    hint::black_box,
    io,
    path::{Path, PathBuf},
    process::Command,
};

fn main() -> anyhow::Result<()> {
    // Cargo adds `--bench`.
    let arguments: Vec<String> = env::args().skip(1).filter(|a| a != "--bench").collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [] => compare(),
        ["--write"] => write(),
        ["run", name, times] => run(name, times.parse()?),
        _ => bail!("usage: instructions [--write]"),
    }
}

/// What is counted, by its name.
const OPERATIONS: [&str; 6] = [
    "keyed-100",
    "candidates-first-100",
    "candidates-second-100",
    "first-two-100",
    "p2c-100",
    "dns-answer-a",
];

fn run(name: &str, times: usize) -> anyhow::Result<()> {
    match name {
        "dns-answer-a" => answer(times),
        _ => pick(name, times)?,
    }
    Ok(())
}

fn pick(name: &str, times: usize) -> anyhow::Result<()> {
    let (_writer, reader) = published(100);
    let mut picker = Picker::new(reader, "web".parse()?).bound(Bound::new(150, 8));
    let keys = keys();
    for key in keys.iter().cycle().take(times) {
        let key = black_box(key);
        let socket = match name {
            "keyed-100" => picker.keyed(HashKey::of(key))?.socket(None),
            "candidates-first-100" => candidate(&mut picker, key, 0)?,
            "candidates-second-100" => candidate(&mut picker, key, 1)?,
            "first-two-100" => {
                let [_, second] = picker.first(HashKey::of(key))?;
                second.and_then(|endpoint| endpoint.socket(None))
            }
            "p2c-100" => picker.any()?.socket(None),
            _ => bail!("{name} is no operation"),
        };
        black_box(socket);
    }
    Ok(())
}

#[inline]
fn candidate(
    picker: &mut Picker,
    key: &[u8],
    at: usize,
) -> anyhow::Result<Option<std::net::SocketAddr>> {
    let endpoint = picker.candidates(HashKey::of(key))?.nth(at);
    Ok(endpoint.and_then(|endpoint| endpoint.socket(None)))
}

/// The answer to a question for the addresses of a service of eight endpoints.
fn answer(times: usize) {
    let (_writer, mut reader) = published(8);
    let config = Config::default();
    let index = IndexBuilder::new(&config).build(reader.snapshot());
    let mut responder = Responder::with_seed(&config, 7);
    let query = b"\x12\x34\x01\0\0\x01\0\0\0\0\0\0\x03web\x07service\x06consul\0\0\x01\0\x01";
    let mut reply = Vec::new();
    for _ in 0..times {
        let verdict = responder.answer(&index, black_box(query), DnsTransport::Udp, &mut reply);
        black_box((verdict, &reply));
    }
}

fn compare() -> anyhow::Result<()> {
    let written = fs::read_to_string(file()).context("benches/instructions.tsv")?;
    let Some(counted) = count()? else {
        return Ok(());
    };
    let mut is_off = false;
    println!("| instructions | written | counted |\n| --- | --- | --- |");
    for (name, count) in counted {
        let before = written
            .lines()
            .find_map(|line| line.split_once('\t').filter(|(other, _)| *other == name));
        let (_, before) = before.with_context(|| format!("{name} is not written"))?;
        println!("| {name} | {before} | {count} |");
        let before: u64 = before.parse()?;
        is_off |= count.abs_diff(before) * 10 > before;
    }
    ensure!(
        !is_off,
        "a count is off by more than a tenth: mend it, or `cargo bench -p benches --bench instructions -- --write`"
    );
    Ok(())
}

fn write() -> anyhow::Result<()> {
    let counted = count()?.context("nothing was counted")?;
    let lines = counted
        .iter()
        .map(|(name, count)| format!("{name}\t{count}\n"));
    fs::write(file(), lines.collect::<String>())?;
    Ok(())
}

fn file() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("instructions.tsv")
}

/// Instructions of each operation; none where there is no valgrind.
fn count() -> anyhow::Result<Option<Vec<(&'static str, u64)>>> {
    let mut counted = Vec::new();
    for name in OPERATIONS {
        let (Some(few), Some(many)) = (collected(name, FEW)?, collected(name, MANY)?) else {
            testbed::skip(
                "instructions",
                "there is no valgrind; it is a package of most distributions",
            );
            return Ok(None);
        };
        counted.push((name, many.saturating_sub(few).div_ceil((MANY - FEW) as u64)));
    }
    Ok(Some(counted))
}

/// What callgrind counts of a whole process.
fn collected(name: &str, times: usize) -> anyhow::Result<Option<u64>> {
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
        .arg(env::current_exe()?)
        .args(["run", name, &times.to_string()])
        .output();
    let output = match output {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        output => output?,
    };
    let text = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{name}: {text}");
    let line = text.lines().find_map(|line| line.split_once("Collected :"));
    let (_, count) = line.with_context(|| format!("{name}: {text}"))?;
    Ok(Some(count.trim().parse()?))
}

/// Few are enough for whatever the first ones do.
const FEW: usize = 4_096;
const MANY: usize = 16 * 4_096;

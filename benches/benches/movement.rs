// SPDX-License-Identifier: MIT OR Apache-2.0
//! How many keys move when one of N members leaves, and how many of them it did not own: by each placement, and by hashring.
//!
//! Not a measurement of time: the same figures on every machine. Mean over members that leave, 100,000 keys. Prints the table;
//! `-- --write` keeps it in the manual, `-- --check` ends with 1 when the manual has another.

use anyhow::{bail, ensure};
use benches::keys_of;
use discovery_core::hash::{HashKey, Member, Placement, Table};
use hashring::HashRing;
use std::{env, fmt::Write as _, fs, path::Path};

fn main() -> anyhow::Result<()> {
    let table = table();
    print!("{table}");
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../discovery-core/src/manual/moved.md");
    // Cargo adds `--bench`.
    let arguments: Vec<String> = env::args().skip(1).filter(|a| a != "--bench").collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [] => {}
        ["--write"] => fs::write(file, table)?,
        ["--check"] => ensure!(
            fs::read_to_string(file)? == table,
            "the manual has another table: `cargo bench -p benches --bench movement -- --write`"
        ),
        _ => bail!("usage: movement [--write | --check]"),
    }
    Ok(())
}

fn table() -> String {
    let mut table =
        "| of 1 in N that leaves | 10 | 100 | 1,000 |\n| --- | --- | --- | --- |\n".to_owned();
    table.push_str("| ideal | 10 % (0) | 1 % (0) | 0.1 % (0) |\n");
    for placement in Placement::ALL {
        let name = match placement {
            Placement::RingEnvoy => "`ring/envoy`: Envoy's and gRPC's rings",
            Placement::MaglevEnvoy => "`maglev/envoy`: Envoy's table",
            ours => &format!("`{ours}`"),
        };
        row(&mut table, name, |names| {
            let members: Vec<_> = names.iter().map(|name| Member::ordinary(name)).collect();
            let table = Table::build(placement, &members);
            let names = names.to_vec();
            Box::new(move |key| {
                let hash = if placement.is_of_envoy() {
                    HashKey::of_envoy(key)
                } else {
                    HashKey::of(key)
                };
                let member = table.owner(hash).unwrap_or(0);
                names[member].clone()
            })
        });
    }
    row(&mut table, "hashring 0.3.6, 160 virtual nodes", |names| {
        let mut ring: HashRing<(String, u32)> = HashRing::new();
        let vnodes = names
            .iter()
            .flat_map(|name| (0..160).map(move |j| (name.clone(), j)));
        ring.batch_add(vnodes.collect());
        Box::new(move |key| {
            ring.get(&key)
                .map(|vnode| vnode.0.clone())
                .unwrap_or_default()
        })
    });
    table
}

type Owner = Box<dyn Fn(&[u8]) -> String>;

/// One line: for each N the moved share, and of it what was not on the member that left.
fn row(table: &mut String, name: &str, place: impl Fn(&[String]) -> Owner) {
    let mut line = format!("| {name} ");
    for (count, leaving) in [(10, 5), (100, 4), (1_000, 2)] {
        let mut names: Vec<String> = (0..count)
            .map(|n| format!("10.1.{}.{}:8080", n / 250, n % 250))
            .collect();
        names.sort();
        let (before, mut moved, mut excess) = (place(&names), 0_u32, 0_u32);
        for round in 0..leaving {
            let gone = round * count / leaving + 1;
            let mut left = names.clone();
            let gone = left.remove(gone);
            let after = place(&left);
            for key in keys_of(100_000) {
                let was = before(&key);
                let has_moved = was != after(&key);
                moved += u32::from(has_moved);
                excess += u32::from(has_moved && was != gone);
            }
        }
        let percent =
            |n: u32| f64::from(n) / 1_000.0 / f64::from(u32::try_from(leaving).unwrap_or(1));
        let figures = format!("| {:.2} % ({:.2}) ", percent(moved), percent(excess));
        line.push_str(&figures);
    }
    // Writing to a string does not fail.
    let _ = writeln!(table, "{line}|");
}

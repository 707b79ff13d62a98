// SPDX-License-Identifier: MIT OR Apache-2.0
//! Prints how many keys move when one of N members leaves, and how many of them it did not own.
//!
//! Not a measurement of time: the same figures on every machine. Mean over members that leave, 100,000 keys.

use benches::keys_of;
use discovery_core::hash::{HashKey, Member, Placement, Table};
use hashring::HashRing;

fn main() {
    println!("| of 1 in N that leaves | 10 | 100 | 1,000 |\n| --- | --- | --- | --- |");
    for placement in Placement::ALL {
        row(placement.as_str(), |names| {
            let members: Vec<_> = names.iter().map(|name| Member::ordinary(name)).collect();
            let table = Table::build(placement, &members);
            let names = names.to_vec();
            Box::new(move |key| {
                let hash = match placement {
                    Placement::RingEnvoy => HashKey::of_envoy(key),
                    _ => HashKey::of(key),
                };
                let member = table.owner(hash).unwrap_or(0);
                names[member].clone()
            })
        });
    }
    row("hashring 0.3.6, 160 virtual nodes", |names| {
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
    println!("\nIn brackets: moved although their owner stayed. Ideal: 10, 1, 0.1 % and nothing.");
}

type Owner = Box<dyn Fn(&[u8]) -> String>;

/// One line: for each N the moved share, and of it what was not on the member that left.
fn row(name: &str, place: impl Fn(&[String]) -> Owner) {
    let mut line = format!("| {name} ");
    for (count, leaving) in [(10, 5), (100, 4), (1_000, 2)] {
        let names: Vec<String> = (0..count)
            .map(|n| format!("10.1.{}.{}:8080", n / 250, n % 250))
            .collect();
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
    println!("{line}|");
}

// SPDX-License-Identifier: MIT OR Apache-2.0
//! What must hold for any bytes as a snapshot on disk, with the checksum that they have and with one that fits. Built for tests
//! and for `fuzz/` alone.
#![allow(
    clippy::missing_panics_doc,
    reason = "a target panics where something does not hold"
)]

use super::{decode, first_line, updates};
use crate::store::{Kind, StateConfig, channel};
use std::path::Path;

/// Any bytes as a file are refused, or are values that are written as they were read and that can be applied.
pub fn snapshot(bytes: &[u8]) {
    let path = Path::new("snapshot");
    let file = |json: &[u8]| [first_line(json).as_bytes(), b"\n", json].concat();
    for bytes in [bytes.to_vec(), file(bytes)] {
        let Ok(body) = decode(&bytes, path) else {
            continue;
        };
        let written = serde_json::to_vec(&body).expect("it has a JSON form");
        let again = decode(&file(&written), path).expect("what is written is read");
        assert_eq!(
            serde_json::to_vec(&again).ok().as_ref(),
            Some(&written),
            "it is written as it was read"
        );
        let node = body.owner.node.clone();
        let sources: Vec<_> = body.stated.keys().copied().collect();
        let lists = sources
            .iter()
            .flat_map(|source| Kind::ALL.map(|kind| (*source, kind)));
        let config = StateConfig::new(node).lists(lists);
        let (mut writer, _reader) = channel(config);
        for update in updates(body) {
            writer.apply(update);
        }
        writer.publish();
        assert!(writer.publish().is_none(), "nothing has changed");
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn b2_the_corpus_of_snapshots_holds() {
        crate::corpus::run("snapshot", super::snapshot);
    }
}

// SPDX-License-Identifier: MIT OR Apache-2.0
//! What must hold for any text as a manifest. Built for tests and for `fuzz/` alone.
#![allow(
    clippy::missing_panics_doc,
    reason = "a target panics where something does not hold"
)]

use super::ManifestContent;
use crate::{
    model::{NodeName, ZoneKeys},
    source::fuzz::applied,
    store::{SourceId, Update},
};

/// Any text is objects and problems, each problem with a line of the file; lists are whole, can be applied, and after the
/// same text nothing has changed.
pub fn manifest(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else {
        return;
    };
    let node = NodeName::parse("n1").expect("a name");
    let content = ManifestContent::parse("m.yaml", text, &node, &ZoneKeys::default());
    // YAML 1.2.2 5.4: either ends a line.
    let lines = text.split(['\n', '\r']).count();
    for problem in content.problems() {
        let line = problem.place.strip_prefix("m.yaml:");
        let line = line.and_then(|place| place.split(':').next()?.parse().ok());
        assert!(
            line.is_some_and(|line: usize| (1..=lines).contains(&line)),
            "{problem:?} in {lines} lines"
        );
    }
    assert!(content.changes_since(&content).is_empty());
    let mut after = ManifestContent::parse("m.yaml", "{", &node, &ZoneKeys::default());
    after.inherit(&content);
    assert_eq!(
        after.len(),
        content.len(),
        "nothing is taken back by a text that cannot be read"
    );
    let updates = content.updates();
    let resets = updates
        .iter()
        .filter(|update| matches!(update, Update::Reset(..)));
    let synced = updates
        .iter()
        .filter(|update| matches!(update, Update::Synced(..)));
    assert_eq!((resets.count(), synced.count()), (4, 4));
    applied(SourceId::Manifest, updates);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::corpus::run;

    #[test]
    fn b2_the_corpus_of_manifests_holds() {
        run("manifest", manifest);
    }
}

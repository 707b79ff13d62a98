// SPDX-License-Identifier: MIT OR Apache-2.0
//! What must hold for any bytes that an API server sends: a watch, a list, a body that is said to be gzip. Built for tests
//! and for `fuzz/` alone.
#![allow(
    clippy::missing_panics_doc,
    reason = "a target panics where something does not hold"
)]

use super::{
    decode::Event,
    feed::Translator,
    framing::Lines,
    gunzip::{Gunzip, PIECE_BYTES},
    resource::Resource,
    scope::Scope,
};
use crate::{
    model::{NodeName, ZoneKeys},
    source::{SliceApi, fuzz::applied, object::Names},
    store::{SourceId, Update},
};

/// Any bytes of a watch say the same however they arrive, and what they say can be applied.
pub fn kube_watch(bytes: &[u8]) {
    for resource in resources() {
        let whole = watch(&resource, bytes, bytes.len().max(1));
        assert_eq!(watch(&resource, bytes, 7), whole, "{}", resource.name());
        applied(SourceId::Kube, whole);
    }
}

/// Any body of a list says the same however it arrives; it has a version and an end, or it is no list.
pub fn kube_list(bytes: &[u8]) {
    for resource in resources() {
        let whole = list(&resource, bytes, bytes.len().max(1));
        assert_eq!(list(&resource, bytes, 7), whole, "{}", resource.name());
        if let Some((updates, _)) = whole {
            applied(SourceId::Kube, updates);
        }
    }
}

/// Any bytes are inflated in pieces of a bounded size, or refused, and the work ends.
pub fn gzip(bytes: &[u8]) {
    let (mut gunzip, mut rest) = (Gunzip::default(), bytes);
    for _ in 0..10_000 {
        let mut piece = Vec::new();
        match gunzip.decode(rest, &mut piece) {
            Ok(used) => rest = &rest[used..],
            Err(_) => return,
        }
        assert!(piece.len() <= PIECE_BYTES);
        if rest.is_empty() && piece.len() < PIECE_BYTES {
            return;
        }
    }
}

/// What is watched and listed: each kind in each of its forms.
pub(super) fn resources() -> Vec<Resource> {
    let scope = Scope::default();
    let slices = SliceApi::ALL.map(|api| Resource::slices(api, &scope));
    let others = [Resource::own_node(&node()), Resource::services(&scope)];
    slices.into_iter().chain(others).collect()
}

/// What a watch of the resource makes of the bytes in pieces of this size.
pub(super) fn watch(resource: &Resource, bytes: &[u8], size: usize) -> Vec<Update> {
    let (mut lines, keys) = (Lines::default(), ZoneKeys::default());
    let mut translator = Translator::new(resource.kind(), node());
    let mut updates = Vec::new();
    for piece in bytes.chunks(size) {
        lines.push(piece);
        while let Ok(Some(line)) = lines.next() {
            match resource.event(line, &keys, &mut translator.names) {
                Event::Stated(reading) | Event::Refused(reading) => {
                    updates.extend(translator.changed(reading));
                }
                Event::Gone { named, .. } => updates.extend(translator.gone(named)),
                Event::Bookmark { .. } | Event::Error { .. } | Event::Undecodable { .. } => {}
            }
        }
    }
    updates
}

/// What a list of the resource makes of the bytes in pieces of this size, and its version; none when it is no list.
fn list(resource: &Resource, bytes: &[u8], size: usize) -> Option<(Vec<Update>, String)> {
    let (keys, mut names) = (ZoneKeys::default(), Names::default());
    let mut translator = Translator::new(resource.kind(), node());
    let mut page = resource.page_reader(&keys);
    let mut updates = Vec::new();
    for piece in bytes.chunks(size) {
        for reading in page.push(piece, &mut names).ok()? {
            updates.extend(translator.list_item(reading));
        }
    }
    let page = page.finish().ok()?;
    assert!(page.token != Some(String::new()));
    Some((updates, page.version))
}

fn node() -> NodeName {
    NodeName::parse("n1").expect("a name")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::corpus::run;

    #[test]
    fn b2_the_corpus_of_kube_watches_holds() {
        run("kube_watch", kube_watch);
    }

    #[test]
    fn b2_the_corpus_of_kube_lists_holds() {
        run("kube_list", kube_list);
    }

    #[test]
    fn b2_the_corpus_of_compressed_answers_holds() {
        run("gzip", gzip);
    }
}

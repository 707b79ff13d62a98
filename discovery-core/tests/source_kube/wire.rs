// SPDX-License-Identifier: MIT OR Apache-2.0
//! Bytes: compressed lists and watches, both counted as they came and as they read.

use crate::{
    scene::*,
    server::{Answer, Piece, list_body},
};
use discovery_core::{
    model::NodeName,
    source::FailureReason,
    store::{Kind, StateConfig, channel},
    telemetry::Metrics,
};
use flate2::{Compression, write::GzEncoder};
use std::{io::Write, time::Duration};

fn gzip(text: &str) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(text.as_bytes()).unwrap();
    encoder.finish().unwrap()
}

fn compressed(pieces: impl IntoIterator<Item = Piece>) -> Answer {
    Answer::ok(pieces).header("content-encoding", "gzip")
}

#[tokio::test(start_paused = true)]
async fn a_compressed_list_is_read_and_both_sizes_are_counted() {
    let items: Vec<_> = (0..50)
        .map(|n| slice(&format!("s{n}"), 1, "10.0.0.1"))
        .collect();
    let body = list_body("10", "", &items);
    let wire = gzip(&body);
    let halves = wire.split_at(wire.len() / 2);
    let pieces = [halves.0, halves.1].map(|half| Piece::Bytes(half.to_vec()));
    let mut scene = Scene::new(slices(vec![compressed(pieces)], vec![hang()])).await;
    assert_eq!(scene.synced(Kind::Slices).await.len(), 52);
    let document = 2 * crate::server::group(&["v1", "v1beta1"]).len() as u64;
    let (on_wire, decoded) = (
        scene.status.bytes_wire(Kind::Slices),
        scene.status.bytes(Kind::Slices),
    );
    assert_eq!(decoded - document / 2, body.len() as u64);
    assert_eq!(on_wire - document / 2, wire.len() as u64);
    assert!(on_wire * 5 < decoded, "{on_wire} of {decoded}");
}

#[tokio::test(start_paused = true)]
async fn a_watch_whose_events_are_members_of_their_own_is_read_event_by_event() {
    let first = gzip(&format!(
        "{}\n",
        event("MODIFIED", &slice("a", 11, "10.0.0.7"))
    ));
    let second = gzip(&format!(
        "{}\n",
        event("DELETED", &slice("b", 12, "10.0.0.2"))
    ));
    let watch = compressed([
        Piece::Bytes(first),
        Piece::Wait(Duration::from_secs(3)),
        Piece::Bytes(second[..second.len() / 2].to_vec()),
        Piece::Wait(Duration::from_secs(3)),
        Piece::Bytes(second[second.len() / 2..].to_vec()),
        Piece::Hang,
    ]);
    let mut scene = Scene::new(slices(vec![abc(10)], vec![watch, hang()])).await;
    scene.synced(Kind::Slices).await;
    let start = tokio::time::Instant::now();
    let told = scene.until(Kind::Slices, |_| true).await;
    assert_eq!(all(&told), ["shop/a = 10.0.0.7"]);
    assert!(
        start.elapsed() < Duration::from_secs(3),
        "an event does not wait for the next"
    );
    let told = scene.until(Kind::Slices, |_| true).await;
    assert_eq!(all(&told), ["remove EndpointSlice shop/b"]);
}

#[tokio::test(start_paused = true)]
async fn a_compressed_list_that_is_damaged_or_cut_is_asked_again() {
    let wire = gzip(&list_body("10", "", &[slice("a", 1, "10.0.0.1")]));
    let mut damaged = wire.clone();
    damaged[30] ^= 0x55;
    let cut = wire[..wire.len() - 4].to_vec();
    let lists = vec![
        compressed([Piece::Bytes(damaged)]),
        compressed([Piece::Bytes(cut)]),
        abc(10),
    ];
    let mut scene = Scene::new(slices(lists, vec![hang()])).await;
    assert_eq!(scene.synced(Kind::Slices).await.len(), 5);
    for reason in [FailureReason::Undecodable, FailureReason::Truncated] {
        assert_eq!(scene.status.errors(Kind::Slices, reason), 1, "{reason}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_compressed_explosion_meets_the_limit_of_a_page() {
    let bomb = gzip(&" ".repeat(40 * 1024 * 1024));
    let lists = vec![compressed([Piece::Bytes(bomb)]), abc(10)];
    let mut scene = Scene::new(slices(lists, vec![hang()])).await;
    scene.synced(Kind::Slices).await;
    assert_eq!(
        scene.status.errors(Kind::Slices, FailureReason::TooLarge),
        1
    );
    let lists = scene.server.asked("endpointslices", false);
    assert_eq!(lists[1].query("limit"), Some("50"));
}

#[tokio::test(start_paused = true)]
async fn states_ages_reasons_and_bytes_are_metrics() {
    let watches = vec![Answer::events(&["garbage".into()]), hang()];
    let mut scene = Scene::new(slices(vec![abc(10), abc(20)], watches)).await;
    scene.synced(Kind::Slices).await;
    scene.synced(Kind::Slices).await;
    let (_, reader) = channel(StateConfig::new(NodeName::parse("n1").unwrap()));
    let text = Metrics::new(reader, vec![scene.status.clone()]).expose();
    for line in [
        r#"zonal_watch_state{source="kube",kind="slices",state="live"} 1"#,
        r#"zonal_watch_state{source="kube",kind="slices",state="stale"} 0"#,
        r#"zonal_watch_state{source="kube",kind="nodes",state="cold"} 1"#,
        r#"zonal_relists_total{source="kube",kind="slices",reason="undecodable"} 1"#,
        r#"zonal_lines_rejected_total{source="kube",kind="slices",reason="undecodable"} 1"#,
        r#"zonal_watch_bytes_total{source="kube",kind="nodes",layer="wire"} 0"#,
    ] {
        assert!(text.lines().any(|told| told == line), "{line} in {text}");
    }
    assert!(text.contains(r#"zonal_watch_age_seconds{source="kube",kind="slices"} "#));
    assert!(
        text.contains(r#"zonal_watch_bytes_total{source="kube",kind="slices",layer="decoded"} "#)
    );
}

#[tokio::test(start_paused = true)]
async fn f23_a_list_over_a_thin_link_comes_to_its_end() {
    let items: Vec<_> = (0..400)
        .map(|n| slice(&format!("s{n}"), 1, "10.0.0.1"))
        .collect();
    let body = list_body("10", "", &items);
    // A quarter of 32 kbit/s: 1,000 bytes a second.
    let pieces = body.as_bytes().chunks(500).flat_map(|chunk| {
        [
            Piece::Bytes(chunk.to_vec()),
            Piece::Wait(Duration::from_millis(500)),
        ]
    });
    let mut scene = Scene::new(slices(vec![Answer::ok(pieces)], vec![hang()])).await;
    let start = tokio::time::Instant::now();
    assert_eq!(scene.synced(Kind::Slices).await.len(), 402);
    assert!(
        start.elapsed() > Duration::from_secs(60),
        "{:?}",
        start.elapsed()
    );
    assert_eq!(scene.server.asked("endpointslices", false).len(), 1);
}

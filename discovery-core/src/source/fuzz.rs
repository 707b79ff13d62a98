// SPDX-License-Identifier: MIT OR Apache-2.0
//! What must hold for any bytes that reach a source, a target for each parser. Built for tests and for `fuzz/` alone.

#[cfg(feature = "consul")]
pub use super::consul::fuzz::consul_answer;
#[cfg(feature = "kube")]
pub use super::kube::targets::{gzip, kube_list, kube_watch};
pub use super::{agent::fuzz::agent_stream, manifest::fuzz::manifest};

use crate::{
    model::NodeName,
    store::{Kind, SourceId, StateConfig, Update, channel},
};

/// Whatever a source says can be applied and published, and what is published twice is one generation.
pub(super) fn applied(source: SourceId, updates: Vec<Update>) {
    let node = NodeName::parse("n1").expect("a name");
    let lists = Kind::ALL.map(|kind| (source, kind));
    let (mut writer, reader) = channel(StateConfig::new(node).lists(lists));
    for update in updates {
        writer.apply(update);
    }
    for kind in Kind::ALL {
        writer.apply(Update::Synced(source, kind));
    }
    writer.publish();
    let before = reader.load().generation();
    assert!(writer.publish().is_none(), "nothing has changed");
    assert_eq!(reader.load().generation(), before);
}

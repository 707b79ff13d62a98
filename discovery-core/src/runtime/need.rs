// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a face needs before callers may be sent to it, beside what the sources tell.

use std::{collections::BTreeSet, sync::Arc};
use tokio::sync::watch;

/// The needs that are not met, by name; whoever waits is woken when one is met, or no more.
#[derive(Clone, Debug, Default)]
pub(super) struct Needs(Arc<watch::Sender<BTreeSet<Arc<str>>>>);

impl Needs {
    /// One more, which is not met.
    pub(super) fn add(&self, name: &str) -> Need {
        let need = Need {
            name: name.into(),
            needs: self.clone(),
        };
        need.set(false);
        need
    }

    /// Those that are not met, a sentence each.
    pub(super) fn missing(&self) -> Vec<String> {
        let unmet = self.0.borrow();
        unmet
            .iter()
            .map(|name| format!("{name} not there yet"))
            .collect()
    }

    /// Tells of each change from now on.
    pub(super) fn follow(&self) -> watch::Receiver<BTreeSet<Arc<str>>> {
        self.0.subscribe()
    }
}

/// Something without which the runtime is not ready; see [`Runtime::need`](super::Runtime::need). Dropped, it is as it was
/// said last.
#[derive(Debug)]
pub struct Need {
    name: Arc<str>,
    needs: Needs,
}

impl Need {
    /// Says whether it is met. Costs a lock and no more where that is known.
    pub fn set(&self, is_met: bool) {
        self.needs.0.send_if_modified(|unmet| {
            if is_met {
                unmet.remove(&self.name)
            } else {
                unmet.insert(self.name.clone())
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_is_named_until_it_is_met_and_again_when_it_is_not() {
        let needs = Needs::default();
        let mut followed = needs.follow();
        let (dns, other) = (needs.add("dns-index"), needs.add("other"));
        assert!(followed.has_changed().unwrap());
        followed.mark_unchanged();
        let both = ["dns-index not there yet", "other not there yet"];
        assert_eq!(needs.missing(), both);
        dns.set(false);
        assert!(!followed.has_changed().unwrap(), "nothing new");
        dns.set(true);
        assert!(followed.has_changed().unwrap());
        assert_eq!(needs.missing(), both[1..]);
        other.set(true);
        assert_eq!(needs.missing(), [""; 0]);
        dns.set(false);
        assert_eq!(needs.missing(), both[..1]);
    }
}

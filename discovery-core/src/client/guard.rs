// SPDX-License-Identifier: MIT OR Apache-2.0
//! A call under way: the endpoint that was picked for it, and how it ends.

use super::{gate::Ticket, terms::Attempt};
use crate::{
    pick::{InFlight, Verdict},
    store::Endpoint,
};
use std::{ops::Deref, sync::Arc};

/// A picked endpoint. It counts as in flight until dropped, also when a future is cancelled.
///
/// Say how the call ended with [`Guard::success`] or [`Guard::failure`]: that is what ejects an endpoint that fails, and
/// what picks by latency go by; the time since the pick is the latency. Dropped without a word it counts as neither, which
/// is right for a call that was given up for reasons of our own.
///
/// ```
/// # use discovery_core::{model::NodeName, store::{StateConfig, channel}};
/// use discovery_core::{client::ServiceClient, hash::HashKey, pick::Verdict};
///
/// # fn send(_: std::net::SocketAddr) -> std::io::Result<()> { Ok(()) }
/// # let (_writer, reader) = channel(StateConfig::new(NodeName::parse("edge-a").unwrap()));
/// # let mut web = ServiceClient::new(reader, "shop/web".parse().unwrap());
/// if let Ok(guard) = web.pick(HashKey::of(b"customer-17"))
///     && let Some(address) = guard.socket(Some("http"))
/// {
///     let verdict = match send(address) {
///         Ok(()) => guard.success(),
///         Err(_) => guard.failure(),
///     };
///     assert_ne!(verdict, Some(Verdict::Ejected), "one failure ejects nobody");
/// }
/// ```
#[derive(Debug)]
#[must_use = "dropping the guard ends its accounting"]
pub struct Guard {
    attempt: Attempt,
    ticket: Ticket,
}

impl Guard {
    pub(super) fn new(in_flight: InFlight, ticket: Ticket) -> Self {
        Self {
            attempt: Attempt::begin(in_flight),
            ticket,
        }
    }

    /// The endpoint.
    pub fn endpoint(&self) -> &Arc<Endpoint> {
        self.attempt.endpoint()
    }

    /// The endpoint answered as it should. Tells when that brings an ejected one back.
    pub fn success(self) -> Option<Verdict> {
        self.attempt.end(&self.ticket, false)
    }

    /// The endpoint failed: it could not be reached, broke off, or answered that it cannot serve. Tells when that ejects it.
    pub fn failure(self) -> Option<Verdict> {
        self.attempt.end(&self.ticket, true)
    }
}

impl Deref for Guard {
    type Target = Endpoint;

    fn deref(&self) -> &Endpoint {
        self.endpoint()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        client::ServiceClient,
        hash::HashKey,
        model::WithoutKey,
        pick::{EjectRule, testing::View},
    };
    use std::time::Duration;

    fn rule() -> EjectRule {
        EjectRule {
            errors_in_row: 3,
            ..EjectRule::default()
        }
    }

    fn web(view: View, rule: Option<EjectRule>) -> ServiceClient {
        let reader = view.publish().1;
        ServiceClient::new(reader, "web".parse().unwrap()).eject(rule)
    }

    #[tokio::test(start_paused = true)]
    async fn an_endpoint_that_fails_is_left_out_tried_once_and_comes_back() {
        let (mut web, key) = (web(View::of(3), Some(rule())), HashKey::of(b"ann"));
        let owner = web.pick_n(key, 1).unwrap().remove(0);
        let failures: Vec<_> = (0..3).map(|_| web.pick(key).unwrap().failure()).collect();
        assert_eq!(failures, [None, None, Some(Verdict::Ejected)]);
        for _ in 0..100 {
            let pick = web.pick(key).unwrap();
            assert_ne!(pick.identity(), owner.identity());
            assert_eq!(pick.success(), None);
        }
        // The first back-off is 5 s, give or take a quarter.
        tokio::time::advance(Duration::from_millis(6_300)).await;
        let trial = web.pick(key).unwrap();
        assert_eq!(trial.identity(), owner.identity());
        assert_ne!(web.pick(key).unwrap().identity(), owner.identity());
        assert_eq!(trial.success(), Some(Verdict::Restored));
        assert_eq!(web.pick(key).unwrap().identity(), owner.identity());
    }

    #[tokio::test(start_paused = true)]
    async fn a_call_that_is_given_up_says_nothing_of_its_endpoint() {
        let (mut web, key) = (web(View::of(3), Some(rule())), HashKey::of(b"ann"));
        let owner = web.pick_n(key, 1).unwrap().remove(0);
        for _ in 0..100 {
            drop(web.pick(key).unwrap());
        }
        assert!(!owner.load().is_ejected());
        assert_eq!(owner.load().in_flight(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn without_a_rule_nobody_is_ejected() {
        let (mut web, key) = (web(View::of(3), None), HashKey::of(b"ann"));
        for _ in 0..100 {
            assert_eq!(web.pick(key).unwrap().failure(), None);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn the_time_until_the_answer_is_what_picks_by_latency_go_by() {
        let view = View::of(2).asks(|asked| asked.without_key = WithoutKey::Ewma);
        let mut web = web(view, None);
        for key in 0..20_u32 {
            let pick = web.pick(HashKey::of(&key.to_le_bytes())).unwrap();
            let is_slow = pick.identity().as_str() == "pod-0000";
            let takes = Duration::from_millis(if is_slow { 100 } else { 10 });
            tokio::time::advance(takes).await;
            pick.success();
        }
        let held: Vec<_> = (0..22).map(|_| web.pick_any().unwrap()).collect();
        let slow = held
            .iter()
            .filter(|pick| pick.identity().as_str() == "pod-0000");
        let slow = slow.count();
        assert!(
            (1..=3).contains(&slow),
            "a tenth as fast, a tenth of the calls: {slow}"
        );
    }
}

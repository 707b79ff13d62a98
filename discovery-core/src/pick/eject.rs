// SPDX-License-Identifier: MIT OR Apache-2.0
//! Passive health: whether what a caller saw of an endpoint is enough to leave it out for a while.
//!
//! In: outcomes with their time. Out: eject, restore, or nothing. Ejected is whoever fails several times in a row, or too
//! often in a sliding window; never more than a share of a service, and never its last. After a back-off that doubles, one
//! request goes out to try it: its success restores, its failure begins the next back-off.

use super::{latency, window};
use crate::{
    clock::Tick,
    store::{EjectCause, Endpoint, Flag, Load, ServiceLoad},
};
use std::{
    sync::atomic::Ordering::Relaxed,
    time::{Duration, Instant},
};

/// How a request, a connection or a call ended, as the caller judges it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Outcome {
    /// Whether the endpoint is to blame for a failure. A client that gave up, or asked for nonsense, is no error here.
    pub is_error: bool,
    /// How long it took.
    pub latency: Duration,
}

/// What an outcome led to.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Verdict {
    /// The endpoint is left out from now on.
    Ejected,
    /// It is in again.
    Restored,
    /// It failed its trial, and is left out for longer.
    StillEjected,
}

/// When endpoints are ejected, and for how long.
///
/// ```
/// use discovery_core::pick::EjectRule;
///
/// let rule = EjectRule { errors_in_row: 3, ..EjectRule::default() };
/// assert_eq!(rule.ejected_max(2), 1, "one of two; the other is the last");
/// assert_eq!(rule.ejected_max(10), 3);
/// assert_eq!(rule.ejected_max(1), 0);
/// ```
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct EjectRule {
    /// Errors in a row that eject; 5 unless set, as with Envoy. 0 ejects for none.
    pub errors_in_row: u32,
    /// Errors in 100 answers of the window that eject; 50 unless set. Above 100 none does.
    pub error_percent: u32,
    /// Answers that the window has to hold before its share counts; 20 unless set: less would judge by chance.
    pub answers_min: u32,
    /// The length of the window; 10 s unless set.
    pub window: Duration,
    /// The first back-off; 5 s unless set. The next one is twice as long, give or take a quarter.
    pub backoff: Duration,
    /// The longest back-off; 5 min unless set, as with Envoy.
    pub backoff_max: Duration,
    /// How much of a service may be ejected, in percent; 30 unless set: with three endpoints one, with ten three.
    pub ejected_percent_max: u32,
}

impl Default for EjectRule {
    fn default() -> Self {
        Self {
            errors_in_row: 5,
            error_percent: 50,
            answers_min: 20,
            window: Duration::from_secs(10),
            backoff: Duration::from_secs(5),
            backoff_max: Duration::from_secs(300),
            ejected_percent_max: 30,
        }
    }
}

impl EjectRule {
    /// How many of `usable` endpoints may be ejected at a time: at least one of two, and never the last.
    pub fn ejected_max(&self, usable: u32) -> u32 {
        let share = u64::from(usable) * u64::from(self.ejected_percent_max.min(100)) / 100;
        let at_least_one = u32::from(self.ejected_percent_max > 0);
        u32::try_from(share)
            .unwrap_or(u32::MAX)
            .max(at_least_one)
            .min(usable.saturating_sub(1))
    }

    /// The back-off before the next trial, when there were `before` in a row; `random` moves it by up to a quarter.
    fn backoff(&self, before: u32, random: u32) -> u64 {
        let millis =
            |duration: Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX / 8);
        let doubled = millis(self.backoff)
            .max(1)
            .saturating_mul(1 << before.min(32));
        let whole = doubled.min(millis(self.backoff_max)).min(u64::MAX / 8);
        let spread = (u128::from(whole / 2) * u128::from(random)) >> 32;
        whole - whole / 4 + u64::try_from(spread).unwrap_or(0)
    }

    fn condemns(&self, errors_in_row: u32, seen: window::Counts) -> Option<EjectCause> {
        let in_row = self.errors_in_row > 0 && errors_in_row >= self.errors_in_row;
        let too_often = seen.answers >= self.answers_min.max(1)
            && u64::from(seen.errors) * 100
                >= u64::from(seen.answers) * u64::from(self.error_percent);
        let for_share = too_often.then_some(EjectCause::ErrorShare);
        in_row.then_some(EjectCause::ErrorsInRow).or(for_share)
    }
}

/// Takes in how a request to the endpoint ended; without a rule only the latency is learnt.
///
/// Two or three uncontended atomic operations; a lock only while an endpoint is about to be ejected. For who holds an
/// endpoint and no pick of it, as a probe does; a [`Pick`](super::Pick) and a client's [`Guard`](crate::client::Guard) are told themselves.
///
/// ```
/// # use discovery_core::{model::NodeName, store::{StateConfig, channel}};
/// use discovery_core::pick::{EjectRule, Outcome, Picker, report};
/// use std::time::{Duration, Instant};
///
/// # let (_writer, reader) = channel(StateConfig::new(NodeName::parse("edge-a").unwrap()));
/// # let mut picker = Picker::new(reader, "shop/web".parse().unwrap());
/// let rule = EjectRule::default();
/// if let Ok(view) = picker.view() {
///     for endpoint in view.usable() {
///         let outcome = Outcome { is_error: false, latency: Duration::from_millis(3) };
///         assert_eq!(report(endpoint, outcome, Instant::now(), Some(&rule)), None);
///     }
/// }
/// ```
pub fn report(
    endpoint: &Endpoint,
    outcome: Outcome,
    now: Instant,
    rule: Option<&EjectRule>,
) -> Option<Verdict> {
    let (load, now) = (endpoint.load(), Tick::at(now));
    // An error that comes fast must not look like a fast answer, or it draws all traffic.
    let penalty = if outcome.is_error {
        ERROR_LATENCY_MIN
    } else {
        Duration::ZERO
    };
    latency::observe(&load.latency, now, outcome.latency.max(penalty));
    let rule = rule?;
    if load.has(Flag::Ejected) {
        return judge_trial(load, outcome, now, rule);
    }
    let seen = window::count(&load.window, now, rule.window, outcome.is_error);
    if !outcome.is_error {
        forgive(load, now, rule);
        return None;
    }
    let in_row = load.errors_in_row.fetch_add(1, Relaxed).saturating_add(1);
    let cause = rule.condemns(in_row, seen)?;
    eject(load, endpoint.service_load(), now, rule, cause).then_some(Verdict::Ejected)
}

/// An answer ends a row of errors; one long after the last ejection ends the doubling.
fn forgive(load: &Load, now: Tick, rule: &EjectRule) {
    // Read before written: a line that nobody writes stays shared.
    if load.errors_in_row.load(Relaxed) != 0 {
        load.errors_in_row.store(0, Relaxed);
    }
    let in_row = load.ejections_in_row.load(Relaxed);
    if in_row != 0 && now.since(Tick(load.ejected_until.load(Relaxed))) > rule.backoff(in_row, 0) {
        load.ejections_in_row.store(0, Relaxed);
    }
}

/// Ejects unless the cap is reached, or nobody else would be left.
fn eject(
    load: &Load,
    service: &ServiceLoad,
    now: Tick,
    rule: &EjectRule,
    cause: EjectCause,
) -> bool {
    let max = |usable| rule.ejected_max(usable);
    service.eject(load, cause, max, || set_back(load, now, rule))
}

fn judge_trial(load: &Load, outcome: Outcome, now: Tick, rule: &EjectRule) -> Option<Verdict> {
    // Whatever was under way when it was ejected says nothing new.
    if !load.lower(Flag::Trying) {
        return None;
    }
    if outcome.is_error {
        set_back(load, now, rule);
        return Some(Verdict::StillEjected);
    }
    load.errors_in_row.store(0, Relaxed);
    window::clear(&load.window);
    load.lower(Flag::Ejected).then_some(Verdict::Restored)
}

fn set_back(load: &Load, now: Tick, rule: &EjectRule) {
    let before = load.ejections_in_row.fetch_add(1, Relaxed);
    let until = now
        .0
        .saturating_add(rule.backoff(before, fastrand::u32(..)));
    load.ejected_until.store(until, Relaxed);
}

/// Whether this pick may be the one that tries an ejected endpoint again.
///
/// A trial that never reports keeps others out for as long as a first back-off usually lasts, and is then repeated.
pub(super) fn claims_trial(load: &Load, now: Tick) -> bool {
    let until = load.ejected_until.load(Relaxed);
    let next = now.0.saturating_add(TRIAL_MILLIS);
    let is_claimed = now.0 >= until
        && load
            .ejected_until
            .compare_exchange(until, next, Relaxed, Relaxed)
            .is_ok();
    if is_claimed {
        load.raise(Flag::Trying);
    }
    is_claimed
}

/// Whether the next pick may be the one that tries an ejected endpoint again.
pub(super) fn is_trial_due(load: &Load, now: Tick) -> bool {
    now.0 >= load.ejected_until.load(Relaxed)
}

/// The endpoint is asked whatever was seen of it, since nobody else is left: its answer counts as a trial.
pub(super) fn try_again(load: &Load) {
    if load.has(Flag::Ejected) {
        load.raise(Flag::Trying);
    }
}

/// What an error is taken for at least.
const ERROR_LATENCY_MIN: Duration = Duration::from_secs(1);
const TRIAL_MILLIS: u64 = 5_000;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        hash::HashKey,
        pick::{candidates_at, testing::view},
        store::ServiceView,
    };
    use proptest::prelude::*;
    use std::sync::Arc;

    const BAD: Outcome = Outcome {
        is_error: true,
        latency: Duration::from_millis(1),
    };
    const GOOD: Outcome = Outcome {
        is_error: false,
        latency: Duration::from_millis(1),
    };

    fn member(view: &ServiceView, at: usize) -> &Arc<Endpoint> {
        &view.tiers()[0].members()[at]
    }

    fn fail(endpoint: &Endpoint, now: Instant, rule: &EjectRule) -> Option<Verdict> {
        (0..5)
            .filter_map(|_| report(endpoint, BAD, now, Some(rule)))
            .next_back()
    }

    /// Who owns some key among those that are not ejected at that time.
    fn is_picked(view: &ServiceView, endpoint: &Arc<Endpoint>, now: Instant) -> bool {
        (0..200_u64).any(|key| {
            let owner =
                candidates_at(view, HashKey(key.wrapping_mul(0x9e37_79b9_7f4a_7c15)), now).next();
            owner.is_some_and(|owner| Arc::ptr_eq(owner, endpoint))
        })
    }

    #[test]
    fn five_errors_in_a_row_eject_and_an_answer_between_does_not() {
        let (view, rule, now) = (view(3, &[]), EjectRule::default(), Instant::now());
        let endpoint = member(&view, 0);
        for _ in 0..4 {
            assert_eq!(report(endpoint, BAD, now, Some(&rule)), None);
        }
        assert_eq!(report(endpoint, GOOD, now, Some(&rule)), None);
        assert_eq!(fail(endpoint, now, &rule), Some(Verdict::Ejected));
        assert!(!is_picked(&view, endpoint, now));
        assert_eq!((view.load().ejected(), view.load().ejections()), (1, 1));
    }

    #[test]
    fn a_share_of_errors_ejects_also_when_answers_lie_between() {
        let (view, rule, now) = (view(3, &[]), EjectRule::default(), Instant::now());
        let endpoint = member(&view, 0);
        let outcomes = (0..40).map(|i| if i % 2 == 0 { GOOD } else { BAD });
        let verdicts: Vec<_> = outcomes
            .filter_map(|outcome| report(endpoint, outcome, now, Some(&rule)))
            .collect();
        assert_eq!(verdicts, [Verdict::Ejected]);
        let counts = EjectCause::ALL.map(|cause| view.load().ejections_for(cause));
        assert_eq!(counts, [0, 1]);
    }

    #[test]
    fn one_request_tries_an_ejected_endpoint_and_its_success_restores() {
        let (view, rule, now) = (view(3, &[]), EjectRule::default(), Instant::now());
        let endpoint = member(&view, 0);
        fail(endpoint, now, &rule);
        let later = now + Duration::from_millis(6_300);
        assert!(!is_picked(
            &view,
            endpoint,
            now + Duration::from_millis(3_700)
        ));
        assert!(is_picked(&view, endpoint, later), "one goes out");
        assert!(!is_picked(&view, endpoint, later), "and only one");
        assert_eq!(
            report(endpoint, BAD, later, Some(&rule)),
            Some(Verdict::StillEjected)
        );
        // Twice as long, 7.5 to 12.5 s.
        assert!(!is_picked(
            &view,
            endpoint,
            later + Duration::from_millis(7_400)
        ));
        let last = later + Duration::from_millis(12_600);
        assert!(is_picked(&view, endpoint, last));
        assert_eq!(
            report(endpoint, GOOD, last, Some(&rule)),
            Some(Verdict::Restored)
        );
        assert!(is_picked(&view, endpoint, last) && view.load().ejected() == 0);
    }

    #[test]
    fn late_answers_of_an_ejected_endpoint_say_nothing() {
        let (view, rule, now) = (view(3, &[]), EjectRule::default(), Instant::now());
        let endpoint = member(&view, 0);
        fail(endpoint, now, &rule);
        assert_eq!(report(endpoint, GOOD, now, Some(&rule)), None);
        assert!(endpoint.load().is_ejected());
    }

    #[test]
    fn when_nobody_else_is_left_the_ejected_are_asked_and_may_prove_themselves() {
        let (view, rule, now) = (view(2, &[]), EjectRule::default(), Instant::now());
        assert_eq!(fail(member(&view, 0), now, &rule), Some(Verdict::Ejected));
        assert_eq!(
            fail(member(&view, 1), now, &rule),
            None,
            "the last one stays"
        );
        member(&view, 1).load().set_check_failed(true);
        assert!(is_picked(&view, member(&view, 0), now));
        assert_eq!(
            report(member(&view, 0), GOOD, now, Some(&rule)),
            Some(Verdict::Restored)
        );
    }

    #[test]
    fn a_fast_error_counts_as_a_slow_answer() {
        let (view, now) = (view(2, &[]), Instant::now());
        report(member(&view, 0), BAD, now, None);
        report(member(&view, 1), GOOD, now, None);
        let estimate = |at| latency::estimate(&member(&view, at).load().latency, Tick::at(now));
        assert!(estimate(0) >= 1_000_000 && estimate(1) == 1_000);
    }

    #[test]
    fn absurd_rules_end_in_no_panic() {
        let (view, now) = (view(3, &[]), Instant::now());
        for extreme in [0, u32::MAX] {
            let long = Duration::from_secs(u64::from(extreme) << 20);
            let rule = EjectRule {
                errors_in_row: extreme,
                error_percent: extreme,
                answers_min: extreme,
                window: long,
                backoff: long,
                backoff_max: long,
                ejected_percent_max: extreme,
            };
            fail(member(&view, 0), now, &rule);
            assert!(rule.ejected_max(u32::MAX) < u32::MAX);
        }
    }

    proptest! {
        /// However outcomes fall, some endpoint is not ejected, the cap is kept, and the count is right.
        #[test]
        fn ejection_never_empties_a_service(
            count in 1..12_usize,
            outcomes in proptest::collection::vec((any::<prop::sample::Index>(), prop::bool::weighted(0.8), 0..4_000_u64), 0..300),
        ) {
            let (view, rule) = (view(count, &[]), EjectRule { errors_in_row: 2, ..EjectRule::default() });
            let mut now = Instant::now();
            let max = rule.ejected_max(u32::try_from(count).unwrap());
            for (at, is_error, passed) in outcomes {
                now += Duration::from_millis(passed);
                let picked = candidates_at(&view, HashKey(passed), now).next();
                prop_assert!(picked.is_some());
                let outcome = if is_error { BAD } else { GOOD };
                report(member(&view, at.index(count)), outcome, now, Some(&rule));
                let ejected = view.usable().filter(|endpoint| endpoint.load().is_ejected()).count();
                prop_assert!(u32::try_from(ejected).unwrap() <= max && ejected < count);
                prop_assert_eq!(ejected, view.load().ejected() as usize);
            }
        }
    }
}

// SPDX-License-Identifier: MIT OR Apache-2.0
//! The walk of a key as a keyed pick would make it now, for people: whom it passes over and why, whom it takes.
//!
//! In: a view, a key, the time. Out: the members in the order of the walk, each with the reason for passing it over. It only
//! looks: no trial is claimed, no slow start begun, nothing counted. O(n log n), and it allocates.

use super::{
    Bound, Skip, eject,
    keyed::Loads,
    skip::{Leniency, ShareOf, skip_as_it_stands},
};
use crate::{
    clock::Tick,
    hash::HashKey,
    model::Reason,
    store::{Endpoint, ServiceView, Tier},
};
use std::{sync::Arc, time::Instant};

/// Why a walk passes an endpoint over.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum PassedOver {
    /// The control plane says that it may not be picked.
    Unusable(Reason),
    /// This process leaves it out for now.
    Skipped(Skip),
    /// It has more than its bound in flight.
    OverBound,
    /// Another tier serves the key.
    OtherTier,
}

impl PassedOver {
    /// The word that JSON and the command line use.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Unusable(reason) => reason.as_str(),
            Self::Skipped(skip) => skip.as_str(),
            Self::OverBound => "over-bound",
            Self::OtherTier => "other-tier",
        }
    }
}

/// One step of a walk.
#[derive(Clone, Debug)]
pub struct Step {
    /// The endpoint.
    pub endpoint: Arc<Endpoint>,
    /// The place of its tier, from 0.
    pub tier: usize,
    /// Why it is passed over, if it is.
    pub passed_over: Option<PassedOver>,
}

/// A whole walk.
#[derive(Clone, Debug)]
pub struct Steps {
    /// Every member that the walk comes by, the owner by membership first; members without a place (of weight 0) are none.
    pub steps: Vec<Step>,
    /// What is ignored since nobody else is left: that endpoints are new, or everything that only this process knows.
    pub forgiven: Option<Forgiven>,
    taken: Option<usize>,
}

/// What a walk ignores when it would find nobody.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Forgiven {
    /// That endpoints are in their slow start.
    Ramping,
    /// That and ejections and failed checks: panic.
    All,
}

impl Forgiven {
    /// The word that JSON uses.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ramping => "ramping",
            Self::All => "all",
        }
    }
}

impl Steps {
    /// The endpoints in the order in which a call is tried at them, the one that takes the key first.
    ///
    /// Those over their bound come in their turn: a call that failed elsewhere may go to them.
    pub fn order(&self) -> impl Iterator<Item = &Arc<Endpoint>> {
        let is_candidate =
            |step: &Step| matches!(step.passed_over, None | Some(PassedOver::OverBound));
        let others = self.steps.iter().enumerate();
        let others = others.filter(move |(at, step)| Some(*at) != self.taken && is_candidate(step));
        let taken = self.taken.and_then(|at| self.steps.get(at));
        taken
            .into_iter()
            .chain(others.map(|(_, step)| step))
            .map(|step| &step.endpoint)
    }
}

/// The walk of the key; `bound` is what a caller's own configuration says, none leaves it to the service.
///
/// ```
/// # use discovery_core::{model::NodeName, pick::Picker, store::{StateConfig, channel}};
/// use discovery_core::{hash::HashKey, pick::walk};
///
/// # let (_writer, reader) = channel(StateConfig::new(NodeName::parse("edge-a").unwrap()));
/// # let mut picker = Picker::new(reader, "web".parse().unwrap());
/// if let Ok(view) = picker.view() {
///     for step in walk(view, HashKey::of(b"customer-17"), None, std::time::Instant::now()).steps {
///         let why = step.passed_over.map_or("may take it", |why| why.as_str());
///         println!("{}: {why}", step.endpoint.identity());
///     }
/// }
/// ```
pub fn walk(view: &ServiceView, key: HashKey, bound: Option<Bound>, now: Instant) -> Steps {
    let serving = view.tier_of(key);
    let is_serving = |tier: &Tier| serving.is_some_and(|serving| std::ptr::eq(serving, tier));
    let mut steps = Vec::new();
    for (at, tier) in view.tiers().iter().enumerate() {
        let passed_over = |endpoint: &Endpoint| match endpoint.is_usable() {
            false => Some(PassedOver::Unusable(endpoint.reason())),
            true if is_serving(tier) => None,
            true => Some(PassedOver::OtherTier),
        };
        let order = tier.table().order(key).into_iter();
        steps.extend(order.filter_map(|member| {
            let endpoint = tier.members().get(member)?;
            Some(Step {
                endpoint: endpoint.clone(),
                tier: at,
                passed_over: passed_over(endpoint),
            })
        }));
        if is_serving(tier) {
            break;
        }
    }
    let forgiven = skip(&mut steps, view, key, Tick::at(now));
    let bound = bound.or_else(|| view.load_factor().map(Bound::from));
    let taken = take(&mut steps, view, key, bound);
    Steps {
        steps,
        forgiven,
        taken,
    }
}

/// Passes over whom this process leaves out, as far as others are left.
fn skip(steps: &mut [Step], view: &ServiceView, key: HashKey, now: Tick) -> Option<Forgiven> {
    let mut open: Vec<_> = steps
        .iter_mut()
        .filter(|step| step.passed_over.is_none())
        .collect();
    let skips: Vec<_> = (open.iter())
        .map(|step| {
            let skip = skip_as_it_stands(view, &step.endpoint, ShareOf::Key(key), now)?;
            let is_trial = skip == Skip::Ejected && eject::is_trial_due(step.endpoint.load(), now);
            (!is_trial).then_some(skip)
        })
        .collect();
    let mut leniency = Leniency::None;
    while !open.is_empty() && skips.iter().all(|skip| !leniency.forgives(*skip)) {
        leniency = leniency.more()?;
    }
    for (step, skip) in open.iter_mut().zip(skips) {
        step.passed_over = skip
            .filter(|_| !leniency.forgives(skip))
            .map(PassedOver::Skipped);
    }
    match leniency {
        Leniency::None => None,
        Leniency::Ramping => Some(Forgiven::Ramping),
        Leniency::All => Some(Forgiven::All),
    }
}

/// Finds who takes the key, and passes over those before it that are above their bound.
fn take(
    steps: &mut [Step],
    view: &ServiceView,
    key: HashKey,
    bound: Option<Bound>,
) -> Option<usize> {
    let candidates: Vec<_> = (0..steps.len())
        .filter(|at| steps[*at].passed_over.is_none())
        .collect();
    let owner = *candidates.first()?;
    let Some(bound) = bound.filter(|bound| bound.applies_to(steps[owner].endpoint.load())) else {
        return Some(owner);
    };
    let loads = Loads::of(view, key);
    let looked_at = &candidates[..candidates.len().min(Bound::HOPS_MAX)];
    let is_below = |at: &usize| loads.is_below(bound, &steps[*at].endpoint);
    let in_flight = |at: &usize| steps[*at].endpoint.load().in_flight();
    let below = looked_at.iter().copied().find(is_below);
    let taken = below.or_else(|| looked_at.iter().copied().min_by_key(in_flight))?;
    let passed = looked_at
        .iter()
        .take_while(|at| below != Some(**at))
        .filter(|at| **at != taken);
    for at in passed {
        steps[*at].passed_over = Some(PassedOver::OverBound);
    }
    Some(taken)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        model::{SlowStart, SpillBelow},
        pick::{
            EjectRule, Outcome, candidates_at, keyed, report,
            testing::{View, view, web},
        },
    };
    use proptest::prelude::*;
    use std::time::Duration;

    fn member(view: &ServiceView, at: usize) -> &Arc<Endpoint> {
        &view.tiers()[0].members()[at]
    }

    fn eject(endpoint: &Endpoint, now: Instant) {
        let rule = EjectRule {
            errors_in_row: 1,
            ejected_percent_max: 100,
            ..EjectRule::default()
        };
        let outcome = Outcome {
            is_error: true,
            latency: Duration::ZERO,
        };
        report(endpoint, outcome, now, Some(&rule));
    }

    fn names<'e>(endpoints: impl Iterator<Item = &'e Arc<Endpoint>>) -> Vec<String> {
        endpoints.map(|e| e.identity().to_string()).collect()
    }

    /// Why the endpoint is passed over.
    fn why(steps: &Steps, endpoint: &Arc<Endpoint>) -> Option<PassedOver> {
        let step = steps
            .steps
            .iter()
            .find(|step| Arc::ptr_eq(&step.endpoint, endpoint));
        step.unwrap().passed_over
    }

    fn key_of(view: &ServiceView, endpoint: &Arc<Endpoint>) -> HashKey {
        let is_owned =
            |key: &HashKey| Arc::ptr_eq(super::super::owner(view, *key).unwrap(), endpoint);
        (0..10_000_u64)
            .map(|n| HashKey::of(&n.to_le_bytes()))
            .find(is_owned)
            .unwrap()
    }

    #[test]
    fn each_reason_for_passing_over_is_told_and_the_owner_comes_first() {
        let (view, now) = (view(5, &[2]), Instant::now());
        eject(member(&view, 0), now);
        member(&view, 1).load().set_check_failed(true);
        let steps = walk(&view, HashKey(7), None, now);
        let reasons =
            [0, 1, 2, 3, 4].map(|at| why(&steps, member(&view, at)).map(PassedOver::as_str));
        let expected = [
            Some("ejected"),
            Some("check-failed"),
            Some("not-ready"),
            None,
            None,
        ];
        assert_eq!(reasons, expected);
        assert_eq!(steps.steps.len(), 5);
        assert_eq!(
            names(steps.order()),
            names(candidates_at(&view, HashKey(7), now))
        );
        assert!(steps.forgiven.is_none());
    }

    #[test]
    fn looking_claims_no_trial_and_tells_that_one_is_due() {
        let (view, now) = (view(3, &[]), Instant::now());
        let ejected = member(&view, 0);
        let key = key_of(&view, ejected);
        eject(ejected, now);
        let later = now + Duration::from_secs(60);
        for _ in 0..3 {
            assert_eq!(why(&walk(&view, key, None, later), ejected), None);
        }
        let first = || candidates_at(&view, key, later).next().unwrap().clone();
        assert!(
            Arc::ptr_eq(&first(), ejected),
            "the trial was still to be had"
        );
        assert!(!Arc::ptr_eq(&first(), ejected));
        assert!(why(&walk(&view, key, None, later), ejected).is_some());
    }

    #[test]
    fn looking_begins_no_slow_start_and_tells_of_one() {
        let asked = |view: View| view.asks(|asked| asked.slow_start = SlowStart::new(100));
        let (mut writer, reader) = asked(View::of(4)).publish();
        asked(View::of(5)).state(&mut writer);
        writer.publish().unwrap();
        let (view, now) = (web(&reader), Instant::now());
        let new = member(&view, 4);
        let key = key_of(&view, new);
        let after = |seconds| walk(&view, key, None, now + Duration::from_secs(seconds));
        for seconds in [0, 200] {
            let why = why(&after(seconds), new);
            assert_eq!(
                why,
                Some(PassedOver::Skipped(Skip::Ramping)),
                "not begun yet"
            );
        }
        candidates_at(&view, key, now).next();
        assert_eq!(why(&after(200), new), None);
    }

    #[test]
    fn over_its_bound_an_owner_is_passed_over_for_whom_the_pick_takes() {
        let view = view(4, &[]);
        let (key, bound, now) = (HashKey(7), Bound::new(150, 2), Instant::now());
        let (mut held, mut passed_over) = (Vec::new(), 0);
        for _ in 0..40 {
            let steps = walk(&view, key, bound, now);
            let pick = keyed(&view, key, bound).unwrap();
            assert_eq!(steps.order().next().unwrap().identity(), pick.identity());
            assert_eq!(
                steps.order().count(),
                4,
                "who is over its bound may be tried later"
            );
            passed_over += u32::from(steps.steps[0].passed_over == Some(PassedOver::OverBound));
            held.push(pick);
        }
        assert!(passed_over > 20, "its share is 10 of 40, and a half more");
        assert!(walk(&view, key, None, now).steps[0].passed_over.is_none());
    }

    #[test]
    fn a_key_that_spills_passes_its_own_zone_over() {
        let view = View::of(10).far(5).unready(&[0, 1, 2, 3, 4]);
        let view = view
            .asks(|asked| asked.spill_below = SpillBelow::new(100))
            .build();
        let is_out = |key: &HashKey| super::super::owner(&view, *key).unwrap().is_foreign();
        let mut keys = (0..100_u64).map(|n| HashKey::of(&n.to_le_bytes()));
        let steps = walk(&view, keys.find(is_out).unwrap(), None, Instant::now());
        assert_eq!(why(&steps, member(&view, 9)), Some(PassedOver::OtherTier));
        assert_eq!(why(&steps, member(&view, 0)).unwrap().as_str(), "not-ready");
        assert!(steps.order().all(|endpoint| endpoint.is_foreign()));
        assert_eq!((steps.steps.len(), steps.order().count()), (15, 5));
    }

    #[test]
    fn when_nobody_else_is_left_it_is_told_what_is_ignored_and_no_panic_is_counted() {
        let (view, now) = (view(2, &[]), Instant::now());
        for at in [0, 1] {
            member(&view, at).load().set_check_failed(true);
        }
        let steps = walk(&view, HashKey(7), None, now);
        assert_eq!(steps.forgiven, Some(Forgiven::All));
        assert_eq!((steps.order().count(), view.load().panic_picks()), (2, 0));
        let none = walk(
            &super::super::testing::view(2, &[0, 1]),
            HashKey(7),
            None,
            now,
        );
        assert_eq!((none.order().count(), none.forgiven), (0, None));
    }

    proptest! {
        /// Whatever this process knows of the endpoints: what is told is what is tried.
        #[test]
        fn the_walk_told_is_the_walk_made(
            count in 1..9_usize,
            flags in proptest::collection::vec((0..9_usize, 0..3_u8), 0..12),
            key: u64,
        ) {
            let unready: Vec<_> = flags.iter().filter(|(_, what)| *what == 0).map(|(at, _)| *at).collect();
            let (view, now) = (view(count, &unready), Instant::now());
            for (at, what) in flags.into_iter().filter(|(at, _)| *at < count) {
                match what {
                    1 => eject(member(&view, at), now),
                    2 => member(&view, at).load().set_check_failed(true),
                    _ => {}
                }
            }
            let told = names(walk(&view, HashKey(key), None, now).order());
            prop_assert_eq!(told, names(candidates_at(&view, HashKey(key), now)));
        }
    }
}

// SPDX-License-Identifier: MIT OR Apache-2.0
use super::*;
use crate::{
    hash::HashKey,
    pick::testing::{reader, view},
};
use std::{
    io,
    sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
};
use tower::{ServiceExt as _, service_fn};

fn web(count: usize) -> ServiceClient {
    ServiceClient::new(reader(count, &[]), "web".parse().unwrap())
}

fn key(request: &&'static str) -> HashKey {
    HashKey::of(request.as_bytes())
}

#[tokio::test]
async fn a_failed_request_goes_to_the_next_candidates_and_never_twice_to_one() {
    let tried = Arc::new(Mutex::new(Vec::new()));
    let log = tried.clone();
    let failing = service_fn(move |to: Dispatch<&'static str>| {
        log.lock().unwrap().push(to.endpoint.identity().clone());
        async { Err::<(), _>(io::Error::other("down")) }
    });
    let error = Balance::new(web(5), key, failing)
        .oneshot("ann")
        .await
        .unwrap_err();
    assert!(
        matches!(error, BalanceError::Exhausted { attempts: 3, .. }),
        "{error}"
    );
    let view = view(5, &[]);
    let expected: Vec<_> = crate::pick::candidates(&view, HashKey::of(b"ann"))
        .take(3)
        .map(|endpoint| endpoint.identity().clone())
        .collect();
    assert_eq!(*tried.lock().unwrap(), expected);
}

#[tokio::test]
async fn the_answer_of_the_second_candidate_is_the_answer() {
    let calls = Arc::new(AtomicUsize::new(0));
    let second = service_fn(move |to: Dispatch<&'static str>| {
        let answer = match calls.fetch_add(1, Relaxed) {
            0 => Err(io::Error::other("down")),
            _ => Ok(to.request),
        };
        async { answer }
    });
    let service = web(5);
    let balance = Balance::new(service.clone(), key, second);
    assert_eq!(balance.oneshot("ann").await.unwrap(), "ann");
    let picks: u64 = service.clone().picker.view().unwrap().picks().local;
    assert_eq!(picks, 2, "each try is one pick");
}

#[tokio::test]
async fn a_port_that_nobody_has_is_named() {
    let unused = service_fn(|_: Dispatch<&'static str>| async { Ok::<_, io::Error>(()) });
    let error = Balance::new(web(2), key, unused)
        .port("grpc")
        .oneshot("ann")
        .await
        .unwrap_err();
    assert!(matches!(error, BalanceError::NoPort { port } if port == "grpc"));
}

#[tokio::test]
async fn an_error_after_which_nothing_may_be_sent_again_ends_the_request() {
    let failing = service_fn(|_: Dispatch<&'static str>| async {
        Err::<(), _>(io::Error::from(io::ErrorKind::ConnectionReset))
    });
    let refused_only = |error: &io::Error| error.kind() == io::ErrorKind::ConnectionRefused;
    let balance = Balance::new(web(5), key, failing).retry_if(refused_only);
    let error = balance.oneshot("ann").await.unwrap_err();
    assert!(
        matches!(error, BalanceError::Failed { attempts: 1, .. }),
        "{error}"
    );
}

#[tokio::test]
async fn a_service_that_fails_whole_is_asked_little_more_than_without_retries() {
    let asked = Arc::new(AtomicUsize::new(0));
    let count = asked.clone();
    let failing = service_fn(move |_: Dispatch<&'static str>| {
        count.fetch_add(1, Relaxed);
        async { Err::<(), _>(io::Error::other("down")) }
    });
    let balance = Balance::new(web(5), key, failing).budget(RetryBudget::new(10, 5));
    for _ in 0..1_000 {
        assert!(balance.clone().oneshot("ann").await.is_err());
    }
    // A reserve of 5 and 10 for each 100; what is put in while the reserve is full is lost.
    let asked = asked.load(Relaxed);
    assert!((1_100..=1_105).contains(&asked), "{asked}");
}

#[tokio::test]
async fn a_request_without_a_key_goes_to_anybody_and_moves_on() {
    struct NoKey;
    impl RequestKey<&'static str> for NoKey {
        fn key(&self, _: &&'static str) -> Option<HashKey> {
            None
        }
    }
    let owners = Arc::new(Mutex::new(std::collections::BTreeSet::new()));
    let seen = owners.clone();
    let send = service_fn(move |to: Dispatch<&'static str>| {
        seen.lock().unwrap().insert(to.endpoint.identity().clone());
        let answer = if to.endpoint.identity().as_str() == "pod-0001" {
            Err(io::Error::other("down"))
        } else {
            Ok(())
        };
        async { answer }
    });
    let mut balance = Balance::new(web(3), NoKey, send);
    for _ in 0..100 {
        tower::Service::call(&mut balance, "any").await.unwrap();
    }
    assert_eq!(owners.lock().unwrap().len(), 3);
}

#[tokio::test]
async fn a_pool_makes_one_service_per_endpoint_and_another_after_a_failure() {
    let made = Arc::new(AtomicUsize::new(0));
    let count = made.clone();
    let make = service_fn(move |_: Target| {
        let number = count.fetch_add(1, Relaxed);
        async move {
            tokio::task::yield_now().await;
            let service = service_fn(move |fail: bool| async move {
                if fail {
                    Err(io::Error::other("broken"))
                } else {
                    Ok(number)
                }
            });
            Ok::<_, io::Error>(service)
        }
    });
    let pool = Pool::new(make);
    let all = |_: &bool| HashKey::of(b"one");
    let balance = Balance::new(web(3), all, pool.clone()).attempts_max(1);
    let at_once = (0..20).map(|_| balance.clone().oneshot(false));
    let numbers = futures::future::try_join_all(at_once).await.unwrap();
    assert_eq!(numbers, [0; 20], "all waited for one to be made");
    assert!(balance.clone().oneshot(true).await.is_err());
    assert_eq!(balance.clone().oneshot(false).await.unwrap(), 1);
    assert_eq!((made.load(Relaxed), pool.len()), (2, 1));
}

#[tokio::test]
async fn a_pool_keeps_no_more_than_its_limit() {
    let make = service_fn(|to: Target| async move {
        let own = to.endpoint.identity().to_string();
        Ok::<_, io::Error>(service_fn(move |_: u64| {
            let own = own.clone();
            async { Ok::<_, io::Error>(own) }
        }))
    });
    let pool = Pool::new(make).connections_max(4);
    let balance = Balance::new(web(20), |key: &u64| HashKey(*key), pool.clone());
    for key in 0..200_u64 {
        let key = key.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        balance.clone().oneshot(key).await.unwrap();
        assert!(pool.len() <= 4);
    }
    assert_eq!(pool.len(), 4);
}

/// A service whose first endpoint fails; three failures in a row eject.
fn strict_web() -> ServiceClient {
    web(3).eject(Some(crate::pick::EjectRule {
        errors_in_row: 3,
        ..Default::default()
    }))
}

#[tokio::test(start_paused = true)]
async fn an_error_for_which_nobody_is_to_blame_says_nothing_of_the_endpoint() {
    let mut service = strict_web();
    let owner = service.pick_n(HashKey::of(b"ann"), 1).unwrap().remove(0);
    let send = service_fn(|to: Dispatch<&'static str>| async move {
        Err::<(), _>(io::Error::other(to.request))
    });
    let blames = |ended: Result<&(), &io::Error>| ended.is_err_and(|e| e.to_string() == "theirs");
    let anybodys = |_: &&'static str| HashKey::of(b"ann");
    let balance = Balance::new(service, anybodys, send)
        .blame_if(blames)
        .attempts_max(1);
    for (error, is_ejected) in [
        ("theirs", false),
        ("theirs", false),
        ("ours", false),
        ("theirs", true),
    ] {
        assert!(balance.clone().oneshot(error).await.is_err());
        assert_eq!(owner.load().is_ejected(), is_ejected, "{error}");
    }
    // Its trial: an error of ours neither brings it back nor keeps it out for longer.
    tokio::time::advance(std::time::Duration::from_millis(6_300)).await;
    assert!(balance.clone().oneshot("ours").await.is_err());
    assert!(owner.load().is_ejected());
}

#[tokio::test(start_paused = true)]
async fn a_call_that_needs_no_retry_leaves_the_trial_of_the_next_to_others() {
    let mut service = strict_web();
    let order = service.pick_n(HashKey::of(b"ann"), 2).unwrap();
    let of_second = (0..10_000_u32).map(|n| HashKey::of(&n.to_le_bytes()));
    let key_of_second = of_second
        .into_iter()
        .find(|key| service.pick_n(*key, 1).unwrap()[0].identity() == order[1].identity())
        .unwrap();
    for _ in 0..3 {
        service.pick(key_of_second).unwrap().failure();
    }
    assert!(order[1].load().is_ejected());
    tokio::time::advance(std::time::Duration::from_millis(6_300)).await;
    let send = service_fn(|_: Dispatch<&'static str>| async { Ok::<_, io::Error>(()) });
    let balance = Balance::new(service.clone(), key, send);
    for _ in 0..10 {
        balance.clone().oneshot("ann").await.unwrap();
    }
    let trial = service.pick(key_of_second).unwrap();
    assert_eq!(trial.identity(), order[1].identity(), "nobody took it");
    assert_eq!(trial.success(), Some(crate::pick::Verdict::Restored));
}

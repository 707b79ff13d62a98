// SPDX-License-Identifier: MIT OR Apache-2.0
//! Adapters: keys that are not there, limits of nothing and of everything.

use super::{mall, service, slice, web};
use discovery_core::{
    client::{
        Balance, BalanceError, CallError, Discovery, Dispatch, HeaderKey, Pool, RequestKey as _,
        RetryBudget, Target,
    },
    hash::HashKey,
};
use http::{HeaderName, HeaderValue, Request};
use std::{io, time::Duration};
use tower::{ServiceExt as _, service_fn};

#[test]
fn a_header_of_nothing_of_no_text_and_of_64_kib_is_a_key_and_none_is_none() {
    let by_user = HeaderKey::new(HeaderName::from_static("x-user"));
    let key = |value: &[u8]| {
        let value = HeaderValue::from_bytes(value).unwrap();
        by_user.key(&Request::get("/").header("x-user", value).body(()).unwrap())
    };
    let long = vec![b'a'; 65_536];
    for value in [&b""[..], b"\xff\xfe", &long] {
        assert_eq!(key(value), Some(HashKey::of(value)));
    }
    assert_eq!(by_user.key(&Request::new(())), None);
}

#[tokio::test]
async fn limits_of_nothing_are_one_and_limits_of_everything_are_what_is_there() {
    let pods = [("web-0", 0), ("web-1", 1), ("web-2", 2)];
    let (_writer, reader) = mall(service(), [slice("web-1", pods)]);
    for (attempts_max, expected) in [(0, 1), (usize::MAX, 3)] {
        for budget in [
            RetryBudget::new(u32::MAX, u32::MAX),
            RetryBudget::new(1_000, 9),
        ] {
            let failing =
                service_fn(|_: Dispatch<()>| async { Err::<(), _>(io::Error::other("no")) });
            let balance = Balance::new(web(&reader), |(): &()| HashKey::of(b""), failing)
                .attempts_max(attempts_max)
                .budget(budget);
            let error = balance.oneshot(()).await.unwrap_err();
            let BalanceError::Exhausted { attempts, .. } = error else {
                panic!("{error}");
            };
            assert_eq!(attempts, expected);
        }
    }
}

#[tokio::test]
async fn a_budget_of_nothing_has_one_retry_and_no_more() {
    let budget = RetryBudget::new(0, 0);
    for _ in 0..100 {
        budget.deposit();
    }
    assert!(budget.withdraw() && !budget.withdraw());
    assert_eq!(budget.refused(), 1);
}

#[tokio::test]
async fn a_pool_of_no_connection_keeps_one() {
    let pods = [("web-0", 0), ("web-1", 1), ("web-2", 2)];
    let (_writer, reader) = mall(service(), [slice("web-1", pods)]);
    let make = service_fn(|_: Target| async {
        Ok::<_, io::Error>(service_fn(
            |key: u64| async move { Ok::<_, io::Error>(key) },
        ))
    });
    let pool = Pool::new(make).connections_max(0);
    let by_key = |key: &u64| HashKey::of(&key.to_le_bytes());
    let balance = Balance::new(web(&reader), by_key, pool.clone());
    for key in 0..20 {
        assert_eq!(balance.clone().oneshot(key).await.unwrap(), key);
        assert_eq!(pool.len(), 1);
    }
}

#[tokio::test]
async fn a_handle_of_no_calls_takes_one_and_a_close_without_end_ends_with_the_last_call() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("mall.yaml");
    std::fs::write(&path, super::MALL.replace("ANNOTATION", "")).unwrap();
    let builder = Discovery::builder().node("edge-a").manifest(&path);
    let discovery = builder.in_flight_max(0).start().await.unwrap();
    discovery.ready().await;
    let mut web = discovery.service("shop/web".parse().unwrap());
    let call = web.pick_any().unwrap();
    let error = web.pick_any().unwrap_err();
    assert_eq!(error, CallError::Overloaded { limit: 1 });
    let closing = tokio::spawn(discovery.close(Duration::MAX));
    call.success();
    assert_eq!(closing.await.unwrap().unfinished(), 0);
}

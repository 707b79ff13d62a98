// SPDX-License-Identifier: MIT OR Apache-2.0
//! How many retries are worth it: a failing service must not be asked three times as often because it fails.
//!
//! A machine without a clock: each call puts a share of a retry in, each retry takes a whole one out.

use std::sync::{
    Arc,
    atomic::{AtomicI64, AtomicU64, Ordering::Relaxed},
};

/// Retries that calls have earned; clones share it.
///
/// ```
/// use discovery_core::client::RetryBudget;
///
/// let budget = RetryBudget::new(20, 10);
/// let granted = (0..1_000).filter(|_| { budget.deposit(); budget.withdraw() }).count();
/// assert_eq!(granted, 10 + 199, "a reserve of 10, and 20 for each 100 calls; the first found it full");
/// assert_eq!(budget.refused(), 791);
/// ```
#[derive(Clone, Debug)]
pub struct RetryBudget {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    /// What a call puts in, in thousandths of a retry.
    deposit: i64,
    reserve: i64,
    balance: AtomicI64,
    refused: AtomicU64,
}

impl RetryBudget {
    /// `percent` retries for each 100 calls, at most 1,000, and a reserve for quiet times: full at first, never fuller.
    pub fn new(percent: u32, reserve: u32) -> Self {
        let reserve = i64::from(reserve).max(1) * RETRY;
        Self {
            shared: Arc::new(Shared {
                deposit: i64::from(percent.min(1_000)) * RETRY / 100,
                reserve,
                balance: AtomicI64::new(reserve),
                refused: AtomicU64::new(0),
            }),
        }
    }

    /// Counts a call.
    pub fn deposit(&self) {
        let Shared {
            deposit, reserve, ..
        } = *self.shared;
        let added = |balance: i64| Some((balance + deposit).min(reserve));
        let _ = self.shared.balance.fetch_update(Relaxed, Relaxed, added);
    }

    /// Takes one retry out; false, and counted, when there is none.
    pub fn withdraw(&self) -> bool {
        let taken = |balance: i64| (balance >= RETRY).then_some(balance - RETRY);
        let granted = self
            .shared
            .balance
            .fetch_update(Relaxed, Relaxed, taken)
            .is_ok();
        if !granted {
            self.shared.refused.fetch_add(1, Relaxed);
        }
        granted
    }

    /// Retries that were refused so far.
    pub fn refused(&self) -> u64 {
        self.shared.refused.load(Relaxed)
    }
}

impl Default for RetryBudget {
    /// 20 for each 100 calls, as Finagle and linkerd do, and a reserve of 100: the calls under way to one endpoint that
    /// dies may all move on.
    fn default() -> Self {
        Self::new(20, 100)
    }
}

const RETRY: i64 = 1_000;

// SPDX-License-Identifier: MIT OR Apache-2.0
//! Waits for a condition, with a deadline, instead of sleeping and hoping.

use std::time::Duration;

use crate::Error;

/// Asks `probe` every 25 ms until it answers `Some`, and hands that answer out.
///
/// A question that hangs (a stopped server) counts against the deadline too. `what` is the condition, as it shall
/// stand in the failure: "the slice has two endpoints". An `async || {}` that only reads what it captures is a probe;
/// `AsyncFnMut` would let it write too, and would cost the future its `Send`.
///
/// # Errors
///
/// [`Error::Deadline`] when `within` has passed.
///
/// ```
/// # use std::time::Duration;
/// # #[tokio::main] async fn main() -> Result<(), testbed::Error> {
/// let asked = std::cell::Cell::new(0);
/// let answer = testbed::wait_for("the third question", Duration::from_secs(5), async || {
///     asked.set(asked.get() + 1);
///     (asked.get() == 3).then_some("yes")
/// });
/// assert_eq!(answer.await?, "yes");
/// # Ok(()) }
/// ```
pub async fn wait_for<T, F>(
    what: &str,
    within: Duration,
    mut probe: impl FnMut() -> F,
) -> Result<T, Error>
where
    F: Future<Output = Option<T>>,
{
    let asking = async {
        loop {
            if let Some(answer) = probe().await {
                return answer;
            }
            tokio::time::sleep(PAUSE).await;
        }
    };
    tokio::time::timeout(within, asking)
        .await
        .map_err(|_| Error::Deadline {
            what: what.to_owned(),
            after: within,
        })
}

/// Short against anything a server does, long against the cost of a question.
pub(crate) const PAUSE: Duration = Duration::from_millis(25);

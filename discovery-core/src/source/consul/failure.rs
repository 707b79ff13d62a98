// SPDX-License-Identifier: MIT OR Apache-2.0
//! Why a request to Consul brought no answer, in the words of Consul and of what a person can do about it.

use crate::source::{FailureReason, error_chain};
use std::{error::Error, fmt};

/// A request that failed.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Failure {
    pub(super) reason: FailureReason,
    pub(super) text: String,
    /// The token itself is refused, so that no other request can fare better.
    pub(super) is_of_token: bool,
}

impl Failure {
    pub(super) fn new(reason: FailureReason, text: &str) -> Self {
        Self {
            reason,
            text: text.to_owned(),
            is_of_token: false,
        }
    }

    /// The connection broke or could not be made.
    pub(super) fn connection(error: &dyn Error) -> Self {
        Self::new(FailureReason::Connection, &error_chain(error))
    }

    /// The answer was not complete in time.
    pub(super) fn late() -> Self {
        let text = "Consul did not answer in time: wait + 10 % + 5 s";
        Self::new(FailureReason::Deadline, text)
    }

    /// An answer with a status that is no success; `rule` is what a token needs for this request.
    pub(super) fn of_answer(status: u16, body: &[u8], rule: &str) -> Self {
        let said = said(body);
        let (reason, text) = match status {
            401 | 403 if said.contains("ACL not found") => (
                FailureReason::Forbidden,
                format!("Consul does not know our token ({said}); check the token file"),
            ),
            401 | 403 => (
                FailureReason::Forbidden,
                format!("our Consul token lacks a rule; add to its policy: {rule} ({said})"),
            ),
            500 if said.contains("No cluster leader") => (
                FailureReason::NoLeader,
                "Consul has no leader at the moment".to_owned(),
            ),
            500 if said.contains("No path to datacenter") => (
                FailureReason::NotFound,
                format!("Consul knows no such datacenter ({said})"),
            ),
            _ => (
                FailureReason::of_http_status(status),
                format!("Consul answered {status}: {said}"),
            ),
        };
        Self {
            is_of_token: said.contains("ACL not found"),
            reason,
            text,
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// The body of an error on one line.
fn said(body: &[u8]) -> String {
    let text = String::from_utf8_lossy(body);
    let plain = text.chars().map(|c| if c.is_control() { ' ' } else { c });
    let text: String = plain.take(SAID_CHARS_MAX).collect();
    text.trim().to_owned()
}

/// An error of Consul has one line; a proxy's page may have many.
const SAID_CHARS_MAX: usize = 300;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn f29_a_missing_right_is_told_with_the_rule_to_add() {
        let body = b"Permission denied: token with AccessorID 'x' lacks permission 'service:read' on \"web\"";
        let rule = r#"service "web" { policy = "read" }"#;
        let failure = Failure::of_answer(403, body, rule);
        assert_eq!(failure.reason, FailureReason::Forbidden);
        assert!(failure.text.contains(rule), "{failure}");
        assert!(!failure.is_of_token);
        let unknown = Failure::of_answer(403, b"ACL not found", rule);
        assert!(unknown.is_of_token);
        assert!(
            unknown.text.contains("does not know our token"),
            "{unknown}"
        );
    }

    #[test]
    fn servers_without_a_leader_are_told_apart_from_broken_ones() {
        let reason = |status, body: &str| Failure::of_answer(status, body.as_bytes(), "").reason;
        assert_eq!(reason(500, "No cluster leader"), FailureReason::NoLeader);
        let lost = "rpc error making call: EOF";
        assert_eq!(reason(500, lost), FailureReason::ServerError);
        assert_eq!(
            reason(500, "No path to datacenter"),
            FailureReason::NotFound
        );
        assert_eq!(
            reason(429, "Your IP is issuing too many concurrent connections"),
            FailureReason::Throttled
        );
    }

    #[test]
    fn what_a_server_says_stays_on_one_line_and_short() {
        let page = format!("<html>\n\u{1b}[31m{}", "x".repeat(10_000));
        let failure = Failure::of_answer(502, page.as_bytes(), "");
        assert!(failure.text.len() < 400);
        assert!(!failure.text.contains(['\n', '\u{1b}']));
    }
}

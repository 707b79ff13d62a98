// SPDX-License-Identifier: MIT OR Apache-2.0
//! A report: checks with their outcome, what the source costs, and the exit code that follows.

use super::cost::Cost;
use serde::Serialize;
use std::fmt;

/// What was found.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    /// Of what: `kube`.
    pub(super) subject: &'static str,
    pub(super) node: String,
    pub(super) zone: Option<String>,
    /// Who told.
    pub(super) asked: String,
    pub(super) checks: Vec<Check>,
    /// None before anything was read.
    pub(super) cost: Option<Cost>,
}

/// One check. Its id is stable: scripts and the documentation name it.
#[derive(Debug, Serialize)]
pub(crate) struct Check {
    pub(super) id: String,
    pub(super) outcome: Outcome,
    pub(super) says: String,
    /// The one next step, where there is one to take.
    pub(super) next: Option<String>,
    /// Where the check is explained.
    pub(super) page: String,
}

/// How a check ended.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize)]
#[serde(rename_all = "UPPERCASE")]
pub(crate) enum Outcome {
    /// It holds.
    Pass,
    /// It holds, and not as well as it should.
    Warn,
    /// It does not hold.
    Fail,
    /// It is not decided yet; the sentence says what it waits for.
    Wait,
    /// It cannot be looked at because of another one, or says nothing here.
    Skip,
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Pass => "PASS",
            Self::Warn => "WARN",
            Self::Fail => "FAIL",
            Self::Wait => "WAIT",
            Self::Skip => "SKIP",
        })
    }
}

impl Check {
    pub(super) fn new(id: impl Into<String>, outcome: Outcome, says: impl Into<String>) -> Self {
        let id = id.into();
        // One section explains all rights.
        let section = match id.strip_prefix("kube-rights-") {
            Some(_) => "kube-rights",
            None => &id,
        };
        Self {
            page: format!("{PAGE}#{section}"),
            id,
            outcome,
            says: says.into(),
            next: None,
        }
    }

    pub(super) fn next(mut self, next: impl Into<String>) -> Self {
        self.next = Some(next.into());
        self
    }
}

impl Report {
    /// Whether nothing failed and nothing is waited for.
    pub(super) fn holds(&self) -> bool {
        !self.has(Outcome::Fail) && !self.has(Outcome::Wait)
    }

    /// 0 when it holds, 69 when the source cannot be reached, else 1.
    pub(super) fn exit(&self) -> u8 {
        let is_away = |check: &Check| check.id == "kube-reach" && check.outcome == Outcome::Fail;
        if self.checks.iter().any(is_away) {
            EXIT_UNAVAILABLE
        } else {
            u8::from(!self.holds())
        }
    }

    pub(super) fn count(&self, outcome: Outcome) -> usize {
        let is_it = |check: &&Check| check.outcome == outcome;
        self.checks.iter().filter(is_it).count()
    }

    pub(super) fn json(&self) -> String {
        serde_json::to_string_pretty(self).unwrap_or_default()
    }

    fn has(&self, outcome: Outcome) -> bool {
        self.count(outcome) > 0
    }
}

const EXIT_UNAVAILABLE: u8 = 69;
const PAGE: &str = "zonal/docs/doctor.md";

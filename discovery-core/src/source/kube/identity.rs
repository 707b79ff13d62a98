// SPDX-License-Identifier: MIT OR Apache-2.0
//! Whose cluster answers: by the UID of the service `default/kubernetes`, against that of the last run, and then against
//! the first one of this run.
//!
//! In: the UID wherever it is read, and the end of the list that it stands in. Out: a [`Finding`]. The service is
//! made by the API server itself with the cluster and lives as long, so that neither a rotated authority nor another
//! address changes it, and a cluster that takes another's address or authority over has another one. Pure.

use std::fmt;

/// The cluster of the last run.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct KnownCluster {
    pub(super) uid: String,
    /// Whether its authority, or address, is that of the present one.
    pub(super) is_named_alike: bool,
}

/// The machine of one run.
#[derive(Debug)]
pub(super) struct Identity {
    /// The cluster of the last run, until something was found out about it.
    known: Option<KnownCluster>,
    /// The cluster of this run.
    ours: Option<String>,
}

/// What was found out.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum Finding {
    /// What the last run kept is of this cluster, or nothing was kept.
    Ours,
    /// What the last run kept is of that other cluster.
    Foreign { known: String },
    /// The name has changed, and the server does not show the service.
    Hidden { known: String },
    /// Another cluster than that of this run.
    Another { ours: String },
}

impl Identity {
    pub(super) fn new(known: Option<KnownCluster>) -> Self {
        Self { known, ours: None }
    }

    /// Whether the cluster of this run is known.
    pub(super) fn is_known(&self) -> bool {
        self.ours.is_some()
    }

    /// The service has this UID; none when that is what it has had since the first word of it.
    pub(super) fn seen(&mut self, uid: &str) -> Option<Finding> {
        match &self.ours {
            Some(ours) if ours == uid => return None,
            Some(ours) => return Some(Finding::Another { ours: ours.clone() }),
            None => self.ours = Some(uid.to_owned()),
        }
        match self.known.take() {
            Some(known) if known.uid != uid => Some(Finding::Foreign { known: known.uid }),
            _ => Some(Finding::Ours),
        }
    }

    /// The list in which the service stands is complete. Where it is not shown, the name alone says whose the cluster is.
    pub(super) fn listed(&mut self) -> Option<Finding> {
        let known = self.known.take()?;
        (!known.is_named_alike).then_some(Finding::Hidden { known: known.uid })
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ours => f.write_str("the cluster is the one of the last run"),
            Self::Foreign { known } => write!(f, "the last run was in another cluster, {known}"),
            Self::Hidden { known } => write!(
                f,
                "the last run was in cluster {known}, under another name, and the server does not show that this is it"
            ),
            Self::Another { ours } => write!(f, "our cluster is {ours}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn identity(uid: &str, is_named_alike: bool) -> Identity {
        Identity::new(Some(KnownCluster {
            uid: uid.into(),
            is_named_alike,
        }))
    }

    #[test]
    fn the_uid_decides_whatever_the_name_is() {
        for is_named_alike in [true, false] {
            let mut identity = identity("a", is_named_alike);
            assert_eq!(identity.seen("a"), Some(Finding::Ours));
            assert_eq!((identity.listed(), identity.seen("a")), (None, None));
            let foreign = Finding::Foreign { known: "a".into() };
            assert_eq!(self::identity("a", is_named_alike).seen("b"), Some(foreign));
        }
    }

    #[test]
    fn where_the_service_is_not_shown_the_name_decides() {
        assert_eq!(identity("a", true).listed(), None);
        let hidden = identity("a", false).listed();
        assert_eq!(hidden, Some(Finding::Hidden { known: "a".into() }));
        assert_eq!(Identity::new(None).listed(), None);
    }

    #[test]
    fn the_first_cluster_of_a_run_is_ours_and_stays_so() {
        let mut identity = Identity::new(None);
        assert_eq!(identity.seen("a"), Some(Finding::Ours));
        let another = Finding::Another { ours: "a".into() };
        assert_eq!(identity.seen("b"), Some(another.clone()));
        assert_eq!(identity.seen("b"), Some(another));
        assert_eq!(identity.seen("a"), None);
    }
}

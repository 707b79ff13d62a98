// SPDX-License-Identifier: MIT OR Apache-2.0
//! The service account's token, read from its file as the kubelet rotates it.
//!
//! kube reads it again once a minute by the wall clock; here it is read again sooner, and at once after it was refused.

use http::HeaderValue;
use std::{
    fmt,
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

/// A token file and what it last held.
pub(super) struct TokenFile {
    path: PathBuf,
    // Guards the header and when it was read; held for the read of a small file in memory, never across an await.
    held: Mutex<Option<(Instant, HeaderValue)>>,
}

impl TokenFile {
    pub(super) fn new(path: PathBuf) -> Self {
        Self {
            path,
            held: Mutex::new(None),
        }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// The `Authorization` header; the last good one when the file is gone or unreadable, as client-go does.
    pub(super) fn header(&self, now: Instant) -> Option<HeaderValue> {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        let is_fresh = held
            .as_ref()
            .is_some_and(|(read, _)| now.saturating_duration_since(*read) < FRESH);
        if !is_fresh {
            let header = self
                .read()
                .or_else(|| held.take().map(|(_, header)| header));
            *held = header.map(|header| (now, header));
        }
        held.as_ref().map(|(_, header)| header.clone())
    }

    /// The token was refused: the file is read again for the next request.
    pub(super) fn refused(&self) {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((read, _)) = held.as_mut() {
            *read = read.checked_sub(FRESH).unwrap_or(*read);
        }
    }

    fn read(&self) -> Option<HeaderValue> {
        let token = std::fs::read_to_string(&self.path)
            .inspect_err(
                |error| tracing::warn!(%error, path = %self.path.display(), "Token unreadable"),
            )
            .ok()?;
        let mut header = HeaderValue::try_from(format!("Bearer {}", token.trim())).ok()?;
        header.set_sensitive(true);
        Some(header)
    }
}

impl fmt::Debug for TokenFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TokenFile")
            .field("path", &self.path)
            .finish_non_exhaustive()
    }
}

/// The kubelet replaces a token when a fifth of its life is left, at least two minutes before its end.
/// As [`access`](super::access) looks at the other files.
const FRESH: Duration = Duration::from_secs(20);

#[cfg(test)]
mod tests {
    use super::*;

    fn text(header: Option<HeaderValue>) -> String {
        header.map_or_else(String::new, |h| h.to_str().unwrap().to_owned())
    }

    #[test]
    fn a_rotated_token_is_used_in_time_and_at_once_after_a_refusal() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("token");
        let (file, start) = (TokenFile::new(path.clone()), Instant::now());
        assert_eq!(text(file.header(start)), "");
        std::fs::write(&path, "one\n").unwrap();
        assert_eq!(text(file.header(start)), "Bearer one");
        std::fs::write(&path, "two\n").unwrap();
        assert_eq!(
            text(file.header(start + Duration::from_secs(1))),
            "Bearer one"
        );
        assert_eq!(text(file.header(start + FRESH)), "Bearer two");
        std::fs::write(&path, "three\n").unwrap();
        file.refused();
        assert_eq!(text(file.header(start + FRESH)), "Bearer three");
        std::fs::remove_file(&path).unwrap();
        assert_eq!(text(file.header(start + 3 * FRESH)), "Bearer three");
    }
}

// SPDX-License-Identifier: MIT OR Apache-2.0
//! The last good view of an agent on disk: the very frames that it told, so that one reader does for both.
//!
//! Written beside, synced, renamed and the folder synced: a crash leaves one whole file. All calls block.

use super::{
    frame,
    session::{Event, Session, SessionError, Transaction},
};
use bytes::{Bytes, BytesMut};
use std::{
    fs::{self, File},
    io::{self, Write as _},
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

/// Why there is nothing to begin with.
#[derive(Debug, thiserror::Error)]
pub(super) enum FileError {
    #[error("file {} cannot be read", path.display())]
    Io {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("file {} is damaged", path.display())]
    Damaged {
        path: PathBuf,
        #[source]
        source: SessionError,
    },
    #[error("file {} ends early", path.display())]
    Truncated { path: PathBuf },
}

impl FileError {
    pub(super) fn is_missing(&self) -> bool {
        matches!(self, Self::Io { source, .. } if source.kind() == io::ErrorKind::NotFound)
    }
}

/// What was read back, and how long ago it was written.
#[derive(Debug)]
pub(super) struct Kept {
    pub(super) transaction: Transaction,
    pub(super) age: Duration,
}

/// Writes the frames as the newest view.
pub(super) fn save(folder: &Path, parts: &[Bytes]) -> io::Result<()> {
    fs::create_dir_all(folder)?;
    let (temporary, newest) = (folder.join("agent-view.tmp"), newest(folder));
    let mut file = File::create(&temporary)?;
    for part in parts {
        file.write_all(part)?;
    }
    file.sync_all()?;
    fs::rename(&temporary, &newest)?;
    File::open(folder)?.sync_all()
}

/// Reads the newest view.
pub(super) fn load(folder: &Path, now: SystemTime) -> Result<Kept, FileError> {
    let path = newest(folder);
    let fail = |source| FileError::Io {
        path: path.clone(),
        source,
    };
    let written = fs::metadata(&path).and_then(|file| file.modified());
    let written = written.map_err(fail)?;
    let mut bytes = BytesMut::from(&fs::read(&path).map_err(fail)?[..]);
    let mut session = Session::new(false);
    loop {
        let damaged = |source| FileError::Damaged {
            path: path.clone(),
            source,
        };
        let frame = frame::take(&mut bytes).map_err(|error| damaged(error.into()))?;
        let Some(frame) = frame else {
            return Err(FileError::Truncated { path });
        };
        if let Event::Transaction(transaction) = session.take(frame).map_err(damaged)? {
            return Ok(Kept {
                transaction: *transaction,
                age: now.duration_since(written).unwrap_or_default(),
            });
        }
    }
}

fn newest(folder: &Path) -> PathBuf {
    folder.join("agent-view")
}

// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a shelf asks of a file system, so that a model of one that crashes can stand in its place.

use std::{
    fs::{self, File},
    io::{self, Write as _},
    path::Path,
};

/// The steps of a save and a load.
pub(super) trait Disk {
    /// Makes the folder and those above it where they are not there.
    fn create_folder(&self, folder: &Path) -> io::Result<()>;
    /// Writes a file in place of what stood there; on success the disk has its bytes, maybe not yet under its name.
    fn write_synced(&self, path: &Path, bytes: &[u8]) -> io::Result<()>;
    /// Gives a file another name, whose file loses it.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// On success the disk has the names of the folder as they are now.
    fn sync_folder(&self, folder: &Path) -> io::Result<()>;
    /// The bytes of a file.
    fn read(&self, path: &Path) -> io::Result<Vec<u8>>;
}

/// The one of this system.
pub(super) struct System;

impl Disk for System {
    fn create_folder(&self, folder: &Path) -> io::Result<()> {
        fs::create_dir_all(folder)
    }

    fn write_synced(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        let mut file = File::create(path)?;
        file.write_all(bytes)?;
        file.sync_all()
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn sync_folder(&self, folder: &Path) -> io::Result<()> {
        File::open(folder)?.sync_all()
    }

    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        fs::read(path)
    }
}

// SPDX-License-Identifier: MIT OR Apache-2.0
//! Programs that were built once: in `zonal-testbed` of `$XDG_CACHE_HOME` or `~/.cache`, filled by an atomic rename and guarded by
//! a file lock, so that tests in parallel build once. Blocks.

use std::{
    env, fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

use crate::Error;

/// The program of that name, which the closure builds into the file that it is told where there is none yet.
pub(crate) fn cached(
    name: &str,
    build: impl FnOnce(&Path) -> Result<(), Error>,
) -> Result<PathBuf, Error> {
    let cache = cache_folder()?;
    let path = cache.join(name);
    if is_program(&path) {
        return Ok(path);
    }
    fs::create_dir_all(&cache).map_err(Error::io(format!("creating {}", cache.display())))?;
    let _lock = lock(&with_suffix(&path, ".lock"))?;
    // Another test may have built it while this one waited for the lock.
    if !is_program(&path) {
        let unfinished = with_suffix(&path, ".new");
        build(&unfinished)?;
        fs::rename(&unfinished, &path).map_err(Error::io(format!("filling {}", path.display())))?;
    }
    Ok(path)
}

pub(crate) fn is_program(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
}

fn cache_folder() -> Result<PathBuf, Error> {
    let absolute = |name| {
        env::var_os(name)
            .map(PathBuf::from)
            .filter(|path| path.is_absolute())
    };
    absolute("XDG_CACHE_HOME")
        .or_else(|| absolute("HOME").map(|home| home.join(".cache")))
        .map(|cache| cache.join("zonal-testbed"))
        .ok_or_else(|| Error::unavailable("the cache", "neither XDG_CACHE_HOME nor HOME is set"))
}

/// Not `with_extension`: that takes the patch version for one.
fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut path = path.as_os_str().to_owned();
    path.push(suffix);
    path.into()
}

/// Held until dropped, and released by the kernel when the process ends.
fn lock(path: &Path) -> Result<fs::File, Error> {
    let file = fs::File::create(path).map_err(Error::io(format!("creating {}", path.display())))?;
    file.lock()
        .map_err(Error::io(format!("locking {}", path.display())))?;
    Ok(file)
}

/// FNV-1a: a name for a cache entry needs no more, and it never changes with the toolchain.
pub(crate) fn fnv1a(hash: u64, bytes: &[u8]) -> u64 {
    bytes.iter().fold(hash, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(FNV_PRIME)
    })
}

pub(crate) const FNV_OFFSET: u64 = 0xcbf2_9ce4_8422_2325;
const FNV_PRIME: u64 = 0x0100_0000_01b3;

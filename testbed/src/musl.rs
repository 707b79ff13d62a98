// SPDX-License-Identifier: MIT OR Apache-2.0
//! A resolver that is linked to musl, the C library of Alpine's images: `musl/resolve.c`, built once by the compiler of Zig, which
//! brings musl's sources and comes from Python's package index. Blocks while it builds.

use std::{
    fs, io,
    path::{Path, PathBuf},
    process::{Command, Output},
};

use crate::{Error, cache, skip::say};

/// Which musl.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
#[non_exhaustive]
pub enum Musl {
    /// Before 1.2.4: it takes what a cut answer holds, and asks nothing over TCP.
    Old,
    /// From 1.2.4 on: what was cut is asked for again over TCP.
    New,
}

impl Musl {
    /// A program that takes three names: it writes the addresses of the first two, one on each line, then `none` and how many
    /// milliseconds it took to learn that the third does not exist.
    ///
    /// Cost: 80 MB are fetched and a minute is computed, once per machine.
    ///
    /// # Errors
    ///
    /// [`Error::Unavailable`] where there is no Python with pip, or pip cannot get Zig; [`Error::Build`] when the build fails;
    /// [`Error::Io`] when the cache cannot be used.
    pub fn resolver_blocking(self) -> Result<PathBuf, Error> {
        let zig = self.zig();
        let hash = [SOURCE, zig.requirement]
            .iter()
            .fold(cache::FNV_OFFSET, |hash, text| {
                cache::fnv1a(hash, text.as_bytes())
            });
        cache::cached(
            &format!("musl-resolver-{}-{hash:016x}", zig.version),
            |unfinished| self.build(unfinished),
        )
    }

    fn build(self, unfinished: &Path) -> Result<(), Error> {
        let zig = self.zig();
        say(&format!(
            "testbed: building a resolver with the musl of Zig {}, which takes about 1 minute on two cores, once",
            zig.version
        ));
        let work = tempfile::tempdir().map_err(Error::io("a folder for Zig"))?;
        let file = |name: &str, text: &str| -> Result<PathBuf, Error> {
            let path = work.path().join(name);
            fs::write(&path, text).map_err(Error::io(format!("writing {}", path.display())))?;
            Ok(path)
        };
        let requirement = file("requirements.txt", zig.requirement)?;
        let source = file("resolve.c", SOURCE)?;
        let mut pip = Command::new("python3");
        pip.args(["-m", "pip", "install", "--quiet", "--no-deps"])
            .args(["--require-hashes", "--only-binary", ":all:"])
            .args([
                "--disable-pip-version-check",
                "--root-user-action",
                "ignore",
            ])
            .arg("--target")
            .arg(work.path().join("zig"))
            .arg("-r")
            .arg(requirement);
        let fetched = run(pip)?;
        if !fetched.status.success() {
            let why = String::from_utf8_lossy(&fetched.stderr);
            return Err(Error::unavailable(
                format!("Zig {} by pip", zig.version),
                why.trim(),
            ));
        }
        let mut compile = Command::new("python3");
        compile
            .arg(work.path().join("zig/ziglang/__main__.py"))
            .args(["cc", "-static", "-O1", "-target"])
            .arg(format!("{}-linux-musl", std::env::consts::ARCH))
            .arg("-o")
            .arg(unfinished)
            .arg(source)
            .env("ZIG_GLOBAL_CACHE_DIR", work.path().join("cache"))
            .env("ZIG_LOCAL_CACHE_DIR", work.path().join("cache"));
        let built = run(compile)?;
        if built.status.success() {
            return Ok(());
        }
        Err(Error::build("a resolver with musl", &built))
    }

    fn zig(self) -> &'static Zig {
        match self {
            Self::Old => &ZIG_OF_OLD,
            Self::New => &ZIG_OF_NEW,
        }
    }
}

fn run(mut python: Command) -> Result<Output, Error> {
    python.output().map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => {
            Error::unavailable("a resolver with musl", "no python3 to fetch Zig with")
        }
        _ => Error::io("running python3")(error),
    })
}

/// A release of Zig, with its wheels for x86-64 and 64-bit ARM.
struct Zig {
    version: &'static str,
    requirement: &'static str,
}

const SOURCE: &str = include_str!("../musl/resolve.c");

const ZIG_OF_OLD: Zig = Zig {
    version: "0.9.1",
    requirement: "ziglang==0.9.1 \
        --hash=sha256:fa1d08040e2b9a7aab40b0c14e1baf52097e845ea7a6801462ec593f48cf3431 \
        --hash=sha256:4fee74a60826fd41a623d535c7a9e6130207e320aede0a9d25b9e5b948e5fe3e\n",
};

const ZIG_OF_NEW: Zig = Zig {
    version: "0.13.0",
    requirement: "ziglang==0.13.0 \
        --hash=sha256:3ce0c9f16547e5d61b32e0d226926e9a2552ef4b91fccf7ab5ea1a623a77824b \
        --hash=sha256:5714a4d46f9246ba6180a0930e23df2bc8bc26e62b5fe0dc798b4afca1903308\n",
};

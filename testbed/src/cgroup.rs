// SPDX-License-Identifier: MIT OR Apache-2.0
//! A control group for the processes of a test: so much memory, or so much of a CPU, and no more.
//!
//! Version 1, where a controller has a hierarchy of its own, and version 2. Dropped, the group is gone; its processes must
//! have ended before. Blocks for milliseconds.

use std::{
    fs, io,
    path::{Path, PathBuf},
    process::Command,
    sync::atomic::{AtomicU32, Ordering::Relaxed},
    time::Duration,
};

use crate::{Error, skip::or_skip, wait::PAUSE};

/// What a group may use.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum CgroupLimit {
    /// Bytes of memory; page cache is part of it, and given back before anybody is killed.
    Memory(u64),
    /// Hundredths of one CPU, given out every 100 ms.
    CpuPercent(u32),
}

/// A group with one limit.
#[derive(Debug)]
pub struct Cgroup {
    path: PathBuf,
    is_v2: bool,
}

impl Cgroup {
    /// A group with this limit; none, and a loud skip, where none can be made.
    ///
    /// # Panics
    ///
    /// When the machine could make one and it failed; under `CI=true` also where none can be made.
    pub fn new_or_skip(test: &str, limit: CgroupLimit) -> Option<Self> {
        or_skip(test, Self::new(limit))
    }

    fn new(limit: CgroupLimit) -> Result<Self, Error> {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let controller = match limit {
            CgroupLimit::Memory(_) => "memory",
            CgroupLimit::CpuPercent(_) => "cpu",
        };
        let v1 = Path::new(ROOT).join(controller);
        let is_v2 = !v1.is_dir();
        let parent = if is_v2 { PathBuf::from(ROOT) } else { v1 };
        let number = NUMBER.fetch_add(1, Relaxed);
        let path = parent.join(format!("zonal-test-{}-{number}", std::process::id()));
        fs::create_dir(&path).map_err(|error| unavailable(&path, &error))?;
        let group = Self { path, is_v2 };
        for (file, value) in group.settings(limit) {
            let file = group.path.join(file);
            fs::write(&file, value).map_err(|error| unavailable(&file, &error))?;
        }
        Ok(group)
    }

    fn settings(&self, limit: CgroupLimit) -> Vec<(&'static str, String)> {
        match (limit, self.is_v2) {
            (CgroupLimit::Memory(bytes), false) => {
                vec![("memory.limit_in_bytes", bytes.to_string())]
            }
            (CgroupLimit::Memory(bytes), true) => vec![("memory.max", bytes.to_string())],
            (CgroupLimit::CpuPercent(percent), false) => vec![
                ("cpu.cfs_period_us", PERIOD_US.to_string()),
                ("cpu.cfs_quota_us", (percent * PERIOD_US / 100).to_string()),
            ],
            (CgroupLimit::CpuPercent(percent), true) => {
                vec![(
                    "cpu.max",
                    format!("{} {PERIOD_US}", percent * PERIOD_US / 100),
                )]
            }
        }
    }

    /// Puts a process into the group, with all its threads.
    ///
    /// # Errors
    ///
    /// [`Error::Io`] when the kernel refuses: it has ended, for one.
    pub fn add(&self, process: u32) -> Result<(), Error> {
        let file = self.path.join("cgroup.procs");
        let what = format!("putting a process into {}", self.path.display());
        fs::write(file, process.to_string()).map_err(Error::io(what))
    }

    /// The command that starts a program inside the group, so that all of its memory counts.
    #[must_use]
    pub fn around(&self, program: &Command) -> Command {
        let mut command = Command::new("sh");
        command
            .args(["-ec", r#"echo $$ > "$0"; exec "$@""#])
            .arg(self.path.join("cgroup.procs"))
            .arg(program.get_program())
            .args(program.get_args());
        command
    }

    /// How many processes of the group the kernel has killed for its memory.
    ///
    /// # Errors
    ///
    /// [`Error::Io`] when the group says nothing of it.
    pub fn oom_kills(&self) -> Result<u64, Error> {
        let file = if self.is_v2 {
            "memory.events"
        } else {
            "memory.oom_control"
        };
        Ok(self.counter(file, "oom_kill")?.unwrap_or_default())
    }

    /// The most memory that the group has used at a time, in bytes.
    ///
    /// # Errors
    ///
    /// [`Error::Io`] when the group says nothing of it.
    pub fn memory_peak(&self) -> Result<u64, Error> {
        let file = if self.is_v2 {
            "memory.peak"
        } else {
            "memory.max_usage_in_bytes"
        };
        let text = self.read(file)?;
        text.trim()
            .parse()
            .map_err(|_| Error::io(format!("reading {file}"))(io::Error::other("it is no number")))
    }

    /// For how long the group was held back for its share of the CPU.
    ///
    /// # Errors
    ///
    /// [`Error::Io`] when the group says nothing of it.
    pub fn throttled(&self) -> Result<Duration, Error> {
        let nanos = self.counter("cpu.stat", "throttled_time")?;
        let micros = self.counter("cpu.stat", "throttled_usec")?;
        let micros = micros.map(Duration::from_micros);
        Ok(nanos
            .map(Duration::from_nanos)
            .or(micros)
            .unwrap_or_default())
    }

    fn counter(&self, file: &str, key: &str) -> Result<Option<u64>, Error> {
        let text = self.read(file)?;
        let mut lines = text.lines().filter_map(|line| line.split_once(' '));
        Ok(lines.find_map(|(name, value)| (name == key).then(|| value.trim().parse().ok())?))
    }

    fn read(&self, file: &str) -> Result<String, Error> {
        let path = self.path.join(file);
        let what = format!("reading {}", path.display());
        fs::read_to_string(path).map_err(Error::io(what))
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        // The kernel needs a moment after the last process was reaped.
        for _ in 0..100 {
            if fs::remove_dir(&self.path).is_ok() {
                return;
            }
            std::thread::park_timeout(PAUSE);
        }
    }
}

fn unavailable(path: &Path, error: &io::Error) -> Error {
    let why = format!("{} cannot be made: {error}", path.display());
    Error::unavailable("a control group", why)
}

const ROOT: &str = "/sys/fs/cgroup";
const PERIOD_US: u32 = 100_000;

// SPDX-License-Identifier: MIT OR Apache-2.0
//! The machine loses power at every step of a save, and the disk keeps of what was not synced whatever it likes: the next
//! start reads one whole generation, the one before or the one that was being written.
//!
//! The disk is a model. Of names that changed since the folder was synced, the disk may have any of the changes and not the
//! others, in no order (POSIX promises none; file systems with a journal keep the first few). Of a file whose bytes were not synced
//! it may have none, some, all, or as many zeros (a length that came before the data).

use super::{Disk, Owner, Restored, Shelf, ShelfError};
use crate::{
    model::{Node, NodeName, Zone},
    store::{Object, SourceId, Update},
};
use std::{
    cell::{Cell, RefCell},
    collections::{BTreeMap, BTreeSet},
    io,
    path::{Path, PathBuf},
    time::{Duration, UNIX_EPOCH},
};

/// What is on the disk without doubt: the files of the folder by their names.
type Files = BTreeMap<PathBuf, Vec<u8>>;

/// A disk until the power goes.
struct Failing {
    /// Steps that are left; the one after them does not end.
    left: Cell<usize>,
    state: RefCell<State>,
}

#[derive(Default)]
struct State {
    files: Vec<File>,
    names: BTreeMap<PathBuf, usize>,
    synced_names: BTreeMap<PathBuf, usize>,
    /// Changes of names since the folder was synced.
    renamed: Vec<Renamed>,
}

struct File {
    bytes: Vec<u8>,
    is_synced: bool,
}

/// A file that got a name, and the one that it lost by that.
#[derive(Clone)]
struct Renamed {
    file: usize,
    from: Option<PathBuf>,
    to: PathBuf,
}

impl Renamed {
    fn apply(&self, names: &mut BTreeMap<PathBuf, usize>) {
        if let Some(from) = &self.from
            && names.get(from) == Some(&self.file)
        {
            names.remove(from);
        }
        names.insert(self.to.clone(), self.file);
    }
}

impl Failing {
    fn on(disk: &Files, steps: usize) -> Self {
        let mut state = State::default();
        for (path, bytes) in disk {
            state.names.insert(path.clone(), state.files.len());
            state.files.push(File {
                bytes: bytes.clone(),
                is_synced: true,
            });
        }
        state.synced_names = state.names.clone();
        Self {
            left: Cell::new(steps),
            state: RefCell::new(state),
        }
    }

    /// One step more, or the end.
    fn step(&self) -> io::Result<()> {
        let left = self.left.get().checked_sub(1);
        self.left.set(left.unwrap_or(0));
        left.map(drop).ok_or_else(|| io::Error::other("no power"))
    }

    fn change(&self, change: Renamed) {
        let mut state = self.state.borrow_mut();
        change.apply(&mut state.names);
        state.renamed.push(change);
    }

    /// Everything that may be found on the disk when the power is back.
    fn found(&self) -> BTreeSet<Files> {
        let state = self.state.borrow();
        let mut found = BTreeSet::new();
        for chosen in 0..1_u32 << state.renamed.len() {
            let mut names = state.synced_names.clone();
            let kept = (0..).zip(&state.renamed);
            kept.filter(|(bit, _)| chosen & (1 << bit) != 0)
                .for_each(|(_, change)| change.apply(&mut names));
            // At most one file is not synced.
            let torn = names
                .iter()
                .find(|(_, file)| !state.files[**file].is_synced);
            let forms = torn.map_or(vec![Vec::new()], |(_, file)| {
                forms(&state.files[*file].bytes)
            });
            for form in forms {
                let bytes = |file: &usize| match &state.files[*file] {
                    File {
                        bytes,
                        is_synced: true,
                    } => bytes.clone(),
                    _ => form.clone(),
                };
                let files = names.iter().map(|(path, file)| (path.clone(), bytes(file)));
                found.insert(files.collect());
            }
        }
        found
    }
}

/// What may be found of bytes that were not synced.
fn forms(bytes: &[u8]) -> Vec<Vec<u8>> {
    let lengths = [
        0,
        1,
        bytes.len() / 2,
        bytes.len().saturating_sub(1),
        bytes.len(),
    ];
    let cut = lengths.map(|length| bytes[..length.min(bytes.len())].to_vec());
    let zeros = vec![0; bytes.len()];
    let mut late = bytes.to_vec();
    late[bytes.len() / 2..].fill(0);
    cut.into_iter().chain([zeros, late]).collect()
}

impl Disk for Failing {
    fn create_folder(&self, _: &Path) -> io::Result<()> {
        self.step()
    }

    fn write_synced(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        self.step()?;
        let at = self.state.borrow().names.get(path).copied();
        // What stands there is emptied; what does not is made.
        let file = at.unwrap_or_else(|| self.state.borrow().files.len());
        let empty = File {
            bytes: Vec::new(),
            is_synced: false,
        };
        if at.is_some() {
            self.state.borrow_mut().files[file] = empty;
        } else {
            self.state.borrow_mut().files.push(empty);
            self.change(Renamed {
                file,
                from: None,
                to: path.to_owned(),
            });
        }
        self.step()?;
        self.state.borrow_mut().files[file].bytes = bytes.to_vec();
        self.step()?;
        self.state.borrow_mut().files[file].is_synced = true;
        Ok(())
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.step()?;
        let file = self.state.borrow().names.get(from).copied();
        let file = file.ok_or(io::ErrorKind::NotFound)?;
        self.change(Renamed {
            file,
            from: Some(from.to_owned()),
            to: to.to_owned(),
        });
        Ok(())
    }

    fn sync_folder(&self, _: &Path) -> io::Result<()> {
        self.step()?;
        let state = &mut *self.state.borrow_mut();
        state.synced_names = state.names.clone();
        state.renamed.clear();
        Ok(())
    }

    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        let state = self.state.borrow();
        let file = state.names.get(path).ok_or(io::ErrorKind::NotFound)?;
        Ok(state.files[*file].bytes.clone())
    }
}

fn shelf() -> Shelf {
    let owner = Owner {
        cluster: "c".into(),
        node: NodeName::parse("edge-a").unwrap(),
        zone: None,
    };
    Shelf::new("/shelf".into(), owner)
}

/// Saves two nodes that both carry the generation as their zone.
fn save(shelf: &Shelf, disk: &Failing, generation: u64) -> Result<(), ShelfError> {
    let zone = Zone::parse(&format!("g{generation}")).unwrap();
    let nodes = ["edge-a", "edge-b"].map(|name| {
        let node = Node::new(NodeName::parse(name).unwrap(), Some(zone.clone()));
        (SourceId::Kube, Object::Node(node))
    });
    let now = UNIX_EPOCH + Duration::from_secs(generation);
    shelf.save_on(disk, nodes.into(), BTreeMap::new(), now)
}

/// The generation that a start reads; none where there is no snapshot. Whatever else is found is a mixture.
fn generation(shelf: &Shelf, files: &Files) -> Option<u64> {
    let restored = shelf.load_on(&Failing::on(files, 0)).ok()?;
    let Restored {
        updates, saved_at, ..
    } = restored;
    let zones = updates.iter().filter_map(|update| match update {
        Update::Upsert(_, Object::Node(node)) => node.zone.clone(),
        _ => None,
    });
    let zones: Vec<_> = zones.map(|zone| zone.to_string()).collect();
    let seconds = saved_at.duration_since(UNIX_EPOCH).unwrap().as_secs();
    assert_eq!(zones, vec![format!("g{seconds}"); 2], "a mixture");
    Some(seconds)
}

#[test]
fn d6_n_l6_wherever_the_power_goes_the_next_start_reads_one_whole_generation() {
    let shelf = shelf();
    let (mut crashes, mut seen) = (0_u32, BTreeSet::new());
    let mut disks = vec![(Files::new(), 1)];
    while let Some((files, next)) = disks.pop() {
        if next > SAVES || !seen.insert((files.clone(), next)) {
            continue;
        }
        let before = generation(&shelf, &files);
        for steps in 0.. {
            let disk = Failing::on(&files, steps);
            let is_saved = save(&shelf, &disk, next).is_ok();
            let least = if is_saved { Some(next) } else { before };
            for found in disk.found() {
                crashes += 1;
                let read = generation(&shelf, &found);
                assert!(
                    read == least || read == Some(next),
                    "read {read:?}, before {before:?}, saving {next}, {steps} steps: {found:?}"
                );
                disks.push((found, next + 1));
            }
            if is_saved {
                break;
            }
        }
    }
    println!("{crashes} crashes in up to {SAVES} saves");
    assert!(crashes > 1_000, "{crashes}");
}

/// A save after a crash meets what the crash has left, and may crash itself.
const SAVES: u64 = 4;

// SPDX-License-Identifier: MIT OR Apache-2.0
//! Output against files under `tests/golden`; `UPDATE_GOLDEN=1 cargo test -p zonal` writes them anew.

use std::{fs, path::Path};

/// Asserts that the text is that of the file.
pub(crate) fn is(file: &str, text: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/golden")
        .join(file);
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        fs::write(&path, text).unwrap();
    }
    let golden = fs::read_to_string(&path).unwrap_or_default();
    assert!(text == golden, "{file} is otherwise:\n{text}");
}

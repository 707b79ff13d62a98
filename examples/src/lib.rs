// SPDX-License-Identifier: MIT OR Apache-2.0
//! What the examples share: nothing but this page. See `examples/` for the runnable files, `tests/` for the whole mall.

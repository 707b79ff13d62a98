// SPDX-License-Identifier: MIT OR Apache-2.0
//! Cuts a YAML file into its documents without parsing it, so that a broken one costs only itself. Pure.

/// A document and the line of the file that it begins in, from 1.
#[derive(Debug, Eq, PartialEq)]
pub(super) struct Document<'t> {
    pub(super) text: &'t str,
    pub(super) line: u64,
}

/// The documents of the file; those without content are left out.
///
/// A line that begins with `---` always begins a document: inside a block scalar, too, none may begin so
/// (YAML 1.2.2 9.1.2).
pub(super) fn documents(text: &str) -> Vec<Document<'_>> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let (mut documents, mut start, mut start_line, mut line, mut at) = (Vec::new(), 0, 1, 1, 0);
    let mut end_document = |from: usize, to: usize, line: u64| {
        let text = &text[from..to];
        if has_content(text) {
            documents.push(Document { text, line });
            return true;
        }
        false
    };
    for piece in text.split_inclusive('\n') {
        if is_start(piece) && at > start {
            // Directives and comments before the mark belong to the document that it begins.
            let is_prologue = !has_content(&text[start..at]) && has_directive(&text[start..at]);
            if !is_prologue {
                end_document(start, at, start_line);
                (start, start_line) = (at, line);
            }
        }
        at += piece.len();
        line += 1;
    }
    end_document(start, text.len(), start_line);
    documents
}

fn is_start(line: &str) -> bool {
    line.strip_prefix("---")
        .is_some_and(|rest| rest.is_empty() || rest.starts_with([' ', '\t', '\n', '\r']))
}

fn has_content(text: &str) -> bool {
    text.lines().any(|line| {
        let line = if is_start(line) { &line[3..] } else { line }.trim();
        !(line.is_empty() || line == "..." || line.starts_with('#') || line.starts_with('%'))
    })
}

fn has_directive(text: &str) -> bool {
    text.lines().any(|line| line.starts_with('%'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines_of(text: &str) -> Vec<(u64, &str)> {
        documents(text)
            .iter()
            .map(|document| (document.line, document.text.trim()))
            .collect()
    }

    #[test]
    fn documents_know_their_lines() {
        let text = "a: 1\n---\nb: 2\n--- # third\nc: 3\n";
        assert_eq!(
            lines_of(text),
            [(1, "a: 1"), (2, "---\nb: 2"), (4, "--- # third\nc: 3")]
        );
    }

    #[test]
    fn documents_without_content_are_left_out() {
        assert_eq!(
            lines_of("---\n---\n# nothing\n---\n\na: 1\n---\n"),
            [(4, "---\n\na: 1")]
        );
        for empty in ["", "\n\n", "---", "# only a comment\n", "---\n...\n"] {
            assert_eq!(documents(empty), [], "{empty:?}");
        }
    }

    #[test]
    fn marks_inside_scalars_are_those_at_the_first_column_only() {
        let text = "text: |\n  first\n  ---\n  last\nother: ----\n---x: 1\n";
        assert_eq!(documents(text).len(), 1);
    }

    #[test]
    fn a_directive_stays_with_its_document() {
        let text = "%YAML 1.2\n---\na: 1\n---\nb: 2\n";
        assert_eq!(
            lines_of(text),
            [(1, "%YAML 1.2\n---\na: 1"), (4, "---\nb: 2")]
        );
    }

    #[test]
    fn a_byte_order_mark_and_windows_line_ends_do_not_matter() {
        assert_eq!(lines_of("\u{feff}a: 1\r\n---\r\nb: 2\r\n").len(), 2);
    }
}

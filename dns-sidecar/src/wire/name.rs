// SPDX-License-Identifier: MIT OR Apache-2.0
//! Names as the wire has them: labels with a length octet each (RFC 1035 3.1).

use super::Cursor;

/// A question's name in lower case, with the places of its labels.
///
/// Read in place of the one before: a lookup allocates nothing, and what is not written is not cleared either.
#[derive(Clone, Debug)]
pub(crate) struct LowerName {
    bytes: [u8; NAME_BYTES_MAX],
    /// Where each label's length octet stands; the entry after the last label is where the root's stands.
    starts: [u8; LABELS_MAX + 1],
    labels: usize,
}

impl Default for LowerName {
    fn default() -> Self {
        Self {
            bytes: [0; NAME_BYTES_MAX],
            starts: [0; LABELS_MAX + 1],
            labels: 0,
        }
    }
}

impl LowerName {
    /// A name that was made here; none when it breaks a limit.
    pub(crate) fn of(name: &WireName) -> Option<Self> {
        let message = [name.as_bytes(), &[0]].concat();
        let mut cursor = Cursor {
            message: &message,
            at: 0,
        };
        let mut name = Self::default();
        name.read(&mut cursor).map(|()| name)
    }

    /// Reads the name at the cursor in place of what it was; none when that is cut, too long, or holds a compression pointer.
    ///
    /// The first name of a message has nothing to point at but itself or the header.
    pub(super) fn read(&mut self, cursor: &mut Cursor<'_>) -> Option<()> {
        self.labels = 0;
        let rest = cursor.message.get(cursor.at..)?;
        let mut end = 0;
        loop {
            self.starts[self.labels] = u8::try_from(end).ok()?;
            let length = usize::from(*rest.get(end)?);
            if length == 0 {
                break;
            }
            // The root octet that follows counts too.
            if length > LABEL_BYTES_MAX || end + 1 + length >= NAME_BYTES_MAX {
                return None;
            }
            end += 1 + length;
            self.labels += 1;
        }
        // RFC 4343: only ASCII letters have a case. Length octets are less than any letter.
        let place = self.bytes.get_mut(..end)?;
        place.copy_from_slice(rest.get(..end)?);
        place.make_ascii_lowercase();
        cursor.at += end + 1;
        Some(())
    }

    /// How many labels it has, the root not counted.
    pub(crate) fn labels(&self) -> usize {
        self.labels
    }

    /// A label without its length octet; empty beyond the last.
    pub(crate) fn label(&self, number: usize) -> &[u8] {
        match self.span(number, number + 1) {
            [_, label @ ..] => label,
            [] => &[],
        }
    }

    /// The labels from one number up to another, with their length octets and without a root.
    pub(crate) fn span(&self, from: usize, to: usize) -> &[u8] {
        let start = |label: usize| usize::from(self.starts[label.min(self.labels)]);
        self.bytes.get(start(from)..start(to)).unwrap_or(&[])
    }

    /// The first bytes, labels with their length octets.
    pub(crate) fn head(&self, bytes: usize) -> &[u8] {
        self.bytes.get(..bytes).unwrap_or(&[])
    }

    /// How many bytes stand before the given label.
    pub(crate) fn offset(&self, label: usize) -> usize {
        usize::from(self.starts[label.min(self.labels)])
    }
}

/// A name under construction, checked as it grows.
#[derive(Clone, Debug, Default, Eq, Hash, PartialEq)]
pub(crate) struct WireName(Vec<u8>);

impl WireName {
    /// The name without labels.
    pub(crate) const EMPTY: Self = Self(Vec::new());

    /// A name without labels that may grow to this length at once.
    pub(crate) fn with_capacity(bytes: usize) -> Self {
        Self(Vec::with_capacity(bytes))
    }

    /// A name of the labels between the dots, in lower case, without a root; none when it breaks a limit.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        Self::spelled(&text.to_ascii_lowercase())
    }

    /// The same as it is spelled.
    pub(crate) fn spelled(text: &str) -> Option<Self> {
        let text = text.strip_suffix('.').unwrap_or(text);
        let empty = Self::with_capacity(1 + text.len());
        text.split('.')
            .try_fold(empty, |name, label| name.label(label.as_bytes()))
    }

    /// Labels that were read from a message.
    pub(crate) fn of_labels(labels: &[u8]) -> Self {
        Self(labels.to_vec())
    }

    /// The name in lower case.
    pub(crate) fn to_lower(&self) -> Self {
        Self(self.0.to_ascii_lowercase())
    }

    /// Appends a label.
    pub(crate) fn label(mut self, label: &[u8]) -> Option<Self> {
        let length = u8::try_from(label.len())
            .ok()
            .filter(|n| (1..=63).contains(n))?;
        self.0.push(length);
        self.0.extend_from_slice(label);
        (self.0.len() < NAME_BYTES_MAX).then_some(self)
    }

    /// Appends labels that were checked before.
    pub(crate) fn labels(mut self, labels: &[u8]) -> Option<Self> {
        self.0.extend_from_slice(labels);
        (self.0.len() < NAME_BYTES_MAX).then_some(self)
    }

    /// The labels without the root.
    pub(crate) fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The labels of this name from the first to the last, each with those that follow.
    pub(crate) fn suffixes(&self) -> impl Iterator<Item = &[u8]> {
        let mut rest = &self.0[..];
        std::iter::from_fn(move || {
            let here = rest;
            rest = rest.get(1 + usize::from(*here.first()?)..)?;
            Some(here)
        })
    }
}

/// RFC 1035 2.3.4, the root octet included.
pub(crate) const NAME_BYTES_MAX: usize = 255;
/// RFC 1035 2.3.4.
pub(crate) const LABEL_BYTES_MAX: usize = 63;
/// 255 bytes hold the root and 127 labels of one byte.
const LABELS_MAX: usize = 127;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn read(message: &[u8]) -> Option<(LowerName, usize)> {
        let (mut cursor, mut name) = (Cursor { message, at: 0 }, LowerName::default());
        name.read(&mut cursor).map(|()| (name, cursor.at))
    }

    #[test]
    fn a_name_is_read_in_lower_case() {
        let (name, end) = read(b"\x03WeB\x07SERVICE\0rest").unwrap();
        assert_eq!((name.labels(), end), (2, 13));
        assert_eq!(
            (name.label(0), name.label(1), name.label(2)),
            (&b"web"[..], &b"service"[..], &b""[..])
        );
        assert_eq!(name.span(1, 2), b"\x07service");
        assert_eq!(name.offset(1), 4);
    }

    #[test]
    fn the_longest_name_is_read_and_no_longer_one() {
        let label = [&[63][..], &[b'a'; 63]].concat();
        let longest = [&label[..], &label, &label, &[61], &[b'a'; 61], &[0]].concat();
        assert_eq!(longest.len(), NAME_BYTES_MAX);
        assert!(read(&longest).is_some());
        let longer = [&label[..], &label, &label, &[62], &[b'a'; 62], &[0]].concat();
        assert!(read(&longer).is_none());
        let most_labels = [[1, b'a']; 127].concat();
        assert_eq!(
            read(&[&most_labels[..], &[0]].concat()).unwrap().0.labels(),
            127
        );
        assert!(read(&[&most_labels[..], &[1, b'a', 0]].concat()).is_none());
    }

    #[test]
    fn pointers_and_cut_names_are_refused() {
        for bad in [
            &b""[..],
            b"\x03we",
            b"\x03web",
            b"\xc0\x0c",
            b"\x03web\xc0\x00",
            b"\x40a\0",
        ] {
            assert!(read(bad).is_none(), "{bad:?}");
        }
    }

    #[test]
    fn a_spelled_name_keeps_its_case_and_is_found_in_lower() {
        let name = WireName::spelled("N-Upper.Lan.").unwrap();
        assert_eq!(name.as_bytes(), b"\x07N-Upper\x03Lan");
        assert_eq!(LowerName::of(&name).unwrap().label(0), b"n-upper");
        assert_eq!(Some(name.to_lower()), WireName::parse("N-Upper.Lan"));
    }

    #[test]
    fn suffixes_come_label_by_label() {
        let name = WireName::parse("Rack.7.lan").unwrap();
        let suffixes: Vec<_> = name.suffixes().collect();
        assert_eq!(
            suffixes,
            [&b"\x04rack\x017\x03lan"[..], b"\x017\x03lan", b"\x03lan"]
        );
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(message in prop::collection::vec(any::<u8>(), 0..300)) {
            if let Some((name, end)) = read(&message) {
                prop_assert!(end <= message.len());
                let whole = name.span(0, name.labels());
                prop_assert!(whole.eq_ignore_ascii_case(&message[..end - 1]));
            }
        }
    }
}

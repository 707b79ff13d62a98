// SPDX-License-Identifier: MIT OR Apache-2.0
//! What must hold for any bytes that an agent sends, or that stand in a file of its words. Built for tests and for `fuzz/`
//! alone.
#![allow(
    clippy::missing_panics_doc,
    reason = "a target panics where something does not hold"
)]

use super::{
    frame::take,
    session::{Event, Session},
};
use crate::{
    source::fuzz::applied,
    store::{SourceId, Update},
};
use bytes::BytesMut;

/// Any bytes are transactions, refused, or the beginning of more, the same however they arrive; what was told is kept in a
/// form that says the same again.
pub fn agent_stream(bytes: &[u8]) {
    let (whole, session) = heard(bytes, bytes.len().max(1));
    let (parts, _) = heard(bytes, 7);
    assert_eq!(parts.1, whole.1);
    applied(SourceId::Kube, whole.0);
    if let Some(kept) = session.file() {
        let kept = kept.concat();
        let ((_, words), again) = heard(&kept, kept.len());
        assert!(
            words
                .last()
                .is_some_and(|word| word.starts_with("Transaction")),
            "{words:?}"
        );
        assert_eq!(again.file().map(|parts| parts.concat()), Some(kept));
    }
}

/// What a session made of the bytes: the updates of its transactions, and every event in words.
fn heard(bytes: &[u8], size: usize) -> ((Vec<Update>, Vec<String>), Session) {
    let (mut session, mut buffer) = (Session::new(true), BytesMut::new());
    let (mut updates, mut words) = (Vec::new(), Vec::new());
    for piece in bytes.chunks(size) {
        buffer.extend_from_slice(piece);
        loop {
            let event = match take(&mut buffer) {
                Ok(None) => break,
                Ok(Some(frame)) => session.take(frame).map_err(|error| error.to_string()),
                Err(error) => Err(error.to_string()),
            };
            match event {
                Err(error) => {
                    words.push(error);
                    return ((updates, words), session);
                }
                Ok(Event::None) => {}
                Ok(event) => {
                    words.push(format!("{event:?}"));
                    if let Event::Transaction(transaction) = event {
                        updates.extend(transaction.updates);
                    }
                }
            }
        }
    }
    ((updates, words), session)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::corpus::run;

    #[test]
    fn b2_the_corpus_of_agent_streams_holds() {
        run("agent_stream", agent_stream);
    }
}

// SPDX-License-Identifier: MIT OR Apache-2.0
//! The token that Consul is asked with: never in a log, never in `Debug`, read again when its file may have changed.

use super::failure::Failure;
use crate::source::FailureReason;
use http::HeaderValue;
use std::{fmt, fs, io::Read, path::PathBuf, time::Duration};
use tokio::{sync::Mutex, time::Instant};

/// A text that nobody may read by accident.
#[derive(Clone, Eq, PartialEq)]
pub struct Secret(Box<str>);

impl Secret {
    /// Keeps the text, without blanks and line ends around it.
    pub fn new(text: &str) -> Self {
        Self(text.trim().into())
    }

    /// The text as a header that is marked as sensitive; none when it is empty.
    fn header(&self) -> Result<Option<HeaderValue>, Failure> {
        if self.0.is_empty() {
            return Ok(None);
        }
        let mut value = HeaderValue::from_str(&self.0).map_err(|_| {
            let text = "the Consul token holds characters that no header may have";
            Failure::new(FailureReason::Unauthorized, text)
        })?;
        value.set_sensitive(true);
        Ok(Some(value))
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// Where the token comes from.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub enum Token {
    /// None: the rights of Consul's anonymous token.
    #[default]
    Anonymous,
    /// Given, for example by an environment variable.
    Given(Secret),
    /// The content of a file, which is read again every minute and after a refusal.
    File(PathBuf),
}

/// The token as it is known now.
#[derive(Debug)]
pub(super) struct TokenReader {
    token: Token,
    // Guards the copy of the file; held while the file is read, so that one task reads for all.
    copy: Mutex<Option<(Instant, Secret)>>,
}

impl TokenReader {
    pub(super) fn new(token: Token) -> Self {
        Self {
            token,
            copy: Mutex::default(),
        }
    }

    /// The header to send; none when there is no token.
    pub(super) async fn header(&self) -> Result<Option<HeaderValue>, Failure> {
        let path = match &self.token {
            Token::Anonymous => return Ok(None),
            Token::Given(secret) => return secret.header(),
            Token::File(path) => path,
        };
        let mut copy = self.copy.lock().await;
        match &*copy {
            Some((read, secret)) if read.elapsed() < COPY_TIME => return secret.header(),
            _ => {}
        }
        let secret = read(path.clone()).await?;
        let header = secret.header();
        *copy = Some((Instant::now(), secret));
        header
    }

    /// Notes that the token was refused: its file is read anew for the next request.
    pub(super) async fn forget(&self) {
        self.copy.lock().await.take();
    }
}

async fn read(path: PathBuf) -> Result<Secret, Failure> {
    let shown = path.display().to_string();
    let fail = |why: &dyn fmt::Display| {
        let text = format!("the Consul token file {shown} cannot be read: {why}");
        Failure::new(FailureReason::Unreadable, &text)
    };
    let read = tokio::task::spawn_blocking(move || {
        let mut text = String::new();
        let file = fs::File::open(path)?.take(TOKEN_BYTES_MAX);
        { file }.read_to_string(&mut text)?;
        Ok::<_, std::io::Error>(Secret::new(&text))
    });
    match read.await {
        Ok(secret) => secret.map_err(|error| fail(&error)),
        Err(error) => Err(fail(&error)),
    }
}

/// A rotated token is in use after that at the latest.
const COPY_TIME: Duration = Duration::from_secs(60);
/// A token is a UUID; a file that is larger than a header may be is none.
const TOKEN_BYTES_MAX: u64 = 4_096;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_never_shown() {
        let token = Token::Given(Secret::new("8dc58f53-secret"));
        assert!(!format!("{token:?}").contains("8dc58f53"));
        let header = Secret::new(" 8dc58f53\n").header().unwrap().unwrap();
        assert_eq!(header, "8dc58f53");
        assert!(!format!("{header:?}").contains("8dc58f53"));
    }

    #[test]
    fn an_error_about_a_token_does_not_quote_it() {
        let failure = Secret::new("bad\u{7}token").header().unwrap_err();
        assert!(!failure.text.contains("bad"), "{}", failure.text);
    }

    #[tokio::test(start_paused = true)]
    async fn a_rotated_token_is_used_within_a_minute_and_at_once_after_a_refusal() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("token");
        let reader = TokenReader::new(Token::File(path.clone()));
        assert!(reader.header().await.is_err(), "there is no file yet");
        fs::write(&path, "first\n").unwrap();
        assert_eq!(reader.header().await.unwrap().unwrap(), "first");
        fs::write(&path, "second\n").unwrap();
        assert_eq!(reader.header().await.unwrap().unwrap(), "first");
        tokio::time::advance(COPY_TIME).await;
        assert_eq!(reader.header().await.unwrap().unwrap(), "second");
        fs::write(&path, "third\n").unwrap();
        reader.forget().await;
        assert_eq!(reader.header().await.unwrap().unwrap(), "third");
    }
}

//! A text that hides itself: passwords and verifiers never reach a log, an error or a transcript.

use std::fmt;

use serde::Deserialize;

/// A secret text. `Debug` and `Display` show its length only; [`Secret::reveal`] is the one way to
/// the text, so that `grep reveal` finds every place that hands it on.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize)]
#[serde(transparent)]
pub struct Secret(String);

impl Secret {
    /// Takes the text as it is, blanks included.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The text itself: to a file, to standard input, to the wire. Never to a log or an argument.
    #[must_use]
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "‹{} characters›", self.0.chars().count())
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

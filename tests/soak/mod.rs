//! How far tests go: `make test` takes the first cases of long sweeps, `make soak` takes all.

/// The first `sample` cases; all of them if `SOAK=true`.
#[allow(clippy::disallowed_methods, reason = "the environment is banned in one package only")]
pub(crate) fn cases<T>(sample: usize, all: impl IntoIterator<Item = T>) -> impl Iterator<Item = T> {
    let is_soak = std::env::var("SOAK").is_ok_and(|soak| soak == "true");
    all.into_iter().take(if is_soak { usize::MAX } else { sample })
}

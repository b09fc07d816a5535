//! Private keys, certificate signing requests and certificates. Pure.

pub mod certificate;
pub mod key;
pub mod names;
mod pem;
pub mod request;

pub use self::certificate::{Bundle, Certificate};
pub use self::key::PrivateKey;
pub use self::names::Names;
pub use self::request::Request;

//! Versions of PostgreSQL.

use std::fmt;

/// A version of PostgreSQL: `14.20`, `16.10 (Ubuntu 16.10-0)`, `17beta1`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ServerVersion {
    /// The first number. Before 10 a major version had two numbers.
    pub major: u32,
    /// The second number; 0 where there is none, as for a beta.
    pub minor: u32,
}

impl ServerVersion {
    /// The oldest supported version.
    pub const OLDEST: Self = Self { major: 14, minor: 0 };

    /// Whether the charm of this version gives each database its own roles, and has its own rules
    /// for names.
    pub fn has_catalog_roles(self) -> bool {
        self.major >= 16
    }

    /// Reads the numbers at the beginning of a text; `None` if it begins with none.
    pub fn parse(text: &str) -> Option<Self> {
        let mut numbers = text.trim().splitn(2, '.').map(|part| {
            part.bytes()
                .take_while(u8::is_ascii_digit)
                .map(char::from)
                .collect::<String>()
                .parse()
                .ok()
        });
        Some(Self { major: numbers.next()??, minor: numbers.next().flatten().unwrap_or(0) })
    }
}

impl fmt::Display for ServerVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_compared_as_numbers_not_as_text() {
        let version = |text| ServerVersion::parse(text).expect(text);
        assert!(version("14.9") < version("14.16") && version("9.6") < ServerVersion::OLDEST);
        assert!(
            version("16.10 (Ubuntu 16.10-0ubuntu0.24.04.1)")
                == ServerVersion { major: 16, minor: 10 }
        );
        assert!(version("17beta1") > version("16.10"));
        for text in ["", "unknown", ".5"] {
            assert_eq!(ServerVersion::parse(text), None, "{text}");
        }
    }
}

//! One bounded line of text that a terminal shows as it is.
//!
//! What other parties wrote reaches statuses, logs, errors and the arguments of hook tools. There a
//! line break would forge a line, an escape sequence would change what a terminal shows, and a long
//! or zero byte would make Linux refuse the argument.

/// The text as one line of at most `longest` characters. Control characters, and characters that
/// reorder or hide text, are escaped; `…` stands for what was cut.
pub fn line(text: &str, longest: usize) -> String {
    // More characters than fit need not be looked at.
    let escaped = text.chars().take(longest + 1).flat_map(|c| {
        let (shown, escaped) = if is_shown(c) { (Some(c), None) } else { (None, Some(c)) };
        shown.into_iter().chain(escaped.into_iter().flat_map(char::escape_default))
    });
    let mut line: Vec<char> = escaped.take(longest + 1).collect();
    if line.len() > longest {
        line.truncate(longest.saturating_sub(1));
        line.push('…');
    }
    line.into_iter().collect()
}

/// The text as an argument of a program: without zero bytes, and no longer than Linux permits.
pub fn argument(text: &str) -> String {
    let mut text = text.replace('\0', "\\0");
    let mut end = text.len().min(LONGEST_ARGUMENT);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text.truncate(end);
    text
}

/// The longest argument in bytes, without the zero at its end (`MAX_ARG_STRLEN` of Linux).
const LONGEST_ARGUMENT: usize = 131_071;

fn is_shown(c: char) -> bool {
    !c.is_control()
        && !matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}'
                      | '\u{feff}' | '\u{fff9}'..='\u{fffb}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_printable_and_no_longer_than_its_limit() {
        for (text, longest, shown) in [
            ("", 5, ""),
            ("shop", 5, "shop"),
            ("shops", 5, "shops"),
            ("shops!", 5, "shop…"),
            ("größe", 5, "größe"),
            ("größen", 5, "größ…"),
            ("a\nb", 9, "a\\nb"),
            ("\u{1b}[2J", 20, "\\u{1b}[2J"),
            ("a\u{202e}b\0", 30, "a\\u{202e}b\\u{0}"),
            ("\n\n\n", 5, "\\n\\n…"),
        ] {
            assert_eq!(line(text, longest), shown, "{text:?}");
        }
        let long = line(&"x\u{7}".repeat(100_000), 200);
        assert!(long.chars().count() <= 200 && long.ends_with('…'), "{long}");
    }

    #[test]
    fn an_argument_has_no_zero_and_a_length_that_linux_permits() {
        assert_eq!(argument("a\0b\nc"), "a\\0b\nc");
        let long = argument(&"\0".repeat(200_000));
        assert!(long.len() == LONGEST_ARGUMENT && !long.contains('\0'));
        assert_eq!(argument(&"é".repeat(100_000)).len(), LONGEST_ARGUMENT - 1);
        // The longest result of an action, with its name.
        let result = format!("pgbouncer-ini={}", "x".repeat(131_000));
        assert_eq!(argument(&result), result);
    }
}

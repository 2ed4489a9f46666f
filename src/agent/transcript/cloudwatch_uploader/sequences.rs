//! Escape sequences of terminals, and text without them.
//!
//! | introducer | sequence |
//! |---|---|
//! | `ESC [`, U+009B | parameters 0x30 to 0x3f, intermediates 0x20 to 0x2f, one final 0x40 to 0x7e |
//! | `ESC` and one of `] P _ ^ X` | a string up to `ESC \`, U+009C or, after `]`, BEL |
//! | `ESC N`, `ESC O` | the one character that follows |
//! | `ESC` and 0x20 to 0x2f | more of these, one final 0x30 to 0x7e |
//! | `ESC` and 0x30 to 0x7e | nothing more |
//! | U+0080 to U+009F | nothing more |

use std::iter::Peekable;
use std::str::Chars;

const ESCAPE: char = '\u{1b}';
const BELL: char = '\u{7}';
/// `ESC [` in one.
const CSI: char = '\u{9b}';
/// `ESC \` in one.
const STRING_TERMINATOR: char = '\u{9c}';

/// The text without its sequences; none if one of them is malformed or has no end.
pub fn strip(text: &str) -> Option<String> {
    let mut out = String::with_capacity(text.len());
    let mut rest = text.chars().peekable();
    while let Some(c) = rest.next() {
        match c {
            ESCAPE => skip_escape(&mut rest)?,
            CSI => skip_control(&mut rest)?,
            '\u{80}'..='\u{9f}' => {}
            other => out.push(other),
        }
    }
    Some(out)
}

fn skip_escape(rest: &mut Peekable<Chars<'_>>) -> Option<()> {
    match rest.next()? {
        '[' => skip_control(rest),
        ']' => skip_string(rest, true),
        'P' | '_' | '^' | 'X' => skip_string(rest, false),
        'N' | 'O' => rest.next().map(drop),
        ' '..='/' => {
            skip_while(rest, ' '..='/');
            rest.next().filter(|c| ('0'..='~').contains(c)).map(drop)
        }
        '0'..='~' => Some(()),
        _ => None,
    }
}

fn skip_control(rest: &mut Peekable<Chars<'_>>) -> Option<()> {
    skip_while(rest, '0'..='?');
    skip_while(rest, ' '..='/');
    rest.next().filter(|c| ('@'..='~').contains(c)).map(drop)
}

fn skip_string(rest: &mut Peekable<Chars<'_>>, ends_with_bell: bool) -> Option<()> {
    loop {
        match rest.next()? {
            STRING_TERMINATOR => return Some(()),
            BELL if ends_with_bell => return Some(()),
            ESCAPE if rest.peek() == Some(&'\\') => return rest.next().map(drop),
            _ => {}
        }
    }
}

fn skip_while(rest: &mut Peekable<Chars<'_>>, range: std::ops::RangeInclusive<char>) {
    while rest.next_if(|c| range.contains(c)).is_some() {}
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sequences_go_and_text_stays() {
        for (text, expected) in [
            ("plain", "plain"),
            ("\u{1b}[31mred\u{1b}[0m", "red"),
            ("\u{1b}[?2004h$ \u{1b}[1;32mls\u{1b}[K", "$ ls"),
            ("\u{1b}[2 qx", "x"),
            ("\u{9b}31mred", "red"),
            ("\u{1b}]0;title\u{7}x\u{1b}]0;title\u{1b}\\y", "xy"),
            ("\u{1b}P1$r0m\u{1b}\\x\u{1b}_a\u{9c}y", "xy"),
            ("\u{1b}(B\u{1b}=\u{1b}7x\u{1b}M", "x"),
            ("\u{1b}OAx", "x"),
            ("\u{85}\u{7}\u{8}\u{0}", "\u{7}\u{8}\u{0}"),
            ("À é \u{fffd} 漢", "À é \u{fffd} 漢"),
            ("", ""),
        ] {
            assert_eq!(strip(text).as_deref(), Some(expected), "{text:?}");
        }
    }

    #[test]
    fn text_with_a_sequence_that_is_none_is_left_alone() {
        for text in [
            "\u{1b}",
            "x\u{1b}[31",
            "\u{1b}[3\u{1}m",
            "\u{1b}]0;title",
            "\u{1b}P\u{7}",
            "\u{1b}(",
            "\u{1b}é",
            "\u{1b}N",
        ] {
            assert_eq!(strip(text), None, "{text:?}");
        }
    }
}

//! Text for people: columns, durations, and nothing that a terminal would obey.

use std::fmt::Write as _;

use crate::protocol::wire::local::Time;

/// Rows as columns, two spaces between them. The last column is as wide as it is.
pub(super) fn columns(rows: &[Vec<String>]) -> String {
    let rows: Vec<Vec<String>> = rows
        .iter()
        .map(|row| row.iter().map(|cell| printable(cell)).collect())
        .collect();
    let width = |column: usize| {
        let cells = rows.iter().filter(|row| row.len() > column + 1);
        let lengths = cells.map(|row| row[column].chars().count());
        lengths.max().unwrap_or_default()
    };
    let mut text = String::new();
    for row in &rows {
        let mut line = String::new();
        for (column, cell) in row.iter().enumerate() {
            if column + 1 == row.len() {
                line.push_str(cell);
            } else {
                let _ = write!(line, "{cell:width$}  ", width = width(column));
            }
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

/// Text from elsewhere without what a terminal would obey.
pub(super) fn printable(text: &str) -> String {
    text.chars()
        .map(|c| if c.is_control() { '?' } else { c })
        .collect()
}

/// The time from `since` to `now`, in at most two units.
pub(super) fn age(since: Time, now: Time) -> String {
    let seconds = (now.unix_ms() - since.unix_ms()).max(0) / 1000;
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3600 % 24, seconds / 60 % 60);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds} s"),
        (0, 0, _) => format!("{minutes} min {} s", seconds % 60),
        (0, _, _) => format!("{hours} h {minutes} min"),
        (_, _, _) => format!("{days} d {hours} h"),
    }
}

/// A time to the second.
pub(super) fn moment(time: Time) -> String {
    let text = time.to_string();
    match text.split_once('.') {
        Some((whole, _)) => format!("{whole}Z"),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_longest_cell_and_lines_end_in_no_space() {
        let rows = [vec!["a", "bb", "note"], vec!["long", "b", ""]]
            .map(|row| row.into_iter().map(str::to_owned).collect());

        assert_eq!(columns(&rows), "a     bb  note\nlong  b\n");
    }

    #[test]
    fn escape_sequences_do_not_reach_the_terminal() {
        let rows = [vec!["\u{1b}[2Jalice\n".to_owned()]];

        assert_eq!(columns(&rows), "?[2Jalice?\n");
    }

    #[test]
    fn ages_are_told_in_two_units() {
        let from = Time::from_unix_ms(1_000_000);
        for (seconds, text) in [
            (0, "0 s"),
            (59, "59 s"),
            (61, "1 min 1 s"),
            (3700, "1 h 1 min"),
            (90_000, "1 d 1 h"),
            (-5, "0 s"),
        ] {
            let now = Time::from_unix_ms(1_000_000 + seconds * 1000);
            assert_eq!(age(from, now), text);
        }
        assert_eq!(moment(Time::from_unix_ms(0)), "1970-01-01T00:00:00Z");
    }
}

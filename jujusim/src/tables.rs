//! Tables with columns of equal width.

use std::fmt::Write as _;

/// Rows of cells, the header first.
pub(crate) struct Table {
    rows: Vec<Vec<String>>,
    /// The right-aligned columns.
    right: &'static [usize],
}

impl Table {
    pub(crate) fn new(header: &[&str]) -> Table {
        Table { rows: vec![header.iter().map(|&cell| cell.to_owned()).collect()], right: &[] }
    }

    pub(crate) fn of(rows: Vec<Vec<String>>) -> Table {
        Table { rows, right: &[] }
    }

    pub(crate) fn align_right(mut self, columns: &'static [usize]) -> Table {
        self.right = columns;
        self
    }

    pub(crate) fn push(&mut self, row: Vec<String>) {
        self.rows.push(row);
    }

    /// Rewrites every cell; call it before the widths are computed.
    pub(crate) fn rewrite(&mut self, mut rewrite: impl FnMut(&str) -> String) {
        for cell in self.rows.iter_mut().flatten() {
            *cell = rewrite(cell);
        }
    }

    pub(crate) fn text(&self) -> String {
        let columns = self.rows.iter().map(Vec::len).max().unwrap_or(0);
        let width = |column: usize| {
            let cells = self.rows.iter().filter_map(|row| row.get(column));
            cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
        };
        let widths: Vec<usize> = (0..columns).map(width).collect();
        let mut text = String::new();
        for row in &self.rows {
            let cells = row.iter().zip(&widths).enumerate().map(|(column, (cell, width))| {
                // Not `{cell:<width$}`: it panics from 65 536 on.
                let blanks = " ".repeat(width.saturating_sub(cell.chars().count()));
                if self.right.contains(&column) { blanks + cell } else { format!("{cell}{blanks}") }
            });
            let _ = writeln!(text, "{}", cells.collect::<Vec<_>>().join("  ").trim_end());
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells_are_aligned_however_long_they_are() {
        let long = "é".repeat(70_000);
        let mut table = Table::new(&["App", "N"]).align_right(&[1]);
        table.push(vec![String::new(), "10".to_owned()]);
        table.push(vec![long.clone(), "2".to_owned()]);
        let blanks = " ".repeat(70_000);
        let expected = format!("App{}   N\n{blanks}  10\n{long}   2\n", &blanks[3..]);
        assert!(table.text() == expected, "{:.80}", table.text());
    }
}

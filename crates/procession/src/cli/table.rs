//! Aligned columns under a header, and pairs of name and value.
//!
//! Nothing is wrapped or cut: a line of a table is a line for `grep`, in a pipe as on a
//! terminal. Widths are those a terminal shows, so Chinese text stays in its column.

use comfy_table::presets::NOTHING;
use comfy_table::{ContentArrangement, Table as Layout};

use super::paint::Style;
use super::plain;

/// Rows of text, laid out by display width.
#[derive(Debug)]
pub(super) struct Table {
    header: Vec<&'static str>,
    rows: Vec<Vec<Cell>>,
}

/// One text of a row and how it looks.
#[derive(Debug)]
pub(super) struct Cell {
    text: String,
    style: Style,
}

impl Cell {
    /// `text` may have been written by others: what controls a terminal is removed.
    pub(super) fn new(text: impl AsRef<str>) -> Self {
        Cell { text: plain::line(text.as_ref()), style: Style::Plain }
    }

    pub(super) fn styled(self, style: Style) -> Self {
        Cell { style, ..self }
    }
}

impl Table {
    /// With these words over the columns; without any there is no header.
    pub(super) fn new(header: impl Into<Vec<&'static str>>) -> Self {
        Table { header: header.into(), rows: Vec::new() }
    }

    pub(super) fn row(&mut self, cells: impl IntoIterator<Item = Cell>) {
        self.rows.push(cells.into_iter().collect());
    }

    /// A line for each row, with colour if `colour`.
    pub(super) fn lines(&self, colour: bool) -> Vec<String> {
        let mut layout = Layout::new();
        layout.load_style(NOTHING).set_content_arrangement(ContentArrangement::Disabled);
        let heading: Vec<Cell> = self.header.iter().map(|word| Cell::new(word).styled(Style::Bold)).collect();
        let rows: Vec<&Vec<Cell>> =
            Some(&heading).filter(|heading| !heading.is_empty()).into_iter().chain(&self.rows).collect();
        for row in &rows {
            layout.add_row(row.iter().map(|cell| cell.text.as_str()));
        }
        layout.column_iter_mut().for_each(|column| {
            column.set_padding((0, 2));
        });
        layout.lines().zip(rows).map(|(line, row)| painted(line.trim_end(), row, colour)).collect()
    }
}

/// The layout knows no colours, so they are put around the cells it has placed: between
/// two cells there are only spaces.
fn painted(line: &str, row: &[Cell], colour: bool) -> String {
    let mut text = String::with_capacity(line.len());
    let mut rest = line;
    for cell in row {
        if let Some(at) = rest.find(&cell.text) {
            text.push_str(&rest[..at]);
            text.push_str(&cell.style.paint(&cell.text, colour));
            rest = &rest[at + cell.text.len()..];
        }
    }
    text + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    fn example() -> Table {
        let mut table = Table::new(["ID", "STATE", "NOTE"]);
        table.row([
            Cell::new("1"),
            Cell::new("failed").styled(Style::Bad),
            Cell::new("\u{4e2d}\u{6587}\x1b[2J x"),
        ]);
        table.row([Cell::new("12345678"), Cell::new(""), Cell::new("1")]);
        table
    }

    #[test]
    fn columns_are_aligned_and_lines_have_no_tail() {
        assert_eq!(
            example().lines(false),
            ["ID        STATE   NOTE", "1         failed  \u{4e2d}\u{6587} x", "12345678          1"]
        );
    }

    #[test]
    fn colour_changes_no_alignment() {
        let lines = example().lines(true);
        assert_eq!(lines[1], "1         \x1b[31mfailed\x1b[0m  \u{4e2d}\u{6587} x");
    }

    #[test]
    fn pairs_need_no_header() {
        let mut table = Table::new([]);
        table.row([Cell::new("task"), Cell::new("hello")]);
        assert_eq!(table.lines(false), ["task  hello"]);
    }
}

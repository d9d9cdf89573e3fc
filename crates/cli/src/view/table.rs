//! Tables: columns two blanks apart, as wide as their widest cell, the last one unpadded.

/// Characters of a text that take a column on a terminal: escape codes for colours take none.
pub(crate) fn width(text: &str) -> usize {
    let mut count = 0;
    let mut in_code = false;
    for c in text.chars() {
        match c {
            '\u{1b}' => in_code = true,
            'm' if in_code => in_code = false,
            _ if in_code => {}
            _ => count += 1,
        }
    }
    count
}

/// A table under its headings.
#[derive(Clone, Debug, Default)]
pub(crate) struct Table {
    rows: Vec<Vec<String>>,
    least: Vec<usize>,
}

impl Table {
    /// A table with these headings.
    pub(crate) fn new(headings: &[&str]) -> Self {
        Self {
            rows: vec![headings.iter().map(|text| (*text).to_owned()).collect()],
            least: Vec::new(),
        }
    }

    /// Pads columns to at least these widths, also the last one.
    pub(crate) fn at_least(mut self, widths: Vec<usize>) -> Self {
        self.least = widths;
        self
    }

    /// Adds a row.
    pub(crate) fn row(&mut self, cells: Vec<String>) {
        self.rows.push(cells);
    }

    fn widths(&self) -> Vec<usize> {
        let mut widths = self.least.clone();
        for row in &self.rows {
            for (column, cell) in row.iter().enumerate() {
                match widths.get_mut(column) {
                    Some(widest) => *widest = (*widest).max(width(cell)),
                    None => widths.push(width(cell)),
                }
            }
        }
        widths
    }

    /// The lines of the table, without trailing blanks.
    pub(crate) fn lines(&self) -> Vec<String> {
        let widths = self.widths();
        self.rows.iter().map(|row| line(row, &widths)).collect()
    }

    /// The whole table, each line ended.
    pub(crate) fn text(&self) -> String {
        ended(&self.lines())
    }

    /// One more line in the widths that the table has at present.
    pub(crate) fn further(&self, cells: &[String]) -> String {
        line(cells, &self.widths())
    }
}

/// Lines as a text, each ended.
pub(crate) fn ended<T: AsRef<str>>(lines: &[T]) -> String {
    let mut text = String::new();
    for line in lines {
        text.push_str(line.as_ref());
        text.push('\n');
    }
    text
}

fn line(cells: &[String], widths: &[usize]) -> String {
    let mut line = String::new();
    for (column, cell) in cells.iter().enumerate() {
        if column > 0 {
            line.push_str("  ");
        }
        line.push_str(cell);
        let padding = widths
            .get(column)
            .map_or(0, |wide| wide.saturating_sub(width(cell)));
        line.push_str(&" ".repeat(padding));
    }
    line.truncate(line.trim_end().len());
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn colours_do_not_widen_a_column() {
        let mut table = Table::new(&["A", "B"]);
        table.row(vec!["\u{1b}[32mok\u{1b}[0m".to_owned(), "x".to_owned()]);
        assert_eq!(table.text(), "A   B\n\u{1b}[32mok\u{1b}[0m  x\n");
    }

    #[test]
    fn columns_have_at_least_their_width() {
        let table = Table::new(&["A", "B"]).at_least(vec![4, 3]);
        assert_eq!(table.further(&["x".to_owned(), "y".to_owned()]), "x     y");
    }
}

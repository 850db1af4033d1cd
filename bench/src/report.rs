//! Medians of all repetitions, as a table for people and as JSON for programs.

use std::fmt::Write;

use serde_json::{Value, json};

use crate::arguments::Wish;
use crate::bench::Size;
use crate::case::Case;
use crate::figure::Figure;
use crate::machine;
use crate::sample::Sample;

/// Everything measured so far.
pub(crate) struct Report {
    size: Size,
    repetitions: usize,
    rows: Vec<Row>,
    busy: Vec<f64>,
}

/// A figure over all repetitions.
struct Row {
    case: &'static Case,
    figures: Vec<Figure>,
}

impl Report {
    /// An empty one.
    pub(crate) fn new(wish: &Wish) -> Self {
        Self { size: wish.size, repetitions: wish.repetitions, rows: Vec::new(), busy: Vec::new() }
    }

    /// Adds what one repetition of a case gave. `busy`: the machine's load by others before it.
    pub(crate) fn add(&mut self, case: &'static Case, busy: f64, figures: Vec<Figure>) {
        self.busy.push(busy);
        for figure in figures {
            let same = |row: &&mut Row| row.case.name == case.name && row.figures[0].name == figure.name;
            match self.rows.iter_mut().find(same) {
                Some(row) => row.figures.push(figure),
                None => self.rows.push(Row { case, figures: vec![figure] }),
            }
        }
    }

    /// For people.
    pub(crate) fn table(&self) -> String {
        let mut text = String::from(
            "\n| case | figure | median | unit | min..max | bare limit of the same run | ratio | target | met |\n\
             |---|---|---|---|---|---|---|---|---|\n",
        );
        for row in &self.rows {
            row.line(&mut text).expect("a string takes everything");
        }
        let busy = Sample::new(self.busy.clone());
        let _ = writeln!(
            text,
            "\n{} repetitions; others kept the machine {:.0} % busy (median, at most {:.0} %){}",
            self.repetitions,
            busy.median() * 100.0,
            busy.largest() * 100.0,
            if self.size == Size::Smoke { "; smoke: these figures mean nothing" } else { "" },
        );
        text
    }

    /// For programs: every repetition's numbers as they came.
    pub(crate) fn json(&self) -> String {
        let rows: Vec<Value> = self.rows.iter().map(Row::json).collect();
        let report = json!({
            "machine": machine::shape(),
            "smoke": self.size == Size::Smoke,
            "repetitions": self.repetitions,
            "busy_before": self.busy,
            "figures": rows,
        });
        format!("{report:#}\n")
    }
}

impl Row {
    fn values(&self) -> Sample {
        Sample::new(self.figures.iter().map(|figure| figure.value).collect())
    }

    /// Of the ratios, each of one run: not the ratio of medians.
    fn ratio(&self) -> Option<f64> {
        let ratios: Option<Vec<f64>> = self.figures.iter().map(Figure::ratio).collect();
        ratios.map(|ratios| Sample::new(ratios).median())
    }

    fn limit(&self) -> Option<(&'static str, f64)> {
        let limits: Option<Vec<f64>> = self.figures.iter().map(|f| Some(f.limit?.value)).collect();
        Some((self.figures[0].limit?.name, Sample::new(limits?).median()))
    }

    fn met(&self) -> Option<bool> {
        Some(self.figures[0].target?.met(self.values().median(), self.ratio()))
    }

    fn line(&self, text: &mut String) -> std::fmt::Result {
        let (values, first) = (self.values(), &self.figures[0]);
        let limit = self.limit().map_or(String::new(), |(name, value)| format!("{} {name}", short(value)));
        writeln!(
            text,
            "| {} {} | {} | {} | {} | {}..{} | {limit} | {} | {} | {} |",
            self.case.name,
            self.case.target,
            first.name,
            short(values.median()),
            first.unit,
            short(values.smallest()),
            short(values.largest()),
            self.ratio().map(|ratio| format!("{ratio:.2}")).unwrap_or_default(),
            first.target.map(|target| target.text()).unwrap_or_default(),
            self.met().map(|met| if met { "yes" } else { "no" }).unwrap_or_default(),
        )
    }

    fn json(&self) -> Value {
        let first = &self.figures[0];
        json!({
            "case": self.case.name,
            "target_id": self.case.target,
            "figure": first.name,
            "unit": first.unit,
            "median": self.values().median(),
            "values": self.figures.iter().map(|figure| figure.value).collect::<Vec<_>>(),
            "limit": first.limit.map(|limit| limit.name),
            "limits": self.figures.iter().filter_map(|f| Some(f.limit?.value)).collect::<Vec<_>>(),
            "ratio": self.ratio(),
            "target": first.target.map(|target| target.text()),
            "met": self.met(),
        })
    }
}

/// Three or four digits that say something.
fn short(value: f64) -> String {
    match value.abs() {
        large if large >= 1000.0 => format!("{value:.0}"),
        medium if medium >= 10.0 => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}

//! Numbers that were measured, in order.

/// Sorted values.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Sample(Vec<f64>);

impl Sample {
    /// Sorts.
    pub(crate) fn new(mut values: Vec<f64>) -> Self {
        values.sort_by(f64::total_cmp);
        Self(values)
    }

    /// The smallest value that `share` of all do not exceed; not a number if there is none.
    pub(crate) fn quantile(&self, share: f64) -> f64 {
        let rank = (share * self.0.len() as f64).ceil() as usize;
        self.0.get(rank.max(1) - 1).copied().unwrap_or(f64::NAN)
    }

    /// The middle one, or between the two in the middle.
    pub(crate) fn median(&self) -> f64 {
        let (half, odd) = (self.0.len() / 2, self.0.len() % 2 == 1);
        if odd || self.0.is_empty() { self.quantile(0.5) } else { (self.0[half - 1] + self.0[half]) / 2.0 }
    }

    pub(crate) fn smallest(&self) -> f64 {
        self.quantile(0.0)
    }

    pub(crate) fn largest(&self) -> f64 {
        self.quantile(1.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles() {
        let sample = Sample::new((1..=100).rev().map(f64::from).collect());
        assert_eq!(sample.quantile(0.5), 50.0);
        assert_eq!(sample.quantile(0.99), 99.0);
        assert_eq!((sample.smallest(), sample.median(), sample.largest()), (1.0, 50.5, 100.0));
        assert!(Sample::new(vec![]).median().is_nan());
    }
}

//! One measured number, the bare limit beside it, and what is wanted of it.

/// A number of one repetition.
#[derive(Clone, Debug)]
pub(crate) struct Figure {
    pub(crate) name: &'static str,
    pub(crate) unit: &'static str,
    pub(crate) value: f64,
    pub(crate) limit: Option<Limit>,
    pub(crate) target: Option<Target>,
}

/// What the machine can do bare, measured in the same repetition.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limit {
    pub(crate) name: &'static str,
    pub(crate) value: f64,
}

/// What is wanted.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Target {
    /// Of value to limit.
    RatioAtLeast(f64),
    /// Of value to limit.
    RatioAtMost(f64),
    /// Of the value.
    AtMost(f64),
}

impl Figure {
    /// A number alone.
    pub(crate) fn new(name: &'static str, unit: &'static str, value: f64) -> Self {
        Self { name, unit, value, limit: None, target: None }
    }

    /// Beside the bare limit.
    pub(crate) fn beside(mut self, name: &'static str, value: f64) -> Self {
        self.limit = Some(Limit { name, value });
        self
    }

    /// With a target.
    pub(crate) fn wanted(mut self, target: Target) -> Self {
        self.target = Some(target);
        self
    }

    /// To the limit.
    pub(crate) fn ratio(&self) -> Option<f64> {
        self.limit.map(|limit| self.value / limit.value)
    }
}

impl Target {
    /// Whether a value, and its ratio to its limit, are as wanted.
    pub(crate) fn met(self, value: f64, ratio: Option<f64>) -> bool {
        match self {
            Target::RatioAtLeast(least) => ratio.is_some_and(|ratio| ratio >= least),
            Target::RatioAtMost(most) => ratio.is_some_and(|ratio| ratio <= most),
            Target::AtMost(most) => value <= most,
        }
    }

    /// For people.
    pub(crate) fn text(self) -> String {
        match self {
            Target::RatioAtLeast(least) => format!("ratio >= {least}"),
            Target::RatioAtMost(most) => format!("ratio <= {most}"),
            Target::AtMost(most) => format!("<= {most}"),
        }
    }
}

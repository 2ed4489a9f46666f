//! What was measured, and whether it is what was aimed at.

use std::process::ExitCode;
use std::time::Duration;

/// Prints figures and counts the targets that were missed.
pub struct Report {
    is_check: bool,
    missed: usize,
}

impl Report {
    pub fn new(is_check: bool) -> Self {
        Self {
            is_check,
            missed: 0,
        }
    }

    pub fn heading(&self, text: &str) {
        println!("\n{text}");
    }

    /// A figure without a target.
    pub fn note(&self, what: &str, value: impl std::fmt::Display) {
        println!("  {what:<44} {value}");
    }

    /// A figure that hangs on the machine; missing its target fails nothing.
    pub fn figure(&mut self, what: &str, value: f64, unit: &str, target: Target) {
        let verdict = if target.is_met(value) {
            "met"
        } else {
            "MISSED"
        };
        println!("  {what:<44} {value:.2} {unit} (target {target}: {verdict})");
    }

    /// A figure that holds on any machine.
    pub fn law(&mut self, what: &str, value: f64, unit: &str, target: Target) {
        self.figure(what, value, unit, target);
        self.missed += usize::from(!target.is_met(value));
    }

    pub fn end(self) -> ExitCode {
        if self.is_check && self.missed > 0 {
            println!(
                "\n{} of the targets that hold on any machine missed",
                self.missed
            );
            return ExitCode::FAILURE;
        }
        ExitCode::SUCCESS
    }
}

/// What a figure shall be.
#[derive(Clone, Copy)]
pub enum Target {
    AtLeast(f64),
    AtMost(f64),
}

impl Target {
    fn is_met(self, value: f64) -> bool {
        match self {
            Self::AtLeast(least) => value >= least,
            Self::AtMost(most) => value <= most,
        }
    }
}

impl std::fmt::Display for Target {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::AtLeast(least) => write!(f, "≥ {least}"),
            Self::AtMost(most) => write!(f, "≤ {most}"),
        }
    }
}

/// Durations of the same thing, in order.
pub struct Samples(Vec<Duration>);

impl Samples {
    pub fn new(mut samples: Vec<Duration>) -> Self {
        samples.sort_unstable();
        Self(samples)
    }

    /// The value that `percent` of the samples do not exceed, in milliseconds.
    pub fn percentile_ms(&self, percent: usize) -> f64 {
        let index = (self.0.len() * percent / 100).min(self.0.len() - 1);
        self.0[index].as_secs_f64() * 1000.0
    }

    pub fn median_ms(&self) -> f64 {
        self.percentile_ms(50)
    }
}

/// Megabytes (10^6) in a second.
pub fn mb_per_s(bytes: u64, took: Duration) -> f64 {
    bytes as f64 / 1e6 / took.as_secs_f64()
}

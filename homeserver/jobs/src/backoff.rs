//! The pause after failures. Must not read a clock or a source of randomness: both are arguments.

use std::time::Duration;

/// The first pause, doubled with each further failure up to the longest one, times 0.8 to 1.2: jobs that failed
/// together are not repeated together. `random` is any number.
#[must_use]
pub fn pause((first, longest): (Duration, Duration), attempts: u32, random: u64) -> Duration {
    let doublings = attempts.saturating_sub(1).min(30);
    let pause = first.saturating_mul(1 << doublings).min(longest);
    let fifth = u64::try_from(pause.as_millis() / 5).unwrap_or(u64::MAX);
    let spread = Duration::from_millis(random % fifth.saturating_mul(2).saturating_add(1));
    pause
        .saturating_sub(Duration::from_millis(fifth))
        .saturating_add(spread)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_the_longest_and_are_spread() {
        let limits = (Duration::from_secs(10), Duration::from_secs(60));
        for (attempts, seconds) in [(0, 10), (1, 10), (2, 20), (3, 40), (4, 60), (40, 60), (u32::MAX, 60)] {
            let all: Vec<Duration> = (0..30_000).map(|random| pause(limits, attempts, random)).collect();
            let expected = Duration::from_secs(seconds);
            assert_eq!(all.iter().min(), Some(&(expected * 4 / 5)), "{attempts}");
            assert_eq!(all.iter().max(), Some(&(expected * 6 / 5)), "{attempts}");
        }
    }
}

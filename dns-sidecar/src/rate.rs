// SPDX-License-Identifier: MIT OR Apache-2.0
//! How much one network may ask: a bucket of tokens for each /24 and /56.
//!
//! A forged source address makes a responder send to a victim; a bounded rate bounds what the victim gets. Over its rate a
//! network gets every second reply cut to nothing, with the word that it was cut: a real client comes back over TCP, which
//! cannot be forged, and the rest is dropped. 4,096 buckets of 12 bytes, whoever asks; networks that share one share its
//! rate. Time is handed in. Pure.

use std::net::IpAddr;

/// The rates of one worker's clients.
#[derive(Debug)]
pub(crate) struct Limiter {
    buckets: Box<[Bucket]>,
    per_second: u32,
    burst: u32,
    seed: u64,
}

#[derive(Clone, Copy, Debug)]
struct Bucket {
    tokens: u32,
    at_milliseconds: u32,
    /// Whether the last reply over the rate was cut: then the next is dropped.
    was_cut: bool,
}

/// What is to become of a reply.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Rate {
    /// It is sent.
    Within,
    /// It is sent without its records, and says so.
    Cut,
    /// It is not sent.
    Over,
}

impl Limiter {
    /// Buckets that are full.
    pub(crate) fn new(per_second: u32, burst: u32, seed: u64) -> Self {
        let full = Bucket {
            tokens: burst,
            at_milliseconds: 0,
            was_cut: false,
        };
        Self {
            buckets: vec![full; BUCKETS].into(),
            per_second,
            burst,
            seed,
        }
    }

    /// Takes tokens for a reply to this address, `now` counted from any fixed moment.
    pub(crate) fn take(&mut self, source: IpAddr, cost: u32, now_milliseconds: u32) -> Rate {
        let at = place(network(source), self.seed);
        let Some(bucket) = self.buckets.get_mut(at) else {
            return Rate::Within;
        };
        let elapsed = u64::from(now_milliseconds.wrapping_sub(bucket.at_milliseconds));
        let earned = elapsed * u64::from(self.per_second) / 1_000;
        if earned > 0 {
            let tokens = u64::from(bucket.tokens) + earned;
            bucket.tokens = u32::try_from(tokens).unwrap_or(u32::MAX).min(self.burst);
            bucket.at_milliseconds = now_milliseconds;
        }
        if let Some(left) = bucket.tokens.checked_sub(cost) {
            bucket.tokens = left;
            return Rate::Within;
        }
        bucket.was_cut = !bucket.was_cut;
        if bucket.was_cut {
            Rate::Cut
        } else {
            Rate::Over
        }
    }
}

/// The network of an address: a /24, or a /56, which is what a site has.
fn network(source: IpAddr) -> u64 {
    match source.to_canonical() {
        IpAddr::V4(v4) => u64::from(v4.to_bits() >> 8),
        IpAddr::V6(v6) => {
            let [first @ .., _, _, _, _, _, _, _, _] = v6.octets();
            u64::from_be_bytes(first) >> 8 | 1 << 63
        }
    }
}

/// Which bucket a network has; the seed keeps strangers from choosing whose rate they use up.
fn place(network: u64, seed: u64) -> usize {
    let mixed = (network ^ seed).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    usize::try_from(mixed >> 52).unwrap_or(0)
}

const BUCKETS: usize = 4_096;

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn over_its_rate_a_network_gets_every_second_reply_cut_and_the_rest_not() {
        let mut limiter = Limiter::new(1_000, 10, 7);
        for _ in 0..10 {
            assert_eq!(limiter.take(ip("10.0.0.1"), 1, 0), Rate::Within);
        }
        let over: Vec<_> = (0..4)
            .map(|_| limiter.take(ip("10.0.0.99"), 1, 0))
            .collect();
        assert_eq!(over, [Rate::Cut, Rate::Over, Rate::Cut, Rate::Over]);
        assert_eq!(
            limiter.take(ip("10.0.1.1"), 1, 0),
            Rate::Within,
            "another network"
        );
        assert_eq!(
            limiter.take(ip("::ffff:10.0.0.1"), 1, 0),
            Rate::Cut,
            "the same one"
        );
        assert_eq!(
            limiter.take(ip("10.0.0.1"), 5, 5),
            Rate::Within,
            "5 ms earn 5 tokens"
        );
        assert_eq!(limiter.take(ip("10.0.0.1"), 1, 5), Rate::Over);
    }

    #[test]
    fn a_bucket_holds_no_more_than_its_burst_and_time_may_wrap() {
        let mut limiter = Limiter::new(1_000, 10, 7);
        let source = ip("2001:db8:1:200::1");
        assert_eq!(limiter.take(source, 10, u32::MAX - 1), Rate::Within);
        assert_eq!(
            limiter.take(ip("2001:db8:1:2ff::9"), 3, 1),
            Rate::Within,
            "3 ms later, the same /56"
        );
        assert_eq!(
            limiter.take(source, 11, 3_600_000),
            Rate::Cut,
            "never more than the burst"
        );
    }
}

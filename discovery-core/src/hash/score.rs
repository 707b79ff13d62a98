// SPDX-License-Identifier: MIT OR Apache-2.0
//! The logarithm of the weighted scores, in integers alone, so that it is the same on every CPU.
//!
//! `f64::ln` belongs to the platform's libm and may differ in its last bit between targets; here a table made when the crate
//! is compiled and linear between its 1,024 steps decides. It falls strictly where the hash grows by 2⁻⁴⁰ of itself, and
//! its error is below 2·10⁻⁷.

/// −log₂((x + 1) / 2⁶⁴) with 48 bits behind the point: 64 for x = 0, down to 0 for the greatest.
pub(super) fn negative_log2(x: u64) -> u64 {
    let Some(x) = x.checked_add(1) else {
        return 0;
    };
    let zeros = x.leading_zeros();
    // What follows the leading one, moved to the top.
    let fraction = (x << zeros) << 1;
    let step = usize::try_from(fraction >> (64 - STEP_BITS)).unwrap_or(0);
    let rest = fraction << STEP_BITS >> (64 - REST_BITS);
    let (low, high) = (LOG2[step], LOG2[step + 1]);
    let log2 = low + (((high - low) * rest) >> REST_BITS);
    (u64::from(zeros + 1) << POINT) - log2
}

/// log₂(1 + i/1024), by squaring: the bits of a logarithm one after the other.
const LOG2: [u64; STEPS + 1] = {
    let mut table = [0; STEPS + 1];
    let mut step = 0;
    while step <= STEPS {
        // Between 1 and 2 with 62 bits behind the point; 2 itself for the last.
        let mut x = (1_u128 << 62) + ((step as u128) << (62 - STEP_BITS));
        let mut log = 0_u64;
        if step == STEPS {
            log = 1 << POINT;
        } else {
            let mut bit = 0;
            while bit < POINT {
                x = (x * x) >> 62;
                log <<= 1;
                if x >> 63 == 1 {
                    x >>= 1;
                    log |= 1;
                }
                bit += 1;
            }
        }
        table[step] = log;
        step += 1;
    }
    table
};

const STEP_BITS: u32 = 10;
const STEPS: usize = 1 << STEP_BITS;
/// Bits between two steps that count; more would overflow the product.
const REST_BITS: u32 = 24;
const POINT: u32 = 48;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn powers_of_two_have_whole_logarithms() {
        assert_eq!(negative_log2(u64::MAX), 0);
        assert_eq!(negative_log2(0), 64 << POINT);
        assert_eq!(negative_log2((1 << 63) - 1), 1 << POINT);
        assert_eq!(negative_log2((1 << 10) - 1), 54 << POINT);
    }

    proptest! {
        #[test]
        #[expect(clippy::cast_precision_loss, reason = "compared with the platform's logarithm within its error")]
        fn it_is_the_logarithm(x: u64) {
            let expected = 64.0 - (x as f64 + 1.0).log2();
            let ours = negative_log2(x) as f64 / 2_f64.powi(48);
            prop_assert!((ours - expected).abs() < 3e-7, "{ours} {expected}");
        }

        #[test]
        fn it_never_grows(x: u64, more: u64) {
            prop_assert!(negative_log2(x.saturating_add(more)) <= negative_log2(x));
        }
    }
}

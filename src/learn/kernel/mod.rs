//! The learner's inner loops: everything that costs time, and nothing else.
//!
//! Contract of every function:
//! - called from the pinned thread: no allocation, no lock, no panic on buffers of the shapes stated;
//! - numbers lie in blocks of [`LANES`]: a matrix is `[rows][blocks]`, row after row, the last block of a row filled up with
//!   zeros; batches are `[samples][blocks of units]`. A layer's weights are `[inputs][outputs]`, so that a row is what one
//!   input unit contributes;
//! - what [`Live`] leaves out of a gradient is neither read nor written, and may hold anything;
//! - the same input gives the same bits on the same machine.
//!
//! The loops are written once, over any [`Vector`], and compiled for each instruction set. What the processor
//! has is found out at run time ([`InstructionSet::best`]). All `unsafe` of the learner is in this folder: the instructions
//! of `x86`, and the call of what is compiled for them, in the macro below.
//!
//! | file | holds |
//! |---|---|
//! | `lanes` | sixteen numbers at once, in plain Rust |
//! | `x86` | the same in vector registers |
//! | `dense` | a layer forward and backward |
//! | `rates` | the memories' part: training signal and learning rates |

#![allow(unsafe_code)]
// A loop's arguments are the buffers that it goes over.
#![allow(clippy::too_many_arguments)]

use std::fmt;

/// Makes of an inlined body one function per instruction set, and one that chooses among them.
///
/// A body's last parameters are the vector, and how many blocks may be held as sums in registers.
macro_rules! dispatched {
    ($(#[$doc:meta])* fn $name:ident = $body:ident, ($($arg:ident: $type:ty),* $(,)?) $(-> $result:ty)?) => {
        $(#[$doc])*
        // Not inlined into the loops that call it for what is rare: they need the registers.
        #[inline(never)]
        pub(in crate::learn) fn $name<T: Real>(set: InstructionSet, $($arg: $type),*) $(-> $result)? {
            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx512f,avx512vl,avx512dq,avx512bw,avx2,fma,bmi1,bmi2,popcnt")]
            fn avx512<T: Real>($($arg: $type),*) $(-> $result)? {
                $body::<T, T::Avx512, 20>($($arg),*)
            }
            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx2,fma,bmi1,bmi2,popcnt")]
            fn avx2<T: Real>($($arg: $type),*) $(-> $result)? {
                $body::<T, T::Avx2, 5>($($arg),*)
            }
            match set.0 {
                // SAFETY: an `InstructionSet` of this level comes from `available` alone, which found the features.
                #[cfg(target_arch = "x86_64")]
                Level::Avx512 => unsafe { avx512($($arg),*) },
                // SAFETY: as above.
                #[cfg(target_arch = "x86_64")]
                Level::Avx2 => unsafe { avx2($($arg),*) },
                Level::Neon => $body::<T, lanes::Array<T, true>, 5>($($arg),*),
                Level::Portable => $body::<T, lanes::Array<T, false>, 2>($($arg),*),
            }
        }
    };
}

mod dense;
mod lanes;
mod rates;
#[cfg(target_arch = "x86_64")]
mod x86;

pub(super) use dense::{backward, backward_output, forward, output, weights_gradient};
pub(super) use lanes::{Array, LANES, Lanes, Vector, blocks_for, reached};
pub(super) use rates::{descend, descend_along, descend_at, learn, rate};

/// What of a matrix `[rows][blocks]` is at hand: rows by a bit each, and of every row the first few blocks.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Live {
    /// Bit `i % 16` of word `i / 16`: row `i`.
    pub(super) rows: Vec<u16>,
    /// How many blocks of every row.
    pub(super) blocks: usize,
}

impl Live {
    /// All of a matrix.
    pub(super) fn all(rows: usize, blocks: usize) -> Live {
        let words = (0..blocks_for(rows)).map(|word| match rows - word * LANES {
            left if left < LANES => (1 << left) - 1,
            _ => u16::MAX,
        });
        Live { rows: words.collect(), blocks }
    }
}

/// What a kernel says of a gradient that it wrote.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Extent<T> {
    /// How many numbers are not zero.
    pub(super) moved: u32,
    /// What none's magnitude is above; before clipping.
    pub(super) most: T,
}

/// How a row of numbers lies in blocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Width {
    /// How many blocks.
    pub(super) blocks: usize,
    /// Whether the first half of the last one holds all that there is in it.
    pub(super) half: bool,
}

/// What comes next of a row: so many whole blocks, and half a one behind them.
enum Tile {
    Whole(usize),
    WithHalf(usize),
}

impl Width {
    /// That of `units` numbers.
    pub(super) fn of(units: usize) -> Width {
        Width { blocks: blocks_for(units), half: (1..=LANES / 2).contains(&(units % LANES)) }
    }

    /// How many of the first `live` blocks are whole, and whether half a one follows.
    #[inline(always)]
    fn split(self, live: usize) -> (usize, bool) {
        let half = self.half && live == self.blocks;
        (live - usize::from(half), half)
    }

    /// What is left of the first `live` blocks from block `from` on.
    #[inline(always)]
    fn tile(self, from: usize, live: usize) -> Tile {
        match self.split(live) {
            (whole, true) => Tile::WithHalf(whole - from),
            (whole, false) => Tile::Whole(whole - from),
        }
    }
}

/// A vector instruction set that this processor has.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct InstructionSet(Level);

#[derive(Clone, Copy, PartialEq, Eq)]
enum Level {
    #[cfg(target_arch = "x86_64")]
    Avx512,
    #[cfg(target_arch = "x86_64")]
    Avx2,
    #[cfg_attr(not(target_arch = "aarch64"), allow(dead_code))]
    Neon,
    Portable,
}

impl InstructionSet {
    /// What every processor of this architecture has.
    const PLAIN: InstructionSet =
        InstructionSet(if cfg!(target_arch = "aarch64") { Level::Neon } else { Level::Portable });

    /// Those that this processor has, best first. The last one is what every processor of this architecture can do.
    pub fn available() -> Vec<InstructionSet> {
        let mut levels = vec![];
        #[cfg(target_arch = "x86_64")]
        {
            let avx2 = is_x86_feature_detected!("avx2")
                && is_x86_feature_detected!("fma")
                && is_x86_feature_detected!("bmi1")
                && is_x86_feature_detected!("bmi2")
                && is_x86_feature_detected!("popcnt");
            if avx2
                && is_x86_feature_detected!("avx512f")
                && is_x86_feature_detected!("avx512vl")
                && is_x86_feature_detected!("avx512dq")
                && is_x86_feature_detected!("avx512bw")
            {
                levels.push(Level::Avx512);
            }
            if avx2 {
                levels.push(Level::Avx2);
            }
        }
        #[cfg(target_arch = "aarch64")]
        levels.push(Level::Neon);
        levels.push(Level::Portable);
        levels.into_iter().map(InstructionSet).collect()
    }

    /// The best that this processor has; or, for comparisons, the one that the environment variable `METAGD_KERNEL` names
    /// (`avx512`, `avx2`, `neon`, `portable`), if this processor has it.
    pub fn best() -> InstructionSet {
        let available = Self::available();
        let wanted = std::env::var("METAGD_KERNEL").unwrap_or_default();
        available.iter().copied().find(|set| set.word() == wanted).unwrap_or(available[0])
    }

    /// Its name in `METAGD_KERNEL`.
    pub fn word(self) -> &'static str {
        match self.0 {
            #[cfg(target_arch = "x86_64")]
            Level::Avx512 => "avx512",
            #[cfg(target_arch = "x86_64")]
            Level::Avx2 => "avx2",
            Level::Neon => "neon",
            Level::Portable => "portable",
        }
    }

    /// Its name.
    pub fn name(self) -> &'static str {
        match self.0 {
            #[cfg(target_arch = "x86_64")]
            Level::Avx512 => "AVX-512",
            #[cfg(target_arch = "x86_64")]
            Level::Avx2 => "AVX2 and FMA",
            Level::Neon => "NEON",
            Level::Portable => "portable",
        }
    }
}

impl fmt::Debug for InstructionSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
#[cfg(target_arch = "x86_64")]
pub(super) use x86::{Ymm, Zmm};

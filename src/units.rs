//! Pages and kilobytes, kept apart, with arithmetic that saturates.
//!
//! Device builds abort on overflow, and the numbers come from files that other programs and
//! kernels shape; so the operators here never overflow and never divide by zero.

use std::fmt;
use std::iter::Sum;
use std::ops::Add;
use std::ops::AddAssign;
use std::ops::Sub;

/// The kernel's page size, read once at start: 4, 16 or 64 KiB on the kernels in use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PageSize {
    kib: i64,
}

impl PageSize {
    /// 4 KiB, what most kernels use.
    pub const SMALL: Self = Self { kib: 4 };

    /// The page size of the running kernel.
    #[must_use]
    pub fn of_this_kernel() -> Self {
        Self::from_bytes(rustix::param::page_size())
    }

    /// A page of `bytes` bytes; less than a kilobyte counts as one.
    #[must_use]
    pub fn from_bytes(bytes: usize) -> Self {
        Self { kib: i64::try_from(bytes / 1024).unwrap_or(4).max(1) }
    }

    /// Kilobytes in a page.
    #[must_use]
    pub const fn kib(self) -> i64 {
        self.kib
    }
}

/// A number of pages. Signed, as differences and AOSP's formulas are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Pages(pub i64);

/// A number of kilobytes (1024 bytes), the unit of `/proc/meminfo` and `/proc/PID/status`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Kib(pub i64);

impl Pages {
    /// No pages.
    pub const ZERO: Self = Self(0);

    /// The plain number.
    #[must_use]
    pub const fn get(self) -> i64 {
        self.0
    }

    /// In kilobytes, saturating.
    #[must_use]
    pub const fn to_kib(self, page: PageSize) -> Kib {
        Kib(self.0.saturating_mul(page.kib))
    }
}

impl Kib {
    /// Nothing.
    pub const ZERO: Self = Self(0);

    /// The plain number.
    #[must_use]
    pub const fn get(self) -> i64 {
        self.0
    }

    /// Whole pages, rounded toward zero as AOSP's lmkd does.
    #[must_use]
    pub fn to_pages(self, page: PageSize) -> Pages {
        Pages(self.0.checked_div(page.kib).unwrap_or(0))
    }
}

macro_rules! saturating_ops {
    ($unit:ty) => {
        impl Add for $unit {
            type Output = Self;
            fn add(self, other: Self) -> Self {
                Self(self.0.saturating_add(other.0))
            }
        }
        impl AddAssign for $unit {
            fn add_assign(&mut self, other: Self) {
                *self = *self + other;
            }
        }
        impl Sub for $unit {
            type Output = Self;
            fn sub(self, other: Self) -> Self {
                Self(self.0.saturating_sub(other.0))
            }
        }
        impl Sum for $unit {
            fn sum<I: Iterator<Item = Self>>(all: I) -> Self {
                all.fold(Self(0), Add::add)
            }
        }
        impl fmt::Display for $unit {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

saturating_ops!(Pages);
saturating_ops!(Kib);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arithmetic_saturates_instead_of_aborting() {
        assert_eq!(Pages(i64::MAX) + Pages(1), Pages(i64::MAX));
        assert_eq!(Pages(i64::MIN) - Pages(1), Pages(i64::MIN));
        assert_eq!(Pages(i64::MAX).to_kib(PageSize::SMALL), Kib(i64::MAX));
    }

    #[test]
    fn kilobytes_become_pages_of_any_size_rounded_toward_zero() {
        assert_eq!(Kib(100).to_pages(PageSize::from_bytes(4096)), Pages(25));
        assert_eq!(Kib(100).to_pages(PageSize::from_bytes(16384)), Pages(6));
        assert_eq!(Kib(100).to_pages(PageSize::from_bytes(65536)), Pages(1));
        assert_eq!(Kib(-7).to_pages(PageSize::SMALL), Pages(-1));
    }

    #[test]
    fn a_nonsense_page_size_counts_as_a_kilobyte() {
        assert_eq!(PageSize::from_bytes(0).kib(), 1);
    }
}

//! Everything that happened in a world, as one number.

use std::fmt::{self, Write};

/// A digest of all that was said and done. Two runs of a seed have the same one. It only has to tell
/// two runs apart, nobody forges it: FNV-1a.
#[derive(Clone, Debug)]
pub(super) struct Trace {
    digest: u64,
    /// Whether every line is printed as it happens.
    pub(super) told: bool,
}

impl Default for Trace {
    fn default() -> Self {
        Self { digest: 0xcbf2_9ce4_8422_2325, told: false }
    }
}

impl Trace {
    pub(super) fn line(&mut self, line: fmt::Arguments<'_>) {
        self.write_fmt(line).expect("a digest takes every text");
        self.write_char('\n').expect("a digest takes every text");
        if self.told {
            eprintln!("{line}");
        }
    }

    pub(super) const fn digest(&self) -> u64 {
        self.digest
    }
}

impl Write for Trace {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for byte in text.bytes() {
            self.digest = (self.digest ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
        Ok(())
    }
}

//! Files of the kernel: any text is refused or parsed, without a panic or an overflow.
#![no_main]

use libfuzzer_sys::fuzz_target;
use lmkd::kernel::meminfo;
use lmkd::kernel::pressure;
use lmkd::kernel::vmstat;
use lmkd::kernel::zoneinfo;
use lmkd::units::PageSize;

fuzz_target!(|text: &[u8]| {
    let _ = meminfo::parse(text, PageSize::SMALL);
    let _ = pressure::parse(text);
    let _ = vmstat::parse(text);
    let _ = zoneinfo::parse(text);
});

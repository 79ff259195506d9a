//! What the kernel says about memory, read into one [`Sample`]; and what it says about a process.

mod gpu;
pub mod memcg;
mod memcg_usage;
pub mod memevents;
pub mod meminfo;
pub mod pressure;
pub mod process;
pub mod psi;
mod reader;
mod sample;
mod sampler;
mod scan;
pub mod vmstat;
pub mod zoneinfo;

pub use gpu::GpuMemory;
pub use memcg_usage::GroupUsage;
pub use memcg_usage::UsageFiles;
pub use pressure::PressureInfo;
pub use reader::ReadError;
pub use sample::Meminfo;
pub use sample::ReclaimEvents;
pub use sample::Sample;
pub use sample::Stall;
pub use sample::Vmstat;
pub use sample::Watermarks;
pub use sampler::SampleError;
pub use sampler::Sampler;
pub use scan::ParseError;
pub use scan::Problem;

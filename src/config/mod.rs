//! Tunables and where their values come from.

mod cli;
mod load;
mod parse;
mod source;
#[cfg(not(target_os = "android"))]
mod stand_in;
mod table;
mod tunables;

pub use cli::parse as parse_arguments;
pub use cli::CliError;
pub use cli::Mode;
pub use cli::Options;
pub use cli::USAGE;
pub use load::boot_completed;
pub use load::load;
pub use load::Notice;
pub use load::BOOT_COMPLETED;
pub use source::ConfigError;
pub use source::Properties;
pub use source::PropertyMap;
pub use source::PropertySource;
pub use source::PropertyStore;
#[cfg(target_os = "android")]
pub use source::SystemProperties;
#[cfg(not(target_os = "android"))]
pub use stand_in::SystemProperties;
pub use table::help_tunables;
pub use table::readme_table;
pub use table::reinit_properties;
pub use table::Kind;
pub use table::Tunable;
pub use table::TABLE;
pub use tunables::Tunables;

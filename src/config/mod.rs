//! Tunables and where their values come from.

mod cli;
mod load;
mod parse;
mod source;
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
pub use source::ConfigError;
pub use source::Properties;
pub use source::PropertyMap;
pub use source::PropertySource;
pub use source::PropertyStore;
pub use source::SystemProperties;
pub use table::help_tunables;
pub use table::readme_table;
pub use table::reinit_properties;
pub use tunables::Tunables;

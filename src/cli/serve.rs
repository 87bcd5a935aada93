//! `embedd serve`

use clap::Args;

/// Arguments of `embedd serve`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Args)]
#[command(after_help = "A flag overrides its environment variable, which overrides its key in the TOML file \
                  (`--max-tokens`, `EMBEDD_MAX_TOKENS`, `max_tokens`). Exit codes: 0 done, 1 failed, 64 invalid usage \
                  or configuration.")]
pub struct Serve {
    /// Print the effective settings and their sources as TOML, and exit
    #[arg(long)]
    pub print_config: bool,
}

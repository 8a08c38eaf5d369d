//! The helper alone, for this crate's tests and examples. The product has it as a hidden subcommand.

fn main() {
    sandbox::helper_main(std::env::args_os().skip(1))
}

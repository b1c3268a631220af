use std::process::ExitCode;

fn main() -> ExitCode {
    quantbound::cli::main()
}

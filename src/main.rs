use std::process::ExitCode;

fn main() -> ExitCode {
    // Mesa complains on standard error where this variable is not set, as in containers and cron jobs.
    if cfg!(target_os = "linux") && std::env::var_os("XDG_RUNTIME_DIR").is_none() {
        // SAFETY: no other thread runs yet.
        unsafe { std::env::set_var("XDG_RUNTIME_DIR", std::env::temp_dir()) };
    }
    quantbound::cli::main()
}

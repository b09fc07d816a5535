//! Compiles the hook tool, which has no library; see `hook-tool.rs`.

use std::env;
use std::process::{Command, ExitCode};

fn main() -> ExitCode {
    let variable = |name| env::var(name).unwrap_or_default();
    let tool = format!("{}/hook-tool", variable("OUT_DIR"));
    println!("cargo::rerun-if-changed=hook-tool.rs");
    println!("cargo::rustc-env=JUJUSIM_HOOK_TOOL={tool}");
    let status = Command::new(variable("RUSTC"))
        .args([
            "--edition=2024",
            "--crate-type=bin",
            "--deny=warnings",
            "hook-tool.rs",
            "-o",
            &tool,
        ])
        .args(["--target", &variable("TARGET")])
        .args(["-Copt-level=s", "-Cpanic=abort", "-Cstrip=symbols", "-Crelocation-model=static"])
        .args(["-Clink-args=-nostartfiles -nostdlib -static", "-Ctarget-feature=+crt-static"])
        .status();
    if status.is_ok_and(|status| status.success()) { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

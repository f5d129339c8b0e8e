#!/usr/bin/env bash
# Draws a flame graph of our relay under load: its CPU time in Node, in the core and in the kernel.
#   bash bench/profile.sh [bulk|pingpong|churn] [FILE.svg]
# Needs perf, and inferno (`cargo install inferno`); and root, or a kernel.perf_event_paranoid of 1 or less.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

work=${1:-bulk}
graph=${2:-bench/results/flame-$work.svg}
case $work in
  bulk) load=(--work bulk --streams 8 --direction up --bytes-per-stream $((1 << 29))) ;;
  pingpong) load=(--work pingpong --connections 32 --size 64 --seconds 5) ;;
  churn) load=(--work churn --connections-at-once 8 --count 10000 --size 100) ;;
  *) echo "unknown work $work: there is bulk, pingpong and churn" >&2; exit 2 ;;
esac

for tool in perf inferno-collapse-perf inferno-flamegraph; do
  command -v "$tool" >/dev/null && continue
  echo "$tool is not installed: apt install linux-perf; cargo install inferno" >&2
  exit 1
done

# Builds the addon with names and frame pointers, in a folder that our relay accepts as --package.
build=target/profile package=target/profile/package
[ -f dist/index.js ] || { echo 'dist/index.js is missing: npm run build' >&2; exit 1; }
# With an explicit host the flags apply to the addon alone, not to build scripts.
host=$(rustc -vV | sed -n 's/^host: //p')
RUSTFLAGS='-C force-frame-pointers=yes' cargo build --locked --profile bench --target "$host" --target-dir "$build" \
  --package fdsplice-node
cargo build --locked --release --package fdsplice-load
platform=$(node -p "require('./dist/index.cjs').capabilities().platform")
mkdir -p "$package" "$(dirname "$graph")"
cp -R dist package.json "$package"
cp "$build/$host/release/libfdsplice_node.so" "$package/fdsplice.$platform.node"

scratch=$(mktemp -d)
children=()
finish() {
  for child in "${children[@]}"; do kill "$child" 2>/dev/null || true; done
  wait 2>/dev/null || true
  # The file in which Node gives perf the names of JavaScript functions.
  [ -z "${relay:-}" ] || rm -f "/tmp/perf-$relay.map"
  rm -rf "$scratch"
}
trap finish EXIT

# Waits for the `listening <port>` of a program.
port_of() {
  for _ in $(seq 200); do
    if grep -q '^listening ' "$1"; then sed -n 's/^listening //p' "$1"; return; fi
    sleep 0.1
  done
  echo "$1: it does not listen" >&2
  return 1
}

target/release/fdsplice-load origin --listen 127.0.0.1:0 >"$scratch/origin" &
children+=($!)
origin=$(port_of "$scratch/origin")
node --perf-basic-prof --no-logfile-per-isolate --logfile="$scratch/v8.log" bench/peers/node/fdsplice.mjs --package "$package" \
  --listen 127.0.0.1:0 --target "127.0.0.1:$origin" >"$scratch/relay" &
relay=$!
children+=("$relay")
port=$(port_of "$scratch/relay")

# The CPU clock, because virtual machines seldom have a cycle counter; 499, so that samples do not align with the scheduler.
perf record --quiet --event cpu-clock --freq 499 --call-graph fp --pid "$relay" --output "$scratch/perf.data" -- \
  target/release/fdsplice-load run --timeout 60 --target "127.0.0.1:$port" "${load[@]}"
perf script --input "$scratch/perf.data" >"$scratch/samples" 2>"$scratch/complaints" || { cat "$scratch/complaints" >&2; exit 1; }
# All workers of the relay under one name.
inferno-collapse-perf <"$scratch/samples" | sed -E 's/^(fdsplice)-[0-9]+;/\1;/' >"$scratch/stacks"
inferno-flamegraph --title "fdsplice relay, $work" --countname samples --hash <"$scratch/stacks" >"$graph"

echo "written to $graph"
echo 'most samples in:'
# The leaf of each stack.
sed 's/^.*;//' "$scratch/stacks" | awk '{ n = $NF; $NF = ""; sum[$0] += n; all += n }
  END { for (name in sum) printf "%6.1f %%  %s\n", 100 * sum[name] / all, name }' | sort -rn | sed -n 1,15p

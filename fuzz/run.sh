#!/usr/bin/env bash
# Builds the fuzz targets and runs each for a while. `make fuzz` calls it.
# FUZZ_TARGETS: which; FUZZ_SECONDS: how long each; FUZZ_REPLAY=file: that input only.
set -euo pipefail
cd "$(dirname "$0")/.."

targets=${FUZZ_TARGETS:-policy baseline opt-out dns allow manifests}
seconds=${FUZZ_SECONDS:-60}
out=target/fuzz
host=$(rustc -vV | sed -n 's/^host: //p')

fail() {
  echo "fuzz: $*" >&2
  exit 1
}

command -v "${CXX:-c++}" > /dev/null || fail "libFuzzer is C++, and there is no C++ compiler: install one (Debian: apt-get install g++), or name it by CXX"

# What cargo-fuzz asks rustc for, without a nightly: the sanitizer coverage of LLVM is a pass like others. Because of --target, build
# scripts and macros are built without it.
coverage=(--cfg fuzzing -Cpasses=sancov-module)
for option in level=4 inline-8bit-counters pc-table trace-compares; do
  coverage+=("-Cllvm-args=-sanitizer-coverage-$option")
done

mkdir -p "$out"
started=$SECONDS
RUSTFLAGS="${coverage[*]}" "${CARGO:-cargo}" build --locked --quiet --profile fuzz --target "$host" --target-dir "$out" \
  --package policy-baseline-fuzz --features libfuzzer
echo "fuzz: targets built in $((SECONDS - started)) s"

for target in $targets; do
  binary=$out/$host/fuzz/fuzz-$target
  [ -x "$binary" ] || fail "there is no target $target: policy, baseline, opt-out, dns, allow and manifests are"
  limits=(-timeout=5 -rss_limit_mb=512 -max_len=8192)
  if [ "${FUZZ_REPLAY:-}" ]; then
    exec "$binary" "${limits[@]}" "$FUZZ_REPLAY"
  fi
  log=$out/$target.log
  mkdir -p "$out/corpus/$target" "$out/found/$target"
  status=0
  "$binary" "${limits[@]}" -max_total_time="$seconds" -dict="fuzz/$target.dict" -print_final_stats=1 \
    -artifact_prefix="$out/found/$target/" "$out/corpus/$target" "fuzz/corpus/$target" > "$log" 2>&1 || status=$?
  if [ "$status" -ne 0 ]; then
    grep -v '^#' "$log" | tail -n 40 >&2
    file=$(sed -n 's/.*Test unit written to //p' "$log" | tail -n 1)
    [ "$file" ] || fail "$target ended with $status, see $log"
    fail "$target does not hold for $file
  again:    make fuzz FUZZ_TARGETS=$target FUZZ_REPLAY=$file
  for good: copy it to fuzz/corpus/$target/, where make unit replays it"
  fi
  # Without counters it would be guessing, and would say nothing of it.
  grep -q '^INFO: Loaded 1 modules' "$log" || fail "$target was built without coverage, see $log"
  sed -n 's/^INFO: Loaded 1 modules *(\([0-9]* inline 8-bit counters\)).*/\1/p' "$log" | sed "s/^/fuzz: $target: /"
  grep -E '^#[0-9]+[[:space:]]+(INITED|DONE)' "$log" | sed "s/^/fuzz: $target: /"
  sed -n 's/^stat::\(number_of_executed_units\|slowest_unit_time_sec\|peak_rss_mb\): *\(.*\)/\1 \2/p' "$log" | sed "s/^/fuzz: $target: /"
done

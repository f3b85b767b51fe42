#!/usr/bin/env bash
# Builds what the demo needs, Rust and Go side by side, shows how far it is, and starts it. `make demo` calls it.
set -euo pipefail
cd "$(dirname "$0")/.."

logs=target/demo
mkdir -p "$logs"
started=$SECONDS
pids=()
trap '[ ${#pids[@]} -eq 0 ] || kill "${pids[@]}" 2>/dev/null || true' EXIT
trap 'exit 130' INT TERM HUP

PROGRESS_SECONDS=1 e2e/controlplane/build.sh --demo --print-dir >"$logs/assets" 2>"$logs/controlplane.log" &
pids+=($!)
"${CARGO:-cargo}" build --locked --color never --package policy-baseline --package policy-baseline-e2e \
  --bin policy-baseline --bin e2e-demo --bin e2e-guard >"$logs/operator.log" 2>&1 &
pids+=($!)

line() { # what the last lines of both say
  local go rust
  go=$(tail -n 1 "$logs/controlplane.log")
  rust=$(tail -n 1 "$logs/operator.log" | sed 's/^ *//; s/ (.*//')
  printf '%4d s   %s   operator: %s' "$((SECONDS - started))" "${go:-control plane: built}" "${rust:-…}"
}
running() { kill -0 "${pids[0]}" 2>/dev/null || kill -0 "${pids[1]}" 2>/dev/null; }

shown=-30
while running; do
  if [ -t 1 ]; then
    printf '\r\033[K%s' "$(line | cut -c "1-$(($(tput cols 2>/dev/null || echo 100) - 1))")"
  elif [ $((SECONDS - shown)) -ge 30 ]; then
    [ "$shown" -lt 0 ] || line && echo
    shown=$SECONDS
  fi
  sleep 1
done
[ ! -t 1 ] || printf '\r\033[K'
for at in 0 1; do
  code=0
  wait "${pids[$at]}" || code=$?
  if [ "$code" -ne 0 ]; then
    cat "$logs/controlplane.log" "$logs/operator.log" >&2
    exit "$code"
  fi
done
pids=()
KUBEBUILDER_ASSETS=$(cat "$logs/assets")
export KUBEBUILDER_ASSETS
exec target/debug/e2e-demo

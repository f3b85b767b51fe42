#!/usr/bin/env bash
# Builds what the demo needs, Rust and Go side by side, shows how far it is, and starts it. `make demo` calls it.
set -euo pipefail
cd "$(dirname "$0")/.."

logs=target/demo
rm -rf "$logs"
mkdir -p "$logs"
started=$SECONDS
pids=()
trap '[ ${#pids[@]} -eq 0 ] || kill "${pids[@]}" 2>/dev/null || true' EXIT
trap 'exit 130' INT TERM HUP

beside() { # NAME COMMAND…: its output is NAME.log, its exit code NAME.code
  local name=$1
  shift
  : > "$logs/$name.log"
  (
    child=
    trap '[ ! "$child" ] || kill "$child" 2>/dev/null; exit 143' TERM
    code=0
    "$@" 2> "$logs/$name.log" > "$logs/$name.out" &
    child=$!
    wait "$child" || code=$?
    echo "$code" > "$logs/$name.code"
  ) &
  pids+=($!)
}

echo "building the operator, and a control plane from source: minutes the first time, seconds later"
PROGRESS_SECONDS=1 beside controlplane e2e/controlplane/build.sh --demo --print-dir
beside operator "${CARGO:-cargo}" build --locked --color never --package policy-baseline --package policy-baseline-e2e \
  --bin policy-baseline --bin e2e-demo --bin e2e-guard

ended() { [ -s "$logs/$1.code" ]; }
check() { # its output when it failed
  local code
  code=$(cat "$logs/$1.code")
  [ "$code" -eq 0 ] || { cat "$logs/$1.log" >&2; exit "$code"; }
}
last() { # the last line of its output
  local line
  line=$(tail -n 1 "$logs/$1.log" | sed 's/^ *//; s/ (.*//')
  if ended "$1"; then line='built'; fi
  printf '%s' "${line:-…}"
}
status() {
  printf '%4d s   control plane: %-38.38s operator: %s' "$((SECONDS - started))" "$(last controlplane | sed 's/^control plane: //')" "$(last operator)"
}

shown=$SECONDS
until ended controlplane && ended operator; do
  for name in controlplane operator; do if ended $name; then check $name; fi; done
  if [ -t 1 ]; then
    columns=$(tput cols 2>/dev/null || echo 100)
    printf '\r\033[K%s' "$(status | cut -c "1-$((columns - 1))")"
  elif [ $((SECONDS - shown)) -ge 30 ]; then
    status
    echo
    shown=$SECONDS
  fi
  sleep 0.5
done
[ ! -t 1 ] || printf '\r\033[K'
check controlplane
check operator
pids=()
KUBEBUILDER_ASSETS=$(cat "$logs/controlplane.out")
export KUBEBUILDER_ASSETS
exec target/debug/e2e-demo

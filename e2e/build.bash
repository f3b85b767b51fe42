# What the build scripts of this folder share. Each builds Go packages that a go.mod pins into target/NAME/<hash>/, and points target/NAME/bin at
# it. A script says where it is (here), and sources this file. The go.mod is there too, unless the script says otherwise (mod).
set -euo pipefail
export LC_ALL=C

say() { printf '%s\n' "$*" >&2; }
die() { say "build.sh: $*"; exit 1; }

out=$(cd "$here/../.." && pwd)/target/${here##*/}
mod=$here

# hash FILE…: sets hash and dir, by the content of these files and of the script.
hash() {
  local sum=(sha256sum)
  command -v sha256sum >/dev/null || sum=(shasum -a 256)
  hash=$(cat "$@" "$here/build.sh" "$here/../build.bash" | "${sum[@]}" | cut -c1-16)
  dir=$out/$hash
}

# need_go WHAT [HINT]: ends the script if Go is missing or too old.
need_go() {
  local needed have
  needed=$(awk '$1 == "go" { print $2 }' "$mod/go.mod")
  command -v go >/dev/null || die "$1 is built from source and needs Go $needed or newer (https://go.dev/dl), which is not in PATH${2:+; $2}"
  export GOWORK=off CGO_ENABLED=0
  have=$(cd "$mod" && go env GOVERSION)
  have=${have#go}
  [ "$(printf '%s\n%s\n' "$needed" "$have" | sort -V | head -n1)" = "$needed" ] || die "$1 needs Go $needed or newer, and this is Go $have"
}

# A second build waits for the lock, and then finds the result. The lock is file descriptor 9: every program that may outlive the script is
# started with 9>&-.
lock() {
  mkdir -p "$out"
  if command -v flock >/dev/null; then
    exec 9>"$out/.lock"
    flock 9
  fi
}

# Makes a directory to build in: work. Only who has the lock calls it.
make_work() {
  rm -rf "$out"/.build.*                         # of a build that was killed
  work=$(mktemp -d "$out/.build.XXXXXX")
  trap 'rm -rf "$work"' EXIT
  trap 'exit 130' INT TERM HUP
}

# forget_others [DIR]: removes results of older pins, which are large, but not DIR.
forget_others() {
  local old
  for old in "$out"/*/; do
    old=${old%/}
    if [ "$old" != "$dir" ] && [ "$old" != "${1:-}" ] && [ ! -L "$old" ]; then rm -rf "$old"; fi
  done
}

point_bin() { [ "$(readlink "$out/bin" 2>/dev/null)" = "$hash" ] || ln -sfn "$hash" "$out/bin"; }

# What follows is for scripts that build one set of files: results.

is_built() {
  local name
  for name in "${results[@]}"; do [ -e "$dir/$name" ] || return 1; done
}

# begin WHAT FILE…: ends the script with 0 if the results are there already. Otherwise the script goes on in the folder of its go.mod.
begin() {
  local what=$1
  hash "${@:2}"
  if is_built; then point_bin; exit 0; fi
  need_go "$what"
  export GOFLAGS=-mod=readonly
  lock
  if is_built; then point_bin; exit 0; fi
  make_work
  say "$what: building it from source"
  started=$SECONDS
  cd "$here"
}

# go_build ARG…: as small as Go makes it without losing speed. What it says is shown only if it fails.
go_build() {
  go build -trimpath -buildvcs=false "$@" >"$work/log" 2>&1 9>&- || { cat "$work/log" >&2; die "go build failed"; }
}

# keep WHAT: moves the results from work to their place. Each appears by one rename: if it is there, it is whole.
keep() {
  local name
  say "$1: built in $((SECONDS - started)) s"
  mkdir -p "$dir"
  for name in "${results[@]}"; do mv "$work/$name" "$dir/$name"; done
  forget_others
  point_bin
}

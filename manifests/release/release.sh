#!/usr/bin/env bash
# What `make release`, `make dist` and `make reproducible` do beside cargo.
#   release.sh remap   prints the flags for rustc that keep the folders of this machine out of the binary
#   release.sh pack    packs target/release/policy-baseline and files of the commit into target/dist
#   release.sh again   builds and packs the commit in another folder too, and fails if a byte differs
# pack and again read from the environment: CARGO_CYCLONEDX (the program), RELEASE_FLAGS (what rustc got beside the flags of remap), and
# RELEASE_URL (where the archives will be published).
set -euo pipefail
export LC_ALL=C
umask 022

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd -P)
cargo_home=${CARGO_HOME:-$HOME/.cargo}
cd "$root"

say() { printf '%s\n' "$*" >&2; }
die() { say "release.sh: $*"; exit 1; }

rustc_says() { rustc -vV | sed -n "s/^$1: //p"; }
host() { rustc_says host; }
sysroot() { rustc --print sysroot; }

# The first line of what a program says about its version. macOS has no ldd, and the message of bash would name this script by its path.
first_line() { if command -v "$1" >/dev/null; then "$@" 2>&1 | sed -n 1p; else echo none; fi; }

remap() {
  local dir pairs
  # Where a mirror serves crates.io, cargo names the folder after the mirror. The folders exist once the sources are there.
  cargo fetch --locked --quiet --target "$(host)" >&2
  # If several match, rustc takes the last one.
  pairs=("$root=/policy-baseline" "$cargo_home=/cargo")
  for dir in "$cargo_home"/registry/src/*/; do pairs+=("${dir%/}=/cargo/registry"); done
  # The sources of the standard library have the second name already, unless the component rust-src is installed.
  pairs+=("$(sysroot)/lib/rustlib/src/rust=/rustc/$(rustc_says commit-hash)")
  for dir in "${pairs[@]}"; do
    case $dir in *' '*) die "a path with a space cannot be in RUSTFLAGS: ${dir%%=*}" ;; esac
    printf -- '--remap-path-prefix=%s ' "$dir"
  done
}

sha256() {
  local sum=(sha256sum)
  command -v sha256sum >/dev/null || sum=(shasum -a 256)
  "${sum[@]}" "$@"
}
digest() { sha256 "$1" | cut -d' ' -f1; }

# Only GNU tar sorts, and sets every field of an entry.
find_tar() {
  local name
  for name in tar gtar; do
    case $("$name" --version 2>/dev/null || true) in *"GNU tar"*) tar=$name; return ;; esac
  done
  die "needs GNU tar, as tar or gtar"
}

# archive FILE FOLDER NAME…: these names of a folder. The same content gives the same bytes.
archive() {
  "$tar" --create --format=ustar --sort=name --mtime="@$SOURCE_DATE_EPOCH" --owner=0 --group=0 --numeric-owner --mode=u=rwX,go=rX \
    --directory="$2" "${@:3}" | gzip -n -9 > "$dist/$1"
}

# Fails if the binary names a folder of this machine.
check_paths() {
  local path
  for path in "$root" "$cargo_home" "$(sysroot)" "${HOME%/}/"; do
    # In some containers, HOME is /.
    [ "$path" != / ] || continue
    if grep -aqF -- "$path" "$1"; then die "the binary contains the path $path"; fi
  done
}

# The list of crates. cargo resolves features for all members and their tests together, so it gets a copy without them: in the list is what the
# operator and its build scripts need. The only path in it is that of the copy.
sbom() {
  local copy=$work/sbom
  cp -R "$source" "$copy"
  rm -rf "$copy/e2e" "$copy/fuzz"
  awk '/^\[/ { skip = $0 == "[dev-dependencies]" } !skip && !/^members = /' "$source/Cargo.toml" > "$copy/Cargo.toml"
  (cd "$copy" && CARGO_NET_OFFLINE=true "$CARGO_CYCLONEDX" cyclonedx -q --format json --spec-version 1.5 --target "$(host)" --override-filename sbom)
  sed "s|path+file://$copy|path+file:///policy-baseline|g" "$copy/sbom.json" > "$dist/$1"
  if grep -qF -- "$root" "$dist/$1"; then die "the SBOM contains the path $root"; fi
}

krew() {
  sed -e '1d' -e "s|@VERSION@|$version|; s|@OS@|$os|; s|@ARCH@|$arch|; s|@URL@|$RELEASE_URL|; s|@ARCHIVE@|$1|; s|@SHA256@|$(digest "$dist/$1")|" \
    manifests/release/krew.yaml > "$dist/baseline.yaml"
  if grep -q '@[A-Z0-9]*@' "$dist/baseline.yaml"; then die "a word of krew.yaml was not replaced"; fi
}

# A string of JSON.
quoted() { printf '"%s"' "$(printf '%s' "$1" | sed 's/[\\"]/\\&/g')"; }

# An unsigned statement of in-toto: which commit and which tools made which files.
provenance() {
  local file comma=
  {
    printf '{\n  "_type": "https://in-toto.io/Statement/v1",\n  "subject": ['
    for file in $(cd "$dist" && ls); do
      printf '%s\n    {"name": %s, "digest": {"sha256": "%s"}}' "$comma" "$(quoted "$file")" "$(digest "$dist/$file")"
      comma=,
    done
    cat <<END

  ],
  "predicateType": "https://slsa.dev/provenance/v1",
  "predicate": {
    "buildDefinition": {
      "buildType": "https://policybaseline.io/dist/v1",
      "externalParameters": {"command": "make dist", "RELEASE_URL": $(quoted "$RELEASE_URL")},
      "internalParameters": {
        "target": $(quoted "$(host)"),
        "RUSTFLAGS": $(quoted "$(tr -s ' ' <<< "${RELEASE_FLAGS% }")"),
        "remapped": ["/policy-baseline", "/cargo", "/cargo/registry", "/rustc/$(rustc_says commit-hash)"],
        "cc": $(quoted "$(first_line cc --version)"),
        "ld": $(quoted "$(first_line ld --version)"),
        "libc": $(quoted "$(first_line ldd --version)"),
        "tar": $(quoted "$(first_line "$tar" --version)"),
        "gzip": $(quoted "$(first_line gzip --version)"),
        "sbom": $(quoted "$("$CARGO_CYCLONEDX" cyclonedx --version)")
      },
      "resolvedDependencies": [
        {"name": "policy-baseline", "digest": {"gitCommit": "$commit"}},
        {"name": "rustc", "digest": {"gitCommit": "$(rustc_says commit-hash)"}, "annotations": {"version": $(quoted "$(rustc --version)")}},
        {"name": "Cargo.lock", "digest": {"sha256": "$(digest "$source/Cargo.lock")"}}
      ]
    },
    "runDetails": {"builder": {"id": "https://policybaseline.io/dist/make"}}
  }
}
END
  } > "$work/provenance"
  mv "$work/provenance" "$dist/$1"
}

pack() {
  local binary=target/release/policy-baseline platform name
  [ -z "$(git status --porcelain)" ] || die "a release is made of a commit, and there are changes that are in none"
  version=$(sed -n '/^\[workspace\.package\]/,/^\[/s/^version = "\(.*\)"/\1/p' Cargo.toml)
  commit=$(git rev-parse HEAD)
  SOURCE_DATE_EPOCH=$(git show --no-patch --format=%ct HEAD)
  export SOURCE_DATE_EPOCH
  os=$(uname -s | tr '[:upper:]' '[:lower:]')
  case $(uname -m) in x86_64) arch=amd64 ;; aarch64 | arm64) arch=arm64 ;; *) arch=$(uname -m) ;; esac
  platform=$version-$os-$arch
  : "${RELEASE_FLAGS?}" "${CARGO_CYCLONEDX:?}" "${RELEASE_URL:=https://github.com/YOU/policy-baseline/releases/download/v$version}"
  find_tar
  [ "$("$binary" --version)" = "policy-baseline $version" ] || die "$binary is not of version $version: run make release"
  check_paths "$binary"

  mkdir -p target
  work=$(mktemp -d "$root/target/.dist.XXXXXX")
  trap 'rm -rf "$work"' EXIT
  source=$work/source dist=$work/dist
  mkdir "$source" "$dist"
  git archive HEAD | "$tar" --extract --directory="$source"

  for name in policy-baseline kubectl-baseline; do
    mkdir -p "$work/$name"
    cp "$binary" "$work/$name/$name"
    cp "$source/LICENSE" "$work/$name/"
  done
  # People unpack this one anywhere, so it has a folder. krew unpacks the other one into a folder of its own.
  mkdir "$work/unpacked"
  mv "$work/policy-baseline" "$work/unpacked/policy-baseline-$platform"
  archive "policy-baseline-$platform.tar.gz" "$work/unpacked" "policy-baseline-$platform"
  archive "kubectl-baseline-$platform.tar.gz" "$work/kubectl-baseline" LICENSE kubectl-baseline

  # The folder of a chart has its name. helm package would write the time at which it runs.
  mkdir "$work/chart"
  cp -R "$source/manifests/helm" "$work/chart/policy-baseline"
  cp "$source/LICENSE" "$work/chart/policy-baseline/"
  archive "policy-baseline-$version.tgz" "$work/chart" policy-baseline

  cp "$source/manifests/install.yaml" "$dist/"
  sbom "policy-baseline-$platform.cdx.json"
  krew "kubectl-baseline-$platform.tar.gz"
  provenance "policy-baseline-$platform.intoto.json"
  (cd "$dist" && sha256 -- * > ../sums && mv ../sums SHA256SUMS)
  rm -rf target/dist
  mv "$dist" target/dist
  ls -l target/dist | awk 'NR > 1 { printf "target/dist/%s: %.1f kB\n", $9, $5 / 1e3 }'
}

again() {
  local clone home
  [ -d target/dist ] || die "run make dist first"
  work=$(mktemp -d)
  trap 'rm -rf "$work"' EXIT
  clone=$work/in/a/folder/of/another/length home=$work/cargo-home
  git clone --quiet --no-hardlinks "$root" "$clone"
  git -C "$clone" checkout --quiet --detach "$(git rev-parse HEAD)"
  # cargo's folder has another name too, and the same sources.
  mkdir "$home"
  ln -s "$cargo_home/registry" "$home/registry"
  if [ -e "$cargo_home/config.toml" ]; then ln -s "$cargo_home/config.toml" "$home/config.toml"; fi
  export CARGO_HOME=$home
  env -u MAKEFLAGS -u MAKELEVEL "${MAKE:-make}" --no-print-directory -C "$clone" release
  "$clone/manifests/release/release.sh" pack
  diff -r target/dist "$clone/target/dist" || die "these files differ"
  say "both builds have the same bytes"
}

case ${1-} in
  remap | pack | again) "$1" ;;
  *) die "usage: release.sh remap|pack|again" ;;
esac

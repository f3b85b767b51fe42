#!/usr/bin/env bash
# Builds the pages as a site. `make site` calls it.
#   docs/site.sh MDBOOK TARGET
# The site has the folders of the repository, so that each relative link of a page works there too.
set -euo pipefail
cd "$(dirname "$0")/.."
mdbook=$1 target=$2
holds=(README.md CHANGELOG.md LICENSE docs manifests crds e2e/gitops/resource_customizations)

source=$(mktemp -d) log=$(mktemp)
trap 'rm -rf "$source" "$log"' EXIT
cp -r --parents "${holds[@]}" "$source"
mv "$source/docs/book.toml" "$source/docs/site.css" "$source"
rm "$source/docs/site.sh"
{
  printf '# Summary\n\n[policy-baseline](README.md)\n'
  sed '1d; s|](|](docs/|' "$source/docs/SUMMARY.md"
  printf -- '---\n\n[Changes](CHANGELOG.md)\n'
} > "$source/SUMMARY.md"
rm "$source/docs/SUMMARY.md"

# Links to folders lead to a list of their files.
find "$source"/* -type d -not -path "$source/docs" | while read -r folder; do
  {
    printf '<!doctype html><meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>%s</title><ul>\n' "${folder#"$source"/}"
    ls -F "$folder" | sed -E '/^index.html$/d; s|\*$||; s|^(.*)\.md$|<li><a href="\1.html">\1</a>|; t; s|^(.*)$|<li><a href="\1">\1</a>|'
    echo '</ul>'
  } > "$folder/index.html"
done

"$mdbook" build --dest-dir "$(realpath -m "$target")" "$source" 2>&1 | tee "$log"
if grep -E 'WARN|ERROR' "$log"; then
  echo "the site has warnings"
  exit 1
fi
# A link to README.md is one to the first page.
[ -e "$target/README.html" ] || cp "$target/index.html" "$target/README.html"

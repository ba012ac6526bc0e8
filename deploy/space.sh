#!/bin/sh
# Makes a folder to push as a Space that Docker builds: sh deploy/space.sh OUT
set -eu
out=${1:?say where the folder goes: sh deploy/space.sh OUT}
root=$(cd "$(dirname "$0")/.." && pwd)
if [ -e "$out" ]; then
  echo "$out is there already: name another folder." >&2
  exit 2
fi
mkdir -p "$out"
git -C "$root" archive HEAD bnn checkpoints constraints.txt pyproject.toml LICENSE | tar -x -C "$out"
# Visitors come through the Space's own proxy, under the name that it says.
sed 's|^CMD .*|CMD exec bnn serve --host 0.0.0.0 --proxy 10.0.0.0/8 --name "$SPACE_HOST"|; /^#/d' \
  "$root/deploy/Dockerfile" >"$out/Dockerfile"
cat - "$root/README.md" >"$out/README.md" <<'END'
---
title: A digit, or I don't know
emoji: ✏️
colorFrom: blue
colorTo: green
sdk: docker
app_port: 7860
license: mit
---

END
echo "Made $out: push it to a Space as it is."

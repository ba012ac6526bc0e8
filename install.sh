#!/bin/sh
# Makes .venv, or adds to it, so that a make target has what it needs: sh install.sh page|all|bench|examples|docs|tests
# PYTHON names the Python to make it with; otherwise the first that fits is taken. What was left half-made
# (by an error, or Ctrl-C) is made anew.
set -eu
cd "$(dirname "$0")"

fail() {
  echo "$*" >&2
  exit 2
}

fits() {  # whether the Python "$1" runs, and is one that all packages are there for
  "$1" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 15))' 2>/dev/null
}

find_python() {
  if [ -n "${PYTHON:-}" ]; then
    fits "$PYTHON" || fail "Python 3.11 to 3.14 is needed, and PYTHON=$PYTHON is $(version "$PYTHON")."
    python=$PYTHON
    return
  fi
  for python in python3 python3.14 python3.13 python3.12 python3.11; do
    ! fits "$python" || return 0
  done
  fail "Python 3.11 to 3.14 is needed, and python3 is $(version python3), with no python3.11 to python3.14" \
    "beside it: install one, or say where it is with PYTHON=/path/to/python3.12 after the make command."
}

version() {
  "$1" --version 2>/dev/null || echo "not to be found"
}

make_environment() {
  find_python
  "$python" -c 'import ensurepip, venv' 2>/dev/null || fail "$python ($(version "$python")) cannot make" \
    "virtual environments: install what it lacks, on Debian and Ubuntu the package" \
    "$("$python" -c 'import sys; print("python%d.%d-venv" % sys.version_info[:2])')."
  echo "Making a virtual environment in .venv with $(version "$python")."
  "$python" -m venv --clear .venv
}

offer_cpu_build() {
  [ "$(uname -s)" = Linux ] && [ -z "${PIP_EXTRA_INDEX_URL:-}" ] || return 0
  [ ! -e /dev/nvidia0 ] && ! command -v nvidia-smi >/dev/null || return 0
  cat <<END

There is no NVIDIA GPU here, and PyTorch's ordinary Linux build brings over 4 GB of libraries for one. Its
small build for CPUs will do. To have that, stop here with Ctrl-C and give pip the address that pytorch.org shows
under "Get started" for Linux, Pip, Python, CPU (it stands behind --index-url):

    PIP_EXTRA_INDEX_URL=<address from pytorch.org> make ${MAKECMDGOALS:-demo}

END
  if [ -t 0 ] && [ -t 1 ]; then
    echo "The ordinary build comes in 15 seconds."
    sleep 15
  fi
}

case $1 in
  page) extras=page holds='page' what='the page' ;;
  all) extras=all holds='page all' what='training and evaluation' ;;
  bench) extras=all,bench holds='page all bench' what='the measurements, and the libraries compared with' ;;
  examples) extras=examples holds='page all examples' what='the examples, PyMC and Jupyter among it' ;;
  docs) extras=docs holds='docs' what='the documentation' ;;
  tests) extras=tests,lint,bench,docs holds='page all bench examples docs tests' what='the tests' ;;
esac
if [ -e .venv/unfinished ] || ! fits .venv/bin/python || ! .venv/bin/python -m pip --version >/dev/null 2>&1; then
  make_environment
fi
.venv/bin/python -c 'import importlib.util as util, sys; sys.exit(not util.find_spec("torch"))' || offer_cpu_build
echo "Installing what is needed for $what. The first time that takes some minutes; pip is silent while it unpacks."
touch .venv/unfinished
if [ -n "${PIP_EXTRA_INDEX_URL:-}" ]; then  # where torch is from, torchvision must come from, whenever it does
  .venv/bin/python -m pip config --site set global.extra-index-url "$PIP_EXTRA_INDEX_URL"
fi
PIP_CONSTRAINT=constraints.txt PIP_BUILD_CONSTRAINT=constraints.txt PIP_DISABLE_PIP_VERSION_CHECK=1 \
  .venv/bin/python -m pip install --no-compile --editable ".[$extras]"  # Python compiles what it uses
for name in $holds; do touch ".venv/$name"; done
rm .venv/unfinished

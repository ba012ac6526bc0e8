#!/usr/bin/env bash
# Does what README.md says, as a newcomer would: on a fresh clone, with Python and make only, block after block,
# as written. Prints how long each took, and how large the environment has become.
#
#   bash tests/newcomer.sh [PYTHON_BLOCKS...]
#
# Each console block runs in a fresh shell in the clone's folder. Of what was said before, one thing carries over:
# once the environment is activated, it is in every shell that follows, for the reader is told to stay in that
# one. Python blocks run in the python of that shell. What runs on is stopped by Ctrl-C, sent to all that the shell
# has started, as soon as it has shown that it works; it must then end by itself and without a traceback. A page
# that is served goes on while the blocks below it that ask it run. Between two blocks that install something stand
# blocks that do not need one another: those that train are done beside the rest, and what they said is shown
# when they end.
#
# The last block is `make test`, the whole suite: PYTEST_ADDOPTS=tests/test_words.py runs but a part of it.
set -euo pipefail

root=$(cd "$(dirname "$0")/.." && pwd)
folder=$(mktemp -d)
clone=$folder/bnn
running=
lanes=()
patience=900  # seconds that a sign of life may take, where the machine is busy

stop() { [ -z "$running" ] || kill -KILL -- "-$running" 2>/dev/null || true; }

finish() {
  [ ! -s "$folder/times" ] || { echo "newcomer: seconds of each block:" $(sort -n "$folder/times"); }
  [ ${#lanes[@]} -eq 0 ] || { kill "${lanes[@]}" && wait "${lanes[@]}"; } 2>/dev/null || true
  stop
  rm -rf "$folder"
}
trap finish EXIT

fail() {
  echo "newcomer: block $number of README.md: $*" >&2
  exit 1
}

split_readme() {  # each block of commands or Python to a file of its own, in order: 01.console, 02.console, …
  awk -v folder="$folder" '
    /^```(console|python)$/ { file = sprintf("%s/%02d.%s", folder, ++count, substr($0, 4)); next }
    /^```/ { file = "" }
    file { print > file }' "$clone/README.md"
}

start() {  # COMMAND...: in a session of its own, with the Ctrl-C that a terminal's programs have
  : >"$log"
  python3 -c 'import os, signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)
os.setsid()
os.execvp(sys.argv[1], sys.argv[1:])' "$@" </dev/null > >(tee "$log") 2>&1 &
  running=$!
}

ended() { ! kill -0 "$running" 2>/dev/null && ! kill -0 -- "-$running" 2>/dev/null; }

await() {  # WHAT...: until the sign is seen
  local deadline=$((SECONDS + patience))
  until "$@"; do
    ! ended || fail "it ended before this was seen: $*"
    [ "$SECONDS" -lt "$deadline" ] || fail "in $patience seconds this was not seen: $*"
    sleep 0.5
  done
}

page_answers() {
  local address
  address=$(grep -o 'http://127\.0\.0\.1:[0-9]*/' "$log" | head -n 1) && python3 - "$address" <<'END' 2>/dev/null
import json, sys, urllib.request
with urllib.request.urlopen(f"{sys.argv[1]}health", timeout=10) as answer:
    sys.exit(json.load(answer)["status"] != "ok")
END
}

new_file() { [ -n "$(find "$clone/$1" -name "$2" -newer "$scratch/started" -print -quit 2>/dev/null)" ]; }

interrupt() {  # STATUSES...: with one of which it must end, if not with that of Ctrl-C itself
  local status=0 deadline=$((SECONDS + patience))
  kill -INT -- "-$running"
  until ended; do
    [ "$SECONDS" -lt "$deadline" ] || fail "$patience seconds after Ctrl-C it still runs."
    sleep 0.5
  done
  wait "$running" || status=$?
  case " $* 130 " in *" $status "*) ;; *) fail "after Ctrl-C it ended with status $status." ;; esac
}

said() {  # PATTERN: at its end, and nothing that no person should see
  ! grep -q Traceback "$log" || fail "Ctrl-C gave a traceback."
  grep -q "$1" "$log" || fail "after Ctrl-C it did not say: $1"
}

run_console() {  # BLOCK, NEXT BLOCKS...
  sed -n 's/^\$ //p' "$1" >"$scratch/commands"
  cat "$folder/activation" "$scratch/commands" >"$scratch/shell"
  start bash -e "$scratch/shell"
  case $(tail -n 1 "$scratch/commands") in
    'make demo'* | 'bnn serve'*)
      await page_answers
      ask "${@:2}"
      interrupt 0
      said 'Ended\.'
      ;;
    'bnn train --data digits'*)
      await new_file runs last.ckpt  # the first epoch has ended: it is kept
      interrupt 0
      said 'Wrote .*\.safetensors'
      ;;
    'python train.py'* | 'bnn train --preset'*)
      await new_file runs metrics.csv  # some steps: were an epoch kept, fitting its OOD scores would take minutes
      interrupt 0 2  # whether the first epoch has ended by then depends on how fast the machine is
      said 'nothing to keep\|Wrote .*\.safetensors'
      ;;
    'make examples'*)
      await new_file examples/out '*.png'  # the first has drawn its plot
      interrupt 0  # where a script is just then, and what it says, is chance
      ;;
    *) wait "$running" || fail "it ended with status $?." ;;
  esac
  running=
  grep '^source ' "$scratch/commands" >>"$folder/activation" || true
}

ask() {  # BLOCKS...: the first of them, as far as they ask the server that runs
  local block
  for block in "$@"; do
    grep -q 127.0.0.1 "$block" || return 0
    echo "== Meanwhile, $(basename "$block"):"
    case $block in
      *.python) run_python "$block" ;;
      *.console)
        { cat "$folder/activation"; sed -n 's/^\$ //p' "$block"; } >"$scratch/asking"
        bash -e "$scratch/asking" </dev/null || fail "$(basename "$block") ended with status $?."
        ;;
    esac
    done_already+=("$block")
  done
}

run_python() {  # BLOCK
  { cat "$folder/activation"; echo 'exec python -'; } >"$scratch/python-shell"
  bash -e "$scratch/python-shell" <"$1" || fail "the Python in $(basename "$1") does not run."
}

unset VIRTUAL_ENV PYTHONPATH PYTHONHOME PYTHONDONTWRITEBYTECODE MAKEFLAGS MFLAGS MAKELEVEL
! command -v bnn >/dev/null || { echo "newcomer: there is a bnn on the PATH already." >&2; exit 1; }
git clone --quiet "$root" "$clone"
cd "$clone"
split_readme
: >"$folder/activation"
export BROWSER=true  # what `make demo` opens the page in

lane_of() {  # BLOCK: what installs something is done alone
  case $(cat "$1") in
    *'$ make '*) echo alone ;;
    *'$ bnn train '* | *'$ python train.py'*) echo training ;;
    *) echo using ;;
  esac
}

run_block() {  # INDEX
  local block=${blocks[$1]} before=$SECONDS
  number=$(($1 + 1))
  case " ${done_already[*]} " in *" $block "*) return 0 ;; esac
  printf '\n== Block %d of README.md, as written:\n%s\n\n' "$number" "$(cat "$block")"
  touch "$scratch/started"
  case $block in
    *.console) run_console "$block" "${blocks[@]:$number}" ;;
    *.python) run_python "$block" ;;
  esac
  echo "$number:$((SECONDS - before))" >>"$folder/times"
  printf '\n== Block %d: %d s; .venv is %d MB.\n' "$number" "$((SECONDS - before))" "$(du -sm .venv | cut -f1)"
}

run_lane() {  # NAME, INDEX...: one after another, with files of its own
  local index
  scratch=$folder/$1 log=$folder/$1/log
  mkdir -p "$scratch"
  for index in "${@:2}"; do run_block "$index"; done
}

run_beside() {  # both lanes at once; what the second said is shown when it has ended
  local status=0 lane
  [ "${#using[@]}" -gt 0 ] || [ "${#training[@]}" -gt 0 ] || return 0
  (trap stop EXIT; run_lane using "${using[@]}") &
  lanes=("$!")
  (trap stop EXIT; run_lane training "${training[@]}") >"$folder/told" 2>&1 &
  lanes+=("$!")
  for lane in "${lanes[@]}"; do wait "$lane" || status=$?; done
  lanes=() using=() training=()
  cat "$folder/told"
  return "$status"
}

blocks=("$folder"/[0-9][0-9].*)
done_already=()
using=() training=()
for index in "${!blocks[@]}"; do
  case $(lane_of "${blocks[$index]}") in
    using) using+=("$index") ;;
    training) training+=("$index") ;;
    alone) run_beside; run_lane alone "$index" ;;
  esac
done
run_beside

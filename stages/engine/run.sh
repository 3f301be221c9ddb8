#!/bin/sh
# Starts a stage in the project's environment, active or not: `sh stages/engine/run.sh extract`.
#
# The right Python is that of the dvc at work: the environment has dvc too. A dvc that lives alone
# (pipx, a system package) has no torch and is passed over: then `python` as the shell finds it,
# then .venv. No value of params.yaml stands in a command of dvc.yaml: stages read them themselves,
# and which item they are to make from DVC_STAGE.

# Tells whether program $1 is a Python with the project's packages.
is_complete() {
  "$1" -c 'import sys; from importlib.util import find_spec as find
sys.exit(not all(map(find, ("av", "dvc", "torch"))))' </dev/null >/dev/null 2>&1
}

# Prints the words of process $1's command line, a line each; ps does not keep blanks in a word.
words() {
  if [ -r "/proc/$1/cmdline" ]; then tr '\0' '\n' <"/proc/$1/cmdline"
  else ps -o args= -p "$1" | tr ' ' '\n'; fi
}

parent() {
  if [ -r "/proc/$1/status" ]; then sed -n 's/^PPid:[^0-9]*//p' "/proc/$1/status"
  else ps -o ppid= -p "$1" | tr -d ' '; fi
}

# Prints when process $1 began: its id alone may come again.
begun() {
  if [ -r "/proc/$1/stat" ]; then sed 's/.*) //' "/proc/$1/stat" | cut -d ' ' -f 20
  else ps -o lstart= -p "$1"; fi
}

# Tells whether process $1 is `dvc repro` of everything, and not of named stages.
is_repro() {
  words "$1" | {
    while IFS= read -r word; do
      case "$word" in dvc|*/dvc) break ;; esac
    done
    IFS= read -r word && [ "$word" = repro ] || exit 1
    while IFS= read -r word; do
      case "$word" in -*) ;; *) exit 1 ;; esac
    done
  }
}

dvc=$PPID
case "$(words "$dvc" | head -n 1)" in  # some shells stand between, some make way
  *sh) dvc=$(parent "$dvc") ;;
esac

# Prints the Pythons to try.
candidates() {
  words "$dvc" | head -n 2 | {
    IFS= read -r program; IFS= read -r script
    case "${program##*/}" in
      python*|Python*) printf '%s\n' "$program" "${script%/*}/python" ;;
    esac
  }
  printf '%s\n' python python3 .venv/bin/python
}

python=$(candidates | while IFS= read -r each; do
  if is_complete "$each"; then printf '%s\n' "$each"; break; fi
done)
if [ -z "$python" ]; then
  echo "error: no Python with the project's packages: neither that of dvc, nor python, nor" \
    ".venv/bin/python. Activate the environment or make it (make setup), then run again;" \
    "\`dvc checkout\` brings back what DVC has removed." >&2
  exit 1
fi

# The first stage that `dvc repro` runs prints the plan of them all: DVC has no place for it. What is
# wrong the stage tells itself.
repro="$dvc $(begun "$dvc")"
if [ "$repro" != "$(cat logs/repro 2>/dev/null)" ] && is_repro "$dvc" &&
  { mkdir -p logs && printf '%s\n' "$repro" >logs/repro; } 2>/dev/null
then
  "$python" -m affectline plan >&2 2>/dev/null || [ $? -ne 130 ] || exit 130
fi
stage=$1
shift
exec "$python" -m "stages.$stage" "$@"

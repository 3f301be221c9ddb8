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

# Prints the Pythons to try.
candidates() {
  dvc=$PPID
  case "$(words "$dvc" | head -n 1)" in  # some shells stand between, some make way
    *sh) dvc=$(parent "$dvc") ;;
  esac
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
stage=$1
shift
exec "$python" -m "stages.$stage" "$@"

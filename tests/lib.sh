# What the parts share; sourced, not run.

# The repository's root, where every part works.
top=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cd "$top" || exit 2
export CARGO_TERM_COLOR=never

# Installs Debian packages unless the given command is there already: need COMMAND PACKAGE…
need() {
  local command=$1
  shift
  command -v "$command" >/dev/null && return
  local sudo=()
  [[ $(id -u) -ne 0 ]] && sudo=(sudo -n)
  "${sudo[@]}" apt-get update -qq && "${sudo[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq "$@" >/dev/null
}

# Runs `cargo test` with the arguments given and prints the part's line from what it counted:
# cargo_part PART ARGUMENT…
cargo_part() {
  local part=$1 log status passed failed
  shift
  log=$(mktemp)
  cargo test "$@" 2>&1 | tee "$log"
  status=${PIPESTATUS[0]}
  read -r passed failed < <(awk '/^test result:/ { p += $4; f += $6 } END { print p + 0, f + 0 }' "$log")
  rm -f "$log"
  ((status != 0 && failed == 0)) && failed=1 # it did not build, or died
  echo "$part: $passed passed, $failed failed"
  ((failed == 0))
}

# Runs commands one by one and counts them: check_part PART 'command' 'command' …
check_part() {
  local part=$1 passed=0 failed=0
  shift
  for command in "$@"; do
    echo "+ $command"
    if bash -c "$command"; then ((passed += 1)); else ((failed += 1)); fi
  done
  echo "$part: $passed passed, $failed failed"
  ((failed == 0))
}

#!/bin/sh
# Installs what Kaon needs on this machine. Today there is one role, `dev`: whatever `npm test`, `npm run demo` and
# work on Kaon itself need. It says what it found, installs only what is missing, starts no service, and costs well
# under a second when there is nothing to do, so that the npm scripts can call it every time.
#
# POSIX sh, because it runs before anything else is there. Everything is in functions and `main` is called on the last
# line: a download that broke off in the middle then does nothing at all.

set -eu

# sysexits.h: wrong usage, and something the machine does not offer.
EXIT_USAGE=64
EXIT_UNAVAILABLE=69

NODE_MAJOR_MIN=20

role=''
dry_run=0
# Set while a policy-rc.d of ours is in place; see forbid_service_starts.
policy_file=''
scratch_file=''

usage() {
  cat <<'EOF'
usage: sh install.sh [--dry-run] ROLE

Installs what Kaon needs on this machine and says what it finds.

roles:
  dev             everything to build, test and demonstrate Kaon from a source tree
  master          not there yet
  agent           not there yet

options:
  -n, --dry-run   say what would be done, change nothing
  -h, --help      this text

exit status: 0 done or nothing to do, 64 wrong usage, 69 the role does not exist yet
or something is missing that this script may not or cannot install, else the status
of the command that failed (its output is shown).
EOF
}

say() {
  printf '%s\n' "$*"
}

# fail STATUS MESSAGE...
fail() {
  fail_status=$1
  shift
  printf 'install.sh: %s\n' "$*" >&2
  exit "$fail_status"
}

refuse() {
  fail "$EXIT_USAGE" "$* (see: sh install.sh --help)"
}

parse_arguments() {
  while [ $# -gt 0 ]; do
    case $1 in
      -h | --help)
        usage
        exit 0
        ;;
      -n | --dry-run) dry_run=1 ;;
      -*) refuse "unknown option $1" ;;
      dev | master | agent)
        [ -z "$role" ] || refuse "one role at a time, got $role and $1"
        role=$1
        ;;
      *) refuse "unknown role $1" ;;
    esac
    shift
  done
  [ -n "$role" ] || refuse "no role given"
}

cleanup() {
  # Leaving our policy behind would keep every later package from starting its service.
  if [ -n "$policy_file" ]; then rm -f "$policy_file"; fi
  if [ -n "$scratch_file" ]; then rm -f "$scratch_file"; fi
}

# Runs a command that talks too much: its output is shown only if it fails.
# quietly COMMAND [ARGUMENT...]
quietly() {
  [ -n "$scratch_file" ] || scratch_file=$(mktemp)
  quietly_status=0
  "$@" >"$scratch_file" 2>&1 || quietly_status=$?
  if [ "$quietly_status" -ne 0 ]; then
    cat "$scratch_file" >&2
    fail "$quietly_status" "failed: $*"
  fi
}

# --- what is there -------------------------------------------------------------------------------------------------

check_node() {
  command -v node >/dev/null 2>&1 ||
    fail "$EXIT_UNAVAILABLE" "Node $NODE_MAJOR_MIN or later is needed and there is no node on the PATH;" \
      "install Node 22 or 24 from your distribution or from nodejs.org"
  node_version=$(node --version)
  node_major=${node_version#v}
  node_major=${node_major%%.*}
  [ "$node_major" -ge "$NODE_MAJOR_MIN" ] ||
    fail "$EXIT_UNAVAILABLE" "Node $NODE_MAJOR_MIN or later is needed, $(command -v node) is $node_version"
  command -v npm >/dev/null 2>&1 ||
    fail "$EXIT_UNAVAILABLE" "npm is needed to fetch Kaon's dependencies and is not on the PATH"
  say "node ${node_version#v} found"
}

# The things of the operating system that the tests start. One name each; the three functions below know the rest.
SYSTEM_THINGS='redis-server dbus systemd util-linux procps python3'

# Prints the version of a thing if it is there, else nothing. Binaries are asked, not the package database: a Redis
# that was built by hand is as good as a packaged one.
version_of() {
  case $1 in
    redis-server) has redis-server && redis-server --version | sed 's/.*v=\([^ ]*\).*/\1/' ;;
    dbus) has dbus-daemon && dbus-daemon --version | sed -n '1s/.* //p' ;;
    systemd) has systemctl && [ -n "$(systemd_path)" ] && systemctl --version | sed -n '1s/systemd \([^ ]*\).*/\1/p' ;;
    util-linux) has unshare && has nsenter && unshare --version | sed 's/.* //' ;;
    python3) has python3 && python3 --version | sed 's/.* //' ;;
    procps) has ps && has pgrep && has sysctl && ps --version | sed 's/.* //' ;;
  esac || return 0
}

has() {
  command -v "$1" >/dev/null 2>&1
}

# Where distributions put PID 1; it is on nobody's PATH.
systemd_path() {
  for systemd_candidate in /usr/lib/systemd/systemd /lib/systemd/systemd; do
    if [ -x "$systemd_candidate" ]; then
      say "$systemd_candidate"
      return 0
    fi
  done
}

package_manager() {
  if has apt-get; then
    say apt-get
  elif has dnf; then
    say dnf
  fi
}

# package_of MANAGER THING
package_of() {
  case $1:$2 in
    dnf:redis-server) say redis ;;
    dnf:procps) say procps-ng ;;
    *) say "$2" ;;
  esac
}

# --- what is missing -----------------------------------------------------------------------------------------------

# Debian's packages start their service as soon as they are unpacked, also where PID 1 is not systemd. Tests bring
# their own Redis on their own socket; one more on the default port would only be in the way of somebody else.
forbid_service_starts() {
  # Containers and build machines have a policy of their own; it is not ours to replace.
  if [ -e /usr/sbin/policy-rc.d ]; then return 0; fi
  policy_file=/usr/sbin/policy-rc.d
  printf '#!/bin/sh\nexit 101\n' >"$policy_file"
  chmod 755 "$policy_file"
}

# install_packages MANAGER PACKAGE...
install_packages() {
  manager=$1
  shift
  case $manager in
    apt-get)
      forbid_service_starts
      # In the image of a container the package lists are usually empty, and in an old one they name files that are gone.
      quietly apt-get -qq update
      quietly env DEBIAN_FRONTEND=noninteractive apt-get -qq -y --no-install-recommends install "$@"
      ;;
    dnf) quietly dnf -q -y install "$@" ;;
  esac
}

check_system_things() {
  missing=''
  for thing in $SYSTEM_THINGS; do
    thing_version=$(version_of "$thing")
    if [ -n "$thing_version" ]; then
      say "$thing $thing_version found"
    else
      missing="$missing $thing"
    fi
  done
  if [ -n "$missing" ]; then install_missing; fi
}

install_missing() {
  manager=$(package_manager)
  [ -n "$manager" ] ||
    fail "$EXIT_UNAVAILABLE" "missing:$missing; this script knows apt-get and dnf only, please install them"
  packages=''
  for thing in $missing; do
    packages="$packages $(package_of "$manager" "$thing")"
  done
  if [ "$dry_run" -eq 1 ]; then
    say "would install$packages with $manager"
    return 0
  fi
  [ "$(id -u)" -eq 0 ] ||
    fail "$EXIT_UNAVAILABLE" "missing:$missing; only root may install packages, please run: sudo $manager install$packages"
  for thing in $missing; do say "installing $thing ..."; done
  # The names are ours and without blanks: splitting is what is wanted.
  # shellcheck disable=SC2086
  install_packages "$manager" $packages
  for thing in $missing; do
    thing_version=$(version_of "$thing")
    [ -n "$thing_version" ] ||
      fail "$EXIT_UNAVAILABLE" "$thing was installed by $manager but still cannot be found on the PATH"
    say "$thing $thing_version installed"
    if [ "$thing" = redis-server ] && [ -d /run/systemd/system ]; then
      say "  its service was not started, but starts at the next boot unless you say: systemctl disable redis-server"
    fi
  done
}

# --- the source tree -----------------------------------------------------------------------------------------------

install_dependencies() {
  if difference=$(node scripts/deps-match.mjs); then
    say "npm packages found, as in package-lock.json"
    return 0
  fi
  if [ "$dry_run" -eq 1 ]; then
    say "would run npm ci ($difference)"
    return 0
  fi
  say "installing npm packages ($difference) ..."
  quietly npm ci --no-audit --no-fund --loglevel=error
}

# Prints one source that is newer than the last successful build. Folders count too: removing or renaming a file
# changes nothing else.
newer_source() {
  if [ ! -e dist/.built ]; then
    say "nothing was built yet"
    return 0
  fi
  find . -mindepth 1 \
    \( -name node_modules -o -name dist -o -name test -o -name docs -o -name '.*' \) -prune -o \
    \( -type d -o -name '*.ts' -o -name '*.mjs' -o -name 'package*.json' -o -name 'tsconfig*.json' \) \
    -newer dist/.built -print | sed -n '1s/^/changed: /p'
}

build() {
  reason=$(newer_source)
  if [ -z "$reason" ]; then
    say "dist is up to date"
    return 0
  fi
  if [ "$dry_run" -eq 1 ]; then
    say "would run npm run build ($reason)"
    return 0
  fi
  say "building dist ($reason) ..."
  quietly npm run --silent build
}

install_dev() {
  check_node
  check_system_things
  install_dependencies
  build
}

main() {
  parse_arguments "$@"
  # Sources are found beside this file, wherever it is called from.
  cd "$(dirname "$0")"
  # A user's PATH on Debian has no sbin folders, but some of what we look for is there.
  PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin
  trap cleanup EXIT
  # Without these, dash would die of the signal and leave the policy behind.
  trap 'exit 130' INT
  trap 'exit 143' TERM
  case $role in
    dev) install_dev ;;
    *) fail "$EXIT_UNAVAILABLE" "the role $role is not there yet; today there is only dev" ;;
  esac
}

main "$@"

#!/bin/sh
# Installs Kaon on this node, upgrades it, and takes it away again; `--help` has the roles. The role `dev` is another
# matter: whatever `npm test`, `npm run demo` and work on Kaon itself need.
#
# How an installation goes: look (checks, and a plan of every file), ask, write down what will be there (the manifest),
# make it so, start. What is to be there is said once, in `lay_out`, which is run twice: with `planning=1` it compares and
# changes nothing, with `planning=0` it does what it has announced. Every file is replaced by a rename and the version by
# one of a link, so a run that is killed anywhere leaves a node that works; the next run goes on.
#
# POSIX sh, because it runs before anything else is there. Everything is in functions and `main` is called on the last
# line: a download that broke off in the middle then does nothing at all.

set -eu
umask 022

# sysexits.h: wrong usage, a file that is not what it should be, something the machine does not offer.
EXIT_USAGE=64
EXIT_DATA=65
EXIT_UNAVAILABLE=69

NODE_MAJOR_MIN=20
# What is brought where there is none: its newest release, from here unless KAON_NODE_MIRROR says otherwise.
NODE_MAJOR_BROUGHT=24
NODE_MIRROR=https://nodejs.org/dist
# 245 is the first that tells what killed a unit (`oom-kill`) and takes all limits of Kaon's tasks.
SYSTEMD_MIN=245
NODE_MIB=130

LIB=/usr/lib/kaon
STATE=/var/lib/kaon
SETTINGS=/etc/kaon
CREDENTIALS=/etc/kaon/credentials
UNITS=/etc/systemd/system
COMMAND=/usr/bin/kaon
# Every file, folder, user and package that an installation has made, a line each; `--uninstall` reads it.
MANIFEST=/var/lib/kaon/install/manifest
DAEMONS='master agent bullmq'
USERS='kaon kaon-task'
# Keys of the configuration files that the command line sets.
SETTING_KEYS='redis cluster redis-ca agent-id reserve'
JOIN_PREFIX=kaon-join1.

action=install
# What was asked for, and for an installation also what is there already.
roles=''
dry_run=0
assume_yes=0
purge=0
start=1
open_cluster=0
# Prefix of every path; empty for this machine. `image` is also set for `--root /`.
root=''
image=0
from=''
version=''
node_tarball=''
cluster_key_file=''
join=''
# Settings that were given, by the keys of the configuration files.
set_redis=''
set_cluster=''
set_reserve=''
# Of a join line, for the agent alone: it has a user of its own in Redis.
join_redis=''
join_cluster=''
join_agent_id=''
join_ca=''

# Set while a policy-rc.d of ours is in place; see forbid_service_starts.
policy_file=''
scratch_file=''
scratch=''
# `looking`, `changing`, `finished`: what a failure means for the node.
phase=looking
told=0

usage() {
  cat <<'EOF'
usage: sh install.sh [options] ROLE...
       sh install.sh --uninstall [--purge]

Installs Kaon on this node, or upgrades it: shows what it finds and what it will
do, and asks. Tasks that run are not touched. Run it again for another role.

roles:
  master          decides; one leads, others stand by
  agent           runs tasks on this node
  bullmq          a scheduler for BullMQ queues
  redis           the Redis of the cluster, with the settings that Kaon needs;
                  one that is there already is only checked
  all             redis, master, agent and bullmq
  dev             everything to build and test Kaon from a source tree

what and where:
  --from PATH     package to install: a tarball or a folder (default: where this
                  script is)
  --version V     a version that was installed before; or one to fetch from
                  KAON_RELEASES, URL of a folder: kaon-V.tgz, SHASUMS256.txt
  --node TARBALL  Node to unpack to /usr/lib/kaon/node (default: the system's,
                  if it is 20 or later; else the newest 24 from nodejs.org)
  --root DIR      into the file system of an image: starts and fetches nothing

settings (written to /etc/kaon; what is not given stays as it is there):
  --redis URL     of the cluster (default: redis://127.0.0.1:6379)
  --cluster NAME  its name (default: default)
  --join LINE     what `kaon join-token create` has printed, for an agent;
                  - reads it from standard input, @FILE from a file
  --reserve LIST  kept from tasks for the system: cpus=1,mem=1G
  --open          no tokens: whoever reaches Redis may do anything
  --cluster-key FILE
                  of the masters that are there (the first makes a new one)

how:
  -y, --yes       do not ask
  -n, --dry-run   say what would be done, change nothing
  --no-start      start no service now
  --uninstall     remove it; settings, state and Redis stay
  --purge         with --uninstall: these as well, and users
  -h, --help      this text

exit status: 0 done or nothing to do, 64 wrong usage, 65 a file is broken,
69 this node lacks something or nobody could be asked, else that of the command
that failed (its output is shown). After a failure, run the same command again.
EOF
}

say() {
  printf '%s\n' "$*"
}

# fail STATUS MESSAGE...
fail() {
  fail_status=$1
  shift
  told=1
  printf 'install.sh: %s\n' "$*" >&2
  exit "$fail_status"
}

refuse() {
  fail "$EXIT_USAGE" "$* (see: sh install.sh --help)"
}

parse_arguments() {
  while [ $# -gt 0 ]; do
    argument=$1
    shift
    case $argument in
      --*=*)
        take_option "${argument%%=*}" "${argument#*=}"
        ;;
      --from | --version | --node | --root | --redis | --cluster | --join | --reserve | --cluster-key)
        [ $# -gt 0 ] || refuse "$argument needs a value"
        take_option "$argument" "$1"
        shift
        ;;
      -*) take_switch "$argument" ;;
      *) take_role "$argument" ;;
    esac
  done
  check_arguments
}

take_switch() {
  case $1 in
    -h | --help)
      usage
      exit 0
      ;;
    -n | --dry-run) dry_run=1 ;;
    -y | --yes) assume_yes=1 ;;
    --no-start) start=0 ;;
    --open) open_cluster=1 ;;
    --uninstall) action=uninstall ;;
    --purge) purge=1 ;;
    *) refuse "unknown option $1" ;;
  esac
}

# take_option NAME VALUE
take_option() {
  [ -n "$2" ] || refuse "$1 needs a value"
  case $2 in
    *"
"*) [ "$1" = --join ] || refuse "the value of $1 is one line" ;;
  esac
  case $1 in
    --from) from=$2 ;;
    --version) version=$2 ;;
    --node) node_tarball=$2 ;;
    --root) take_root "$2" ;;
    --redis) set_redis=$2 ;;
    --cluster) set_cluster=$2 ;;
    --join) join=$2 ;;
    --reserve) set_reserve=$2 ;;
    --cluster-key) cluster_key_file=$2 ;;
    *) refuse "unknown option $1, or it takes no value" ;;
  esac
}

take_root() {
  [ -d "$1" ] || refuse "--root $1 is no folder"
  root=$(cd "$1" && pwd -P)
  [ "$root" != / ] || root=''
  image=1
}

take_role() {
  case $1 in
    dev | master | agent | redis | bullmq) roles="$roles $1" ;;
    all) roles="$roles redis master agent bullmq" ;;
    *) refuse "unknown role $1" ;;
  esac
}

has_role() {
  case " $roles " in
    *" $1 "*) return 0 ;;
    *) return 1 ;;
  esac
}

check_arguments() {
  if [ "$action" = uninstall ]; then
    [ -z "$roles" ] || refuse "--uninstall removes all roles, and takes none"
    return 0
  fi
  [ "$purge" -eq 0 ] || refuse "--purge goes with --uninstall"
  [ -n "$roles" ] || refuse "no role given"
  if has_role dev; then
    [ "$roles" = ' dev' ] || refuse "the role dev goes alone"
    [ -z "$root$from$version$node_tarball$set_redis$set_cluster$join$set_reserve" ] ||
      refuse "the role dev takes no option but --dry-run"
    return 0
  fi
  [ -z "$from" ] || [ -z "$version" ] || refuse "--from and --version name two packages"
  [ -z "$join" ] || has_role agent || refuse "--join is for the role agent"
  [ -z "$set_reserve" ] || has_role agent || refuse "--reserve is for the role agent"
  [ -z "$cluster_key_file" ] || has_role master || refuse "--cluster-key is for the role master"
  [ -z "$cluster_key_file" ] || [ "$open_cluster" -eq 0 ] || refuse "a cluster with a key is not --open"
  [ -z "$set_reserve" ] || reserve_of "$set_reserve" mem >/dev/null ||
    refuse "--reserve $set_reserve is not a list of resources; write cpus=1,mem=1G, or one of the two"
  case $set_cluster in
    *[!A-Za-z0-9_.-]*) refuse "--cluster $set_cluster: letters, digits and _ . - only" ;;
  esac
  case $version in
    */* | .*) refuse "--version $version is no version" ;;
  esac
  case $set_redis in
    '' | redis://* | rediss://* | unix://* | redis+*://* | rediss+*://*) ;;
    *) refuse "--redis $set_redis is no address; write redis://HOST:PORT, rediss://... or unix:///PATH" ;;
  esac
}

cleanup() {
  cleanup_status=$?
  # Leaving our policy behind would keep every later package from starting its service.
  if [ -n "$policy_file" ]; then rm -f "$policy_file"; fi
  if [ -n "$scratch_file" ]; then rm -f "$scratch_file"; fi
  case $phase:$cleanup_status:$told in
    looking:[!0]*:0) printf '%s\n' "install.sh: ended before anything was changed" >&2 ;;
    changing:[!0]*) give_up ;;
  esac
  if [ -n "$scratch" ]; then rm -rf "$scratch"; fi
}

# What is half made goes, to give its room back; what is whole stays for the next run.
give_up() {
  rm -rf "$root$LIB"/*.kaon-new "$root$SETTINGS"/*.kaon-new
  if [ ! -e "$root$MANIFEST" ]; then
    rm -f "$root$MANIFEST.kaon-new"
    sed -n 's/^dir //p' "$scratch/wanted" | LC_ALL=C sort -r | while read -r name; do
      rmdir "$root$name" 2>/dev/null || true
    done
  fi
  printf '%s\n' "install.sh: not finished; what ran before goes on. Run the same command again to go on," \
    "            or sh install.sh --uninstall to take back what is there" >&2
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

# Names of the packages that are installed, sorted.
list_packages() {
  case $manager in
    apt-get) dpkg-query --show --showformat '${db:Status-Status} ${Package}\n' | sed -n 's/^installed //p' ;;
    dnf) rpm -qa --queryformat '%{NAME}\n' ;;
  esac | LC_ALL=C sort -u
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

# list_words WORD...: with commas.
list_words() {
  printf '%s' "$1"
  shift
  for word in "$@"; do printf ', %s' "$word"; done
}

# --- what is looked at before anything is changed ------------------------------------------------------------------

# report ok|warn|FAIL TEXT [WHAT_TO_DO]
report() {
  printf '  %-4s  %s\n' "$1" "$2"
  [ -z "${3-}" ] || printf '        %s\n' "$3"
  [ "$1" != FAIL ] || failures=$((failures + 1))
}

run_checks() {
  failures=0
  say "checks:"
  check_place
  check_programs
  if [ "$image" -eq 0 ]; then
    check_systemd
    check_controllers
  fi
  check_room
  check_node_for_daemons
  if [ "$image" -eq 0 ]; then
    check_reserve
    check_settings
    check_redis
    check_clock
    check_selinux
    check_listen
  fi
  check_conflicts
  if grep -q '^role ' "$scratch/old" && ! is_finished; then
    report warn "an installation was not finished here; this one goes on with it"
  fi
}

refuse_failures() {
  [ "$failures" -eq 0 ] ||
    fail "$EXIT_UNAVAILABLE" "$failures $(plural "$failures" check) failed; nothing was changed"
}

# plural COUNT WORD
plural() {
  if [ "$1" -eq 1 ]; then say "$2"; else say "$2s"; fi
}

# os_field NAME: a field of os-release of where it is installed to.
os_field() {
  for os_file in "$root/etc/os-release" "$root/usr/lib/os-release"; do
    if [ -r "$os_file" ]; then
      sed -n "s/^$1=//p" "$os_file" | sed 's/^"\(.*\)"$/\1/; 1q'
      return 0
    fi
  done
}

check_place() {
  os_name=$(os_field PRETTY_NAME)
  if [ "$image" -eq 1 ]; then
    if [ ! -w "$root/" ]; then
      report FAIL "root file system $root/: not writable" "run it as root"
    else
      report ok "root file system $root/${os_name:+ ($os_name)}"
    fi
    return 0
  fi
  if [ "$(id -u)" -ne 0 ]; then
    report FAIL "not root" "run it again with sudo"
  fi
  manager=$(package_manager)
  if [ -n "$manager" ]; then
    report ok "${os_name:-Linux}, $(uname -m), packages by $manager"
  else
    report warn "${os_name:-Linux}, $(uname -m): packages by neither apt-get nor dnf" \
      "what is missing has to be installed by hand"
  fi
}

check_programs() {
  lacking=''
  for program in awk cmp flock gzip sed sha256sum tar; do
    has "$program" || lacking="$lacking $program"
  done
  [ -z "$lacking" ] || report FAIL "not on the PATH:$lacking" "install them with the system's packages"
}

check_systemd() {
  if [ ! -d /run/systemd/system ]; then
    report FAIL "process 1 is not systemd, which is what runs Kaon's tasks" \
      "to prepare a file system that systemd will boot: --root /"
    return 0
  fi
  systemd_version=$(version_of systemd)
  systemd_version=${systemd_version%%[!0-9]*}
  if [ "${systemd_version:-0}" -lt "$SYSTEMD_MIN" ]; then
    report FAIL "systemd ${systemd_version:-of no known version} is too old" \
      "$SYSTEMD_MIN or later is needed: Debian 11, Ubuntu 20.04, RHEL 9, and later ones"
  else
    report ok "systemd $systemd_version"
  fi
}

check_controllers() {
  has_role agent || return 0
  if [ -r /sys/fs/cgroup/cgroup.controllers ]; then
    controllers=$(cat /sys/fs/cgroup/cgroup.controllers)
    cgroup_version=v2
  else
    controllers=$(sed -n 's/^\([a-z_]*\)\t[1-9][0-9]*\t.*\t1$/\1/p' /proc/cgroups | tr '\n' ' ')
    cgroup_version=v1
  fi
  lacking=''
  for controller in cpu memory pids; do
    case " $controllers " in
      *" $controller "*) ;;
      *) lacking="$lacking $controller" ;;
    esac
  done
  if [ -n "$lacking" ]; then
    report FAIL "cgroup $cgroup_version without the controllers$lacking" \
      "limits of tasks need them: boot the kernel with cgroup_enable=memory, or enable them"
  elif [ "$cgroup_version" = v1 ]; then
    report warn "cgroup v1: limits hold, but what tasks use is known less exactly" \
      "v2 at the next boot: systemd.unified_cgroup_hierarchy=1 on the kernel's command line"
  else
    report ok "cgroup v2, controllers cpu, memory and pids"
  fi
}

# nearest_folder PATH: it, or the folder above that exists.
nearest_folder() {
  nearest=$1
  while [ ! -d "$nearest" ]; do nearest=$(dirname "$nearest"); done
  say "$nearest"
}

check_room() {
  room_kib=$(df -Pk "$(nearest_folder "$root$LIB")" | awk 'NR == 2 { print $4 }')
  needed_kib=$(($(du -sk "$package" | awk '{ print $1 }') + 2048))
  if [ "$node_source" = brought ]; then needed_kib=$((needed_kib + NODE_MIB * 1024)); fi
  if [ "$room_kib" -lt "$needed_kib" ]; then
    report FAIL "$((room_kib / 1024)) MB free for $root$LIB, and $((needed_kib / 1024 + 1)) MB are needed" "make room there"
  else
    report ok "room in $root$LIB"
  fi
}

check_node_for_daemons() {
  case $node_source in
    brought)
      if [ -n "$node_tarball" ]; then
        report ok "node $node_version, to be unpacked from $(basename "$node_tarball")"
      elif [ "$image" -eq 1 ]; then
        report warn "no node $NODE_MAJOR_MIN or later in it${node_too_old:+ ($node_too_old)}" \
          "put one into the image as /usr/bin/node, or give --node TARBALL"
      else
        report warn "no node $NODE_MAJOR_MIN or later${node_too_old:+ ($node_too_old)}" \
          "the newest $NODE_MAJOR_BROUGHT is fetched to $LIB/node; what the system has stays as it is"
      fi
      ;;
    *) report ok "node $node_version ($node_path)" ;;
  esac
}

check_clock() {
  has timedatectl || return 0
  if [ "$(timedatectl show -p NTPSynchronized --value 2>/dev/null)" = yes ]; then
    report ok "clock is synchronised"
  else
    report warn "the clock is not synchronised: times in logs will not agree" "e.g. timedatectl set-ntp true"
  fi
}

check_selinux() {
  has getenforce || return 0
  [ "$(getenforce)" = Enforcing ] || return 0
  if has restorecon; then
    report ok "SELinux enforces; files get their labels by restorecon"
  else
    report warn "SELinux enforces, and there is no restorecon to label the files" "install policycoreutils"
  fi
}

# Only an address that somebody has configured; a master that runs here may be who has it.
check_listen() {
  [ -r "$SETTINGS/master.toml" ] && has_role master || return 0
  listen=$(sed -n '/^\[/q; s/^listen *= *"\{0,1\}\([^"# ]*\).*/\1/p' "$SETTINGS/master.toml" | sed 1q)
  listen_port=${listen##*:}
  case $listen_port in
    '' | *[!0-9]*) return 0 ;;
  esac
  if systemctl -q is-active kaon-master.service; then return 0; fi
  if port_in_use "$listen_port"; then
    report FAIL "listen = \"$listen\" in $SETTINGS/master.toml: another program has port $listen_port" \
      "end that program, or change the address"
  else
    report ok "port $listen_port is free"
  fi
}

# Sockets in the state LISTEN (0A); ports are hexadecimal there.
port_in_use() {
  cat /proc/net/tcp /proc/net/tcp6 2>/dev/null | grep -q ":$(printf '%04X' "$1") [0-9A-F:]* 0A "
}

# What is in the way: files of the same names that no installation of ours has made.
check_conflicts() {
  while read -r conflict; do
    report FAIL "$conflict is there already, and not from here" "another installation? move it away"
  done <"$scratch/conflicts"
}

# --- Node ----------------------------------------------------------------------------------------------------------

# Sets node_source (system, ours, brought), node_path, node_version, and node_too_old if one was found that is.
# One in a home folder is nothing for services: they see none of it, and it goes with its owner.
find_node() {
  node_source=brought
  node_too_old=''
  node_path=$LIB/node/bin/node
  node_version=''
  if [ -n "$node_tarball" ]; then
    unpack_node "$node_tarball"
    return 0
  fi
  for node_candidate in "$LIB/node/bin/node" "$(on_path node)" /usr/bin/node /usr/local/bin/node; do
    case $node_candidate in
      '' | /root/* | /home/*) continue ;;
    esac
    [ -x "$root$node_candidate" ] || continue
    node_found=$(node_version_of "$node_candidate")
    if [ "${node_found%%.*}" -ge "$NODE_MAJOR_MIN" ]; then
      node_path=$node_candidate
      node_version=$node_found
      node_source=system
      [ "$node_path" != "$LIB/node/bin/node" ] || node_source=ours
      return 0
    fi
    node_too_old="$node_candidate is $node_found"
  done
  # Whoever makes the image puts it where distributions have it.
  if [ "$image" -eq 1 ]; then node_path=/usr/bin/node; fi
}

on_path() {
  [ "$image" -eq 1 ] || command -v "$1" || true
}

# Prints 0 for one that does not start. That of an image runs in it, with its libraries.
node_version_of() {
  if [ -n "$root" ]; then
    node_says=$(chroot "$root" "$1" --version 2>/dev/null || "$root$1" --version 2>/dev/null || say v0)
  else
    node_says=$("$1" --version 2>/dev/null || say v0)
  fi
  say "${node_says#v}"
}

# Only the program itself: npm and headers are not needed.
unpack_node() {
  check_sum "$1"
  mkdir -p "$scratch/node"
  tar -xzf "$1" -C "$scratch/node" --no-same-owner --strip-components=1 --wildcards '*/bin/node' '*/LICENSE' \
    2>"$scratch/words" ||
    fail "$EXIT_DATA" "$1 is not a tarball of Node ($(sed 1q "$scratch/words")); wanted: node-v$NODE_MAJOR_BROUGHT.x-linux-$(node_arch).tar.gz"
  node_version=$("$scratch/node/bin/node" --version 2>/dev/null) ||
    fail "$EXIT_DATA" "the node in $1 does not run here; wanted: node-v$NODE_MAJOR_BROUGHT.x-linux-$(node_arch).tar.gz"
  node_version=${node_version#v}
  [ "${node_version%%.*}" -ge "$NODE_MAJOR_MIN" ] ||
    fail "$EXIT_DATA" "$1 has node $node_version, and $NODE_MAJOR_MIN or later is needed"
}

node_arch() {
  case $(uname -m) in
    x86_64) say x64 ;;
    aarch64) say arm64 ;;
    *) uname -m ;;
  esac
}

fetch_node() {
  mirror=${KAON_NODE_MIRROR:-$NODE_MIRROR}/latest-v$NODE_MAJOR_BROUGHT.x
  say "fetching node $NODE_MAJOR_BROUGHT from $mirror ..."
  fetch "$mirror/SHASUMS256.txt" "$scratch/SHASUMS256.txt" "give --node TARBALL"
  node_file=$(sed -n "s/^[0-9a-f]*  \(node-v[0-9.]*-linux-$(node_arch)\.tar\.gz\)\$/\1/p" "$scratch/SHASUMS256.txt")
  [ -n "$node_file" ] || fail "$EXIT_UNAVAILABLE" "$mirror has no Node for linux-$(node_arch); give --node TARBALL"
  fetch "$mirror/$node_file" "$scratch/$node_file" "give --node TARBALL"
  unpack_node "$scratch/$node_file"
}

# fetch URL FILE WHAT_ELSE
fetch() {
  if has curl; then
    set -- "$@" curl -fsSL --connect-timeout 15 --retry 2 -o "$2" "$1"
  elif has wget; then
    set -- "$@" wget -q -T 15 -t 3 -O "$2" "$1"
  else
    fail "$EXIT_UNAVAILABLE" "cannot fetch $1: there is neither curl nor wget; install one, or $3"
  fi
  fetch_url=$1
  fetch_else=$3
  shift 3
  "$@" 2>"$scratch/words" ||
    fail "$EXIT_UNAVAILABLE" "cannot fetch $fetch_url: $(sed -n '$p' "$scratch/words"); without a network $fetch_else"
}

# A file that has a SHASUMS256.txt or FILE.sha256 beside it is checked against that.
check_sum() {
  [ -f "$1" ] || refuse "there is no file $1"
  sum_name=$(basename "$1")
  sum_wanted=''
  for sum_file in "$(dirname "$1")/SHASUMS256.txt" "$1.sha256"; do
    [ ! -r "$sum_file" ] || [ -n "$sum_wanted" ] ||
      sum_wanted=$(awk -v name="$sum_name" '$2 == name || $2 == "*" name || NF == 1 { print $1; exit }' "$sum_file")
  done
  [ -n "$sum_wanted" ] || return 0
  sum_found=$(sum_of "$1")
  [ "$sum_found" = "$sum_wanted" ] ||
    fail "$EXIT_DATA" "$1 has the checksum $sum_found and should have $sum_wanted; fetch it again"
}

sum_of() {
  sha256sum <"$1" | sed 's/ .*//'
}

# --- Redis ---------------------------------------------------------------------------------------------------------

# Names of Redis in this distribution: Fedora from 41 on and RHEL from 10 on have Valkey in its place.
name_redis() {
  redis_program=redis-server
  redis_user=redis
  redis_service=redis-server.service
  redis_package=redis-server
  redis_folder=/etc/redis
  redis_acl=/etc/redis/users.acl
  case " $(os_field ID) $(os_field ID_LIKE) " in
    *' fedora '* | *' rhel '* | *' centos '*) ;;
    *) return 0 ;;
  esac
  redis_service=redis.service
  redis_package=redis
  redis_acl=/var/lib/redis/users.acl
  os_major=$(os_field VERSION_ID)
  os_major=${os_major%%.*}
  case $(os_field ID) in
    fedora) valkey_from=41 ;;
    *) valkey_from=10 ;;
  esac
  [ "${os_major:-0}" -ge "$valkey_from" ] || return 0
  redis_program=valkey-server
  redis_user=valkey
  redis_service=valkey.service
  redis_package=valkey
  redis_folder=/etc/valkey
  redis_acl=/var/lib/valkey/users.acl
}

# What becomes of the role: `package` installs it and gives it settings, `settings` gives them, `foreign` is left alone.
find_redis() {
  redis_is=none
  has_role redis || return 0
  name_redis
  if listed package "$redis_package"; then
    redis_is=settings
    [ -x "$root/usr/bin/$redis_program" ] || redis_is=package
  elif [ "$image" -eq 0 ]; then
    redis_is=package
    if has redis-server || has valkey-server; then redis_is=foreign; fi
  elif [ ! -e "$(redis_unit_file)" ]; then
    redis_is=absent
  elif grep -qsE '^[[:space:]]*(aclfile|user|requirepass|appendonly yes|include)' "$root$redis_folder"/*.conf; then
    # In an image nobody's data is at stake, but somebody's settings are.
    redis_is=foreign
    grep -qsF "aclfile $redis_acl" "$root$redis_folder/kaon.conf" && redis_is=settings
  else
    redis_is=settings
  fi
  return 0
}

redis_unit_file() {
  for redis_unit in "$root/usr/lib/systemd/system/$redis_service" "$root/lib/systemd/system/$redis_service"; do
    if [ -e "$redis_unit" ]; then break; fi
  done
  say "$redis_unit"
}

# Asks with Kaon's own client, so that TLS, users, Sentinel and Cluster are as the daemons will see them.
check_redis() {
  if [ "$redis_is" = package ]; then
    if port_in_use 6379; then
      report FAIL "port 6379 is in use, but there is no $redis_program of this system (a container?)" \
        "leave out the role redis and say --redis redis://127.0.0.1:6379"
    fi
    return 0
  fi
  if [ "$node_source" = brought ] && [ -z "$node_version" ]; then
    report warn "Redis is asked once node is there"
    return 0
  fi
  asked_redis=''
  for daemon in $DAEMONS; do
    if has_role "$daemon"; then check_redis_of "$daemon"; fi
  done
}

# check_redis_of DAEMON, unless another one has the same.
check_redis_of() {
  redis_url=$(setting "$1" redis)
  case " $asked_redis " in
    *" ${redis_url:-default} "*) return 0 ;;
  esac
  asked_redis="$asked_redis ${redis_url:-default}"
  if ask_redis "$1"; then return 0; fi
  if [ "$redis_is" = foreign ] && [ -z "$redis_url" ]; then
    report FAIL "$redis_said" "a Redis is installed here: systemctl start $redis_service"
  else
    report FAIL "$redis_said" "is it running, and is the address right? --redis URL"
  fi
}

# ask_redis DAEMON: says in lines of `report` what its Redis is; sets redis_said and fails if it is not fit.
ask_redis() {
  redis_status=0
  redis_answer=$(KAON_REDIS=$(setting "$1" redis) KAON_CLUSTER=$(setting "$1" cluster) KAON_REDIS_CA=$(ca_file "$1") \
    KAON_REDIS_PASSWORD_FILE=$(password_file "$1") run_kaon check-redis 2>&1) || redis_status=$?
  redis_said=$(printf '%s\n' "$redis_answer" | sed -n '1s/^kaon: //; 1p')
  [ "$redis_status" -eq 0 ] || return 1
  report ok "$redis_said"
  printf '%s\n' "$redis_answer" | sed 1d >"$scratch/words"
  while read -r redis_warning; do report warn "$redis_warning"; done <"$scratch/words"
}

# password_file DAEMON, ca_file DAEMON: as they will be, before they are.
password_file() {
  for password in "$(new_password "$1")" "$CREDENTIALS/$1/redis-password"; do
    if [ -s "$password" ]; then
      say "$password"
      return 0
    fi
  done
}

ca_file() {
  if [ -n "$join_ca" ] && [ "$1" = agent ]; then say "$scratch/ca.crt"; else setting "$1" redis-ca; fi
}

# The new program, before it is installed.
run_kaon() {
  if [ -x "$scratch/node/bin/node" ]; then
    "$scratch/node/bin/node" "$package/dist/kaon.js" "$@"
  else
    "$node_path" "$package/dist/kaon.js" "$@"
  fi
}

# setting DAEMON KEY: as it will be; nothing if that is the default.
setting() {
  setting_value=$(given "$1" "$2")
  if [ -z "$setting_value" ] && [ -r "$root$SETTINGS/$1.toml" ]; then
    setting_value=$(get_key "$root$SETTINGS/$1.toml" "$2")
  fi
  say "$setting_value"
}

# --- what is installed ---------------------------------------------------------------------------------------------

# Puts what is to be installed into $package: a folder with package.json, dist/ and systemd/.
find_package() {
  package=$scratch/package
  if [ -n "$version" ] && [ -d "$root$LIB/$version/dist" ]; then
    from=$root$LIB/$version
  elif [ -n "$version" ]; then
    [ -n "${KAON_RELEASES-}" ] ||
      fail "$EXIT_UNAVAILABLE" "$root$LIB has no version $version; to fetch it say KAON_RELEASES=URL, or give --from TARBALL"
    fetch "$KAON_RELEASES/SHASUMS256.txt" "$scratch/SHASUMS256.txt" "give --from TARBALL"
    fetch "$KAON_RELEASES/kaon-$version.tgz" "$scratch/kaon-$version.tgz" "give --from TARBALL"
    from=$scratch/kaon-$version.tgz
  elif [ -z "$from" ]; then
    from=$here
    [ -e "$from/dist/kaon.js" ] || refuse "there is no package beside this script: give --from TARBALL"
  fi
  mkdir "$package"
  if [ -d "$from" ]; then
    copy_package
  else
    check_sum "$from"
    tar -xzf "$from" -C "$package" --no-same-owner --strip-components=1 2>"$scratch/words" ||
      fail "$EXIT_DATA" "$from is broken: $(sed 1q "$scratch/words")"
  fi
  package_version=$(sed -n 's/^ *"version": "\([A-Za-z0-9.+-]*\)".*/\1/p' "$package/package.json" 2>/dev/null | sed 1q)
  if [ ! -s "$package/dist/kaon.js" ] || [ -z "$package_version" ] ||
    ! grep -q '^ *"name": "kaon"' "$package/package.json"; then
    fail "$EXIT_DATA" "$from is no package of Kaon: it lacks dist/kaon.js or a package.json of kaon"
  fi
  chmod -R u=rwX,go=rX "$package"
}

# The same files as `npm pack` takes.
copy_package() {
  [ -e "$from/dist/kaon.js" ] || fail "$EXIT_DATA" "$from is no package of Kaon: it has no dist/kaon.js"
  for part in package.json LICENSE README.md install.sh dist systemd/units systemd/config systemd/sysusers.d systemd/tmpfiles.d systemd/with-journal; do
    [ -e "$from/$part" ] || continue
    mkdir -p "$(dirname "$package/$part")"
    cp -R "$from/$part" "$package/$part"
  done
  rm -rf "$package"/dist/.[!.]* "$package"/dist/demo.js* "$package"/dist/bench.js*
}

# A version that was rebuilt is another one: daemons that run still read parts of theirs.
name_version() {
  code_sum=$(tree_sum "$package")
  version_name=$package_version
  if [ -d "$root$LIB/$version_name" ] && [ "$(tree_sum "$root$LIB/$version_name")" != "$code_sum" ]; then
    version_name=$package_version+$(printf '%.8s' "$code_sum")
  fi
  current=$(readlink "$root$LIB/current" || true)
}

tree_sum() {
  (cd "$1" && find . -type f | LC_ALL=C sort | xargs sha256sum) | sha256sum | sed 's/ .*//'
}

# listed KIND NAME: whether an earlier installation has made it.
listed() {
  case "
$old
" in
    *"
$1 $2
"*) return 0 ;;
    *) return 1 ;;
  esac
}

# want KIND NAME: it belongs to the installation.
want() {
  [ "$planning" -eq 0 ] || printf '%s\n' "$1 $2" >>"$scratch/wanted"
}

# note VERB TEXT: a line of the plan. Inside a group, files are counted only.
note() {
  changes=$((changes + 1))
  [ "$planning" -eq 1 ] || return 0
  if [ -n "$group" ]; then
    if [ "$group_count" -eq 0 ]; then group_verb=$1; fi
    if [ "$group_verb" != "$1" ]; then group_verb=change; fi
    group_count=$((group_count + 1))
  else
    printf '  %-8s%s\n' "$1" "$2" >>"$scratch/plan"
  fi
}

begin_group() {
  group=$1
  group_count=0
}

end_group() {
  group_name=$group
  group=''
  [ "$planning" -eq 0 ] || [ "$group_count" -eq 0 ] ||
    note "$group_verb" "$group_name ($group_count $(plural "$group_count" file))"
}

# put_folder PATH MODE, and the folders above it. Those that were looked at already are in $folders.
put_folder() {
  case "$folders" in
    *":$1:"*) return 0 ;;
  esac
  folders="$folders:$1:"
  put_folder_above "$1"
  if [ -d "$root$1" ]; then
    if listed dir "$1"; then want dir "$1"; fi
    return 0
  fi
  want dir "$1"
  [ "$planning" -eq 1 ] || mkdir -m "$2" "$root$1"
}

put_folder_above() {
  case $1 in
    /*/*) put_folder "${1%/*}" 755 ;;
  esac
}

# put_file SOURCE PATH MODE: PATH becomes what SOURCE is, by a rename.
put_file() {
  put_folder_above "$2"
  want file "$2"
  if [ -e "$root$2" ] || [ -L "$root$2" ]; then
    if [ ! -L "$root$2" ] && cmp -s "$1" "$root$2"; then return 0; fi
    note change "$2"
    if [ "$planning" -eq 1 ]; then
      listed file "$2" || [ -n "$current" ] || printf '%s\n' "$root$2" >>"$scratch/conflicts"
      return 0
    fi
  else
    note add "$2"
  fi
  [ "$planning" -eq 1 ] || replace_file "$1" "$2" "$3"
}

# replace_file SOURCE PATH MODE
replace_file() {
  (umask 077 && cp -f "$1" "$root$2.kaon-new")
  chmod "$3" "$root$2.kaon-new"
  mv -f "$root$2.kaon-new" "$root$2"
}

# put_link TARGET PATH
put_link() {
  put_folder_above "$2"
  want link "$2"
  if [ "$(readlink "$root$2" || true)" = "$1" ]; then return 0; fi
  if [ -L "$root$2" ] || [ -e "$root$2" ]; then note change "$2 -> $1"; else note add "$2 -> $1"; fi
  [ "$planning" -eq 0 ] || return 0
  rm -f "$root$2.kaon-new"
  ln -s "$1" "$root$2.kaon-new"
  mv -fT "$root$2.kaon-new" "$root$2"
}

# Everything that is to be there, in an order in which each part finds what it needs.
lay_out() {
  planning=$1
  changes=0
  group=''
  restart=''
  folders=''
  for role in $roles; do want role "$role"; done
  lay_users
  lay_folders
  lay_code
  lay_node
  lay_settings
  lay_secrets
  lay_manuals
  lay_redis
  lay_units
  lay_command
}

user_exists() {
  grep -qs "^$1:" "$root/etc/passwd" || { [ "$image" -eq 0 ] && getent passwd "$1" >/dev/null; }
}

lay_users() {
  put_file "$package/systemd/sysusers.d/kaon.conf" /usr/lib/sysusers.d/kaon.conf 644
  new_users=''
  for user in $USERS; do
    if user_exists "$user"; then
      if listed user "$user"; then want user "$user"; fi
    else
      want user "$user"
      new_users="$new_users $user"
    fi
  done
  if [ -z "$new_users" ]; then return 0; fi
  # Without accounts there, or rights here, systemd makes them when the image boots.
  if [ "$image" -eq 1 ] && { [ ! -e "$root/etc/passwd" ] || [ "$(id -u)" -ne 0 ] || ! has systemd-sysusers; }; then
    return 0
  fi
  # shellcheck disable=SC2086
  note add "$(plural "$(set -- $new_users && say $#)" user) $(list_words $new_users)"
  [ "$planning" -eq 1 ] || quietly systemd-sysusers "--root=$root/" "$root/usr/lib/sysusers.d/kaon.conf"
}

lay_folders() {
  put_file "$package/systemd/tmpfiles.d/kaon.conf" /usr/lib/tmpfiles.d/kaon.conf 644
  put_folder "$SETTINGS" 755
  put_folder "$CREDENTIALS" 700
  for daemon in $DAEMONS; do
    if has_role "$daemon"; then put_folder "$CREDENTIALS/$daemon" 700; fi
  done
  put_folder "$STATE" 755
  put_folder "$(dirname "$MANIFEST")" 755
  # The rest of it (/run/kaon) is of one boot.
  [ "$planning" -eq 1 ] || [ "$image" -eq 1 ] || quietly systemd-tmpfiles --create /usr/lib/tmpfiles.d/kaon.conf
}

lay_code() {
  put_folder "$LIB" 755
  want tree "$LIB/$version_name"
  if [ ! -d "$root$LIB/$version_name" ]; then
    note add "$LIB/$version_name"
    [ "$planning" -eq 1 ] || put_tree "$package" "$LIB/$version_name"
  fi
  # The version before is kept, to go back to.
  previous=$(sed -n 's/^previous //p' "$scratch/old")
  if [ "$current" != "$version_name" ] && [ -n "$current" ]; then previous=$current; fi
  if [ -n "$previous" ] && [ -d "$root$LIB/$previous" ]; then
    want previous "$previous"
    want tree "$LIB/$previous"
  fi
}

# put_tree SOURCE PATH: a folder appears as a whole or not at all.
put_tree() {
  rm -rf "$root$2.kaon-new" "$root$2.kaon-old"
  cp -R "$1" "$root$2.kaon-new"
  if [ -d "$root$2" ]; then mv "$root$2" "$root$2.kaon-old"; fi
  mv "$root$2.kaon-new" "$root$2"
  rm -rf "$root$2.kaon-old"
}

lay_node() {
  if [ "$node_source" = ours ]; then
    want tree "$LIB/node"
  elif [ "$node_source" = brought ] && { [ "$image" -eq 0 ] || [ -n "$node_tarball" ]; }; then
    want tree "$LIB/node"
    if [ -n "$node_version" ] && cmp -s "$scratch/node/bin/node" "$root$LIB/node/bin/node"; then return 0; fi
    note add "$LIB/node, which is node ${node_version:-$NODE_MAJOR_BROUGHT}"
    restart=$DAEMONS
    [ "$planning" -eq 1 ] || put_tree "$scratch/node" "$LIB/node"
  fi
}

# --- settings ------------------------------------------------------------------------------------------------------

# get_key FILE KEY: a text at the top of a TOML file; nothing if it is not there or only in a comment.
get_key() {
  sed -n "/^\[/q; s/^$2 *= *\"\(.*\)\".*/\1/p" "$1" | sed '1q; s/\\\(.\)/\1/g'
}

# set_key FILE KEY VALUE: in place of the line that has it, or of the first comment that shows it, or after the name of the
# cluster, or before the first table.
set_key() {
  KEY=$2 VALUE=$3 awk '
    function entry(text) {
      text = ENVIRON["VALUE"]; gsub(/\\/, "\\\\", text); gsub(/"/, "\\\"", text)
      return ENVIRON["KEY"] " = \"" text "\""
    }
    function shows(line, key) {
      return index(line, key) == 1 && substr(line, length(key) + 1) ~ /^ *=/
    }
    BEGIN { key = ENVIRON["KEY"] }
    { line[NR] = $0; plain = $0; sub(/^# ?/, "", plain) }
    /^\[/ && !table { table = NR }
    table { next }
    !at && shows($0, key) { at = NR }
    !shown && shows(plain, key) { shown = NR }
    shows(plain, "cluster") { after = NR }
    END {
      if (!at) at = shown
      if (at) after = 0
      for (i = 1; i <= NR; i++) {
        if (!at && !after && i == table) print entry()
        print i == at ? entry() : line[i]
        if (i == after) print entry()
      }
      if (!at && !after && !table) print entry()
    }' "$1" >"$1.set"
  mv -f "$1.set" "$1"
}

# given DAEMON KEY: what the command line says of it.
given() {
  case $1:$2 in
    agent:redis) say "${join_redis:-$set_redis}" ;;
    agent:cluster) say "${join_cluster:-$set_cluster}" ;;
    agent:redis-ca) say "$join_ca" ;;
    agent:agent-id) say "$join_agent_id" ;;
    agent:reserve) say "$set_reserve" ;;
    *:redis) say "$set_redis" ;;
    *:cluster) say "$set_cluster" ;;
  esac
}

# apply_settings FILE DAEMON [FILE_BEFORE]: what was given, else what it was before.
apply_settings() {
  for key in $SETTING_KEYS; do
    value=$(given "$2" "$key")
    if [ -z "$value" ] && [ -n "${3-}" ]; then value=$(get_key "$3" "$key"); fi
    if [ -n "$value" ] && [ "$(get_key "$1" "$key")" != "$value" ]; then set_key "$1" "$key" "$value"; fi
  done
}

lay_settings() {
  for daemon in $DAEMONS; do
    if has_role "$daemon"; then lay_settings_of "$daemon"; fi
  done
}

# A file that nobody has touched follows the defaults of the version; one that somebody has changed only gets what was asked
# for on the command line, and new defaults are put beside it.
lay_settings_of() {
  settings_path=$SETTINGS/$1.toml
  template=$package/systemd/config/$1.toml
  if [ ! -e "$template" ]; then
    template=$scratch/$1.template
    say "# Settings of kaon $1, by the names of its flags: kaon $1 --help." >"$template"
  fi
  template_sum=$(sum_of "$template")
  made_sum=$(sed -n "s|^config \([0-9a-f]*\) $settings_path\$|\1|p" "$scratch/old")
  rendered=$scratch/$1.toml
  if [ "$planning" -eq 0 ]; then
    [ ! -e "$rendered.differs" ] || replace_file "$rendered" "$settings_path" 644
    lay_new_defaults "$1"
    return 0
  fi
  cp "$template" "$rendered"
  if [ ! -e "$root$settings_path" ]; then
    apply_settings "$rendered" "$1"
    settings_verb=add
    made_sum=$(sum_of "$rendered")
  elif [ "$(sum_of "$root$settings_path")" = "$made_sum" ]; then
    apply_settings "$rendered" "$1" "$root$settings_path"
    settings_verb=change
    made_sum=$(sum_of "$rendered")
  else
    cp "$root$settings_path" "$rendered"
    apply_settings "$rendered" "$1"
    settings_verb=change
    # It is the user's from now on, whatever it is changed to.
    made_sum=${made_sum:-0}
    lay_new_defaults "$1"
  fi
  want config "$made_sum $settings_path"
  want template "$template_sum $1"
  if cmp -s "$rendered" "$root$settings_path"; then return 0; fi
  : >"$rendered.differs"
  note "$settings_verb" "$settings_path$(settings_words "$1")"
}

lay_new_defaults() {
  if [ "$planning" -eq 1 ]; then
    old_template=$(sed -n "s|^template \([0-9a-f]*\) $1\$|\1|p" "$scratch/old")
    if [ -n "$old_template" ] && [ "$old_template" != "$template_sum" ]; then : >"$rendered.new"; fi
    if [ -e "$root$settings_path.new" ] && listed file "$settings_path.new"; then want file "$settings_path.new"; fi
  fi
  if [ -e "$rendered.new" ]; then put_file "$template" "$settings_path.new" 644; fi
}

# settings_words DAEMON: what of the command line is in it.
settings_words() {
  words=''
  for key in $SETTING_KEYS; do
    value=$(given "$1" "$key")
    [ -z "$value" ] || words="$words${words:+, }$key $value"
  done
  [ -z "$words" ] || say ": $words"
}

# put_secret NAME FILE DAEMON: into its credentials, readable for root alone.
put_secret() {
  secret_path=$CREDENTIALS/$3/$1
  want kept "$secret_path"
  if cmp -s "$2" "$root$secret_path"; then return 0; fi
  if [ -e "$root$secret_path" ]; then note change "$secret_path"; else note add "$secret_path"; fi
  restart="$restart $3"
  [ "$planning" -eq 1 ] || replace_file "$2" "$secret_path" 600
}

# new_password DAEMON: the file of the password that was given for it.
new_password() {
  if [ "$1" = agent ] && [ -n "$join_redis" ]; then
    say "$scratch/join-password"
  else
    say "$scratch/redis-password"
  fi
}

lay_secrets() {
  for daemon in $DAEMONS; do
    password=$(new_password "$daemon")
    if has_role "$daemon" && [ -s "$password" ]; then put_secret redis-password "$password" "$daemon"; fi
  done
  if [ -s "$scratch/token" ]; then put_secret token "$scratch/token" agent; fi
  lay_local_tokens
  if [ -s "$scratch/ca.crt" ]; then
    want kept "$SETTINGS/ca.crt"
    cmp -s "$scratch/ca.crt" "$root$SETTINGS/ca.crt" || {
      note add "$SETTINGS/ca.crt"
      [ "$planning" -eq 1 ] || replace_file "$scratch/ca.crt" "$SETTINGS/ca.crt" 644
    }
  fi
  lay_cluster_key
}

# Made once, with the first master: a cluster that was open does not get tokens by an upgrade.
find_cluster_key() {
  if has_role master && [ -z "$cluster_key_file" ] && [ "$open_cluster" -eq 0 ] && ! listed role master &&
    [ "$had_master" -eq 0 ] && [ ! -e "$root$CREDENTIALS/master/cluster-key" ]; then
    cluster_key_file=$scratch/cluster-key
    (umask 077 && head -c 32 /dev/urandom | base64 >"$cluster_key_file")
  fi
}

lay_cluster_key() {
  has_role master || return 0
  if [ -n "$cluster_key_file" ]; then
    put_secret cluster-key "$cluster_key_file" master
  elif listed kept "$CREDENTIALS/master/cluster-key"; then
    want kept "$CREDENTIALS/master/cluster-key"
  fi
}

# Where the master is, too, there is the key to make what the others need of a secured cluster. In an image is no Redis to
# write it down in.
find_local_tokens() {
  local_tokens=''
  if [ "$image" -eq 1 ] || [ "$start" -eq 0 ] || ! has_role master; then return 0; fi
  [ -n "$cluster_key_file" ] || [ -e "$CREDENTIALS/master/cluster-key" ] || return 0
  host=$(uname -n | tr -c 'A-Za-z0-9_.\n-' '-')
  for daemon in agent bullmq; do
    if ! has_role "$daemon" || [ -e "$CREDENTIALS/$daemon/token" ]; then continue; fi
    if [ "$daemon" = agent ] && [ -n "$join" ]; then continue; fi
    local_tokens="$local_tokens $daemon"
  done
  case $local_tokens in
    *agent*)
      join_agent_id=$(setting agent agent-id)
      join_agent_id=${join_agent_id:-$host}
      ;;
  esac
}

lay_local_tokens() {
  for daemon in agent bullmq; do
    token_path=$CREDENTIALS/$daemon/token
    case " $local_tokens " in
      *" $daemon "*)
        want kept "$token_path"
        note add "$token_path"
        ;;
      *) if listed kept "$token_path"; then want kept "$token_path"; fi ;;
    esac
  done
}

# After Redis is there and before the daemons are.
make_tokens() {
  for daemon in $local_tokens; do
    case $daemon in
      agent) make_token agent "$join_agent_id" --kind agent --agent "$join_agent_id" ;;
      bullmq) make_token bullmq "bullmq-$host" --kind framework --role '*' ;;
    esac
  done
}

# make_token DAEMON NAME OPTION...: a name that is there already gets another token, since nobody has the first.
make_token() {
  token_of=$1
  token_name=$2
  shift 2
  use_key create "$token_name" "$@" || use_key rotate "$token_name" ||
    fail 1 "no token for the $token_of: $(sed '1q; s/^kaon: //' "$scratch/words")"
  replace_file "$scratch/new-token" "$CREDENTIALS/$token_of/token" 600
}

use_key() {
  (umask 077 && KAON_REDIS=$(setting master redis) KAON_CLUSTER=$(setting master cluster) \
    KAON_REDIS_CA=$(setting master redis-ca) KAON_REDIS_PASSWORD_FILE=$(password_file master) \
    "$COMMAND" token "$@" --cluster-key-file "$CREDENTIALS/master/cluster-key" >"$scratch/new-token" 2>"$scratch/words")
}

# The plain value of a field of a flat JSON object of texts, as `kaon join-token create` makes it.
# json_field FILE NAME
json_field() {
  sed -nE "s/.*[{,]\"$2\":\"(([^\"\\\\]|\\\\.)*)\".*/\1/p" "$1" |
    awk '{ gsub(/\\n/, "\n"); gsub(/\\\//, "/"); gsub(/\\"/, "\""); gsub(/\\\\/, "\\"); printf "%s", $0 }'
}

# Takes a join line apart into settings and files of secrets.
read_join() {
  [ -n "$join" ] || return 0
  case $join in
    -) join=$(cat) ;;
    @*)
      [ -r "${join#@}" ] || refuse "--join: there is no file ${join#@}"
      join=$(cat "${join#@}")
      ;;
  esac
  join=$(printf '%s' "$join" | tr -d ' \t\r\n')
  join_body=${join#"$JOIN_PREFIX"}
  [ "$join_body" != "$join" ] || refuse "--join: that is no join line; kaon join-token create prints one, it begins with $JOIN_PREFIX"
  case $((${#join_body} % 4)) in
    2) join_body=$join_body== ;;
    3) join_body=$join_body= ;;
  esac
  printf '%s' "$join_body" | tr '_-' '/+' | base64 -d >"$scratch/join" 2>/dev/null || : >"$scratch/join"
  join_redis=$(json_field "$scratch/join" redis)
  join_agent_id=$(json_field "$scratch/join" agentId)
  join_cluster=$(json_field "$scratch/join" cluster)
  if [ -z "$join_redis" ] || [ -z "$join_agent_id" ] || [ -z "$join_cluster" ]; then
    refuse "--join: the line is cut or changed; it is one line of letters, digits, - and _"
  fi
  for field in redisPassword:join-password token:token caPem:ca.crt; do
    (umask 077 && json_field "$scratch/join" "${field%%:*}" >"$scratch/${field#*:}")
  done
  if [ -s "$scratch/ca.crt" ]; then join_ca=$SETTINGS/ca.crt; fi
}

# --- manuals, units, the command -----------------------------------------------------------------------------------

lay_manuals() {
  begin_group "manual pages, see man kaon"
  for page in "$package"/dist/man/*.[1-8]; do
    if [ -e "$page" ]; then put_file "$page" "/usr/share/man/man${page##*.}/${page##*/}" 644; fi
  done
  end_group
  zsh_folder=/usr/share/zsh/site-functions
  case " $(os_field ID) $(os_field ID_LIKE) " in
    *' debian '*) zsh_folder=/usr/share/zsh/vendor-completions ;;
  esac
  begin_group "completion for bash, zsh and fish"
  lay_completion kaon.bash /usr/share/bash-completion/completions/kaon
  lay_completion _kaon "$zsh_folder/_kaon"
  lay_completion kaon.fish /usr/share/fish/vendor_completions.d/kaon.fish
  end_group
}

lay_completion() {
  if [ -e "$package/dist/completion/$1" ]; then put_file "$package/dist/completion/$1" "$2" 644; fi
}

# Beside the settings of the distribution, which stay as they are and are read first.
lay_redis() {
  case $redis_is in
    package | settings) ;;
    *) return 0 ;;
  esac
  if [ "$redis_is" = package ]; then
    want package "$redis_package"
    note add "package $redis_package"
  elif listed package "$redis_package"; then
    want package "$redis_package"
    [ "$planning" -eq 0 ] || sed -n '/^dependency /p' "$scratch/old" >>"$scratch/wanted"
  fi
  changes_before=$changes
  cat >"$scratch/redis.conf" <<END
# What Kaon needs of its Redis, put here by its install.sh. Read after $redis_folder/redis.conf.
# A Redis that evicts would forget tasks; masters refuse to start with it.
maxmemory-policy noeviction
# A restart then costs nothing.
appendonly yes
# Users made by kaon join-token outlive a restart.
aclfile $redis_acl
END
  begin_group "settings of Redis: noeviction, append-only file, ACL file"
  put_kept "$scratch/redis.conf" "$redis_folder/kaon.conf" 640
  : >"$scratch/users.acl"
  if [ -e "$root$redis_acl" ]; then
    if listed kept "$redis_acl"; then want kept "$redis_acl"; fi
  else
    put_kept "$scratch/users.acl" "$redis_acl" 640
  fi
  redis_start=$(sed -n 's/^ExecStart=//p' "$(redis_unit_file)" 2>/dev/null | sed 1q)
  cat >"$scratch/redis-unit" <<END
# Made by Kaon's install.sh: the same start as before, and the settings of $redis_folder/kaon.conf.
[Service]
ExecStart=
ExecStart=${redis_start:-/usr/bin/$redis_program} --include $redis_folder/kaon.conf
END
  put_kept "$scratch/redis-unit" "$UNITS/$redis_service.d/kaon.conf" 644
  end_group
  if [ "$planning" -eq 0 ] && [ "$(id -u)" -eq 0 ] && { [ "$image" -eq 0 ] || [ -n "$(owner_of "$redis_user")" ]; }; then
    redis_owner=$(owner_of "$redis_user")
    if [ -n "$redis_owner" ]; then chown "$redis_owner" "$root$redis_acl" "$root$redis_folder/kaon.conf"; fi
  fi
  [ "$changes" -eq "$changes_before" ] || restart="$restart redis"
}

# The numbers of a user there, which may be others than those of the same name here.
owner_of() {
  sed -n "s/^$1:[^:]*:\([0-9]*\):\([0-9]*\):.*/\1:\2/p" "$root/etc/passwd" 2>/dev/null || true
}

# put_kept SOURCE PATH MODE: as put_file, but it stays until --purge.
put_kept() {
  put_folder_above "$2"
  want kept "$2"
  if cmp -s "$1" "$root$2"; then return 0; fi
  if [ -e "$root$2" ]; then note change "$2"; else note add "$2"; fi
  [ "$planning" -eq 1 ] || replace_file "$1" "$2" "$3"
}

lay_units() {
  begin_group "units in $UNITS, started at boot"
  for daemon in $DAEMONS; do
    has_role "$daemon" || continue
    changes_before=$changes
    put_file "$package/systemd/units/kaon-$daemon.service" "$UNITS/kaon-$daemon.service" 644
    [ "$changes" -eq "$changes_before" ] || restart="$restart $daemon"
  done
  if has_role agent; then
    put_file "$package/systemd/units/kaon.slice" "$UNITS/kaon.slice" 644
    user_unit=$package/systemd/units/user/kaon-agent.service
    if [ -e "$user_unit" ]; then put_file "$user_unit" /usr/lib/systemd/user/kaon-agent.service 644; fi
    lay_reserve
  fi
  for daemon in $DAEMONS; do
    if has_role "$daemon" && has_work "$daemon"; then lay_enabled "kaon-$daemon.service"; fi
  done
  end_group
}

# A scheduler of queues without a queue would only fail.
has_work() {
  [ "$1" != bullmq ] || [ -e "$root$SETTINGS/bullmq.json" ] ||
    grep -qsE '^(queue *=|\[\[ *queues *\]\])' "$root$SETTINGS/bullmq.toml"
}

# Who has disabled a service wants it disabled after an upgrade, too.
lay_enabled() {
  enabled_path=$UNITS/multi-user.target.wants/$1
  if listed link "$enabled_path" && is_finished && [ ! -L "$root$enabled_path" ]; then
    want link "$enabled_path"
    return 0
  fi
  put_link "$UNITS/$1" "$enabled_path"
}

is_finished() {
  case "
$old" in
    *"
finished "*) return 0 ;;
    *) return 1 ;;
  esac
}

# reserve_of LIST cpus|mem: thousandths of a core, or MiB; nothing if it is not in the list; fails if it is no list.
reserve_of() {
  printf '%s\n' "$1" | tr ',' '\n' | awk -F= -v wanted="$2" '
    { gsub(/[ \t]/, "") }
    NF != 2 || seen[$1]++ { exit bad = 1 }
    $1 == "cpus" && $2 ~ /^[0-9]+(\.[0-9]+)?m?$/ {
      if (wanted == $1) print ($2 ~ /m$/) ? $2 + 0 : $2 * 1000
      next
    }
    $1 == "mem" && tolower($2) ~ /^[0-9]+(\.[0-9]+)?([kmgt]?(i?b)?)?$/ {
      unit = tolower($2); gsub(/[0-9.ib]/, "", unit)
      mib = ($2 + 0) * (unit == "k" ? 1 / 1024 : unit == "m" ? 1 : unit == "g" ? 1024 : unit == "t" ? 1048576 : 1 / 1048576)
      if (wanted == $1) print (mib > int(mib)) ? int(mib) + 1 : mib
      next
    }
    { exit bad = 1 }
    END { exit bad }'
}

# get_reserve FILE: `cpus=1,mem=1G`, however it is written: as one text, as {...}, or as a table.
get_reserve() {
  awk '
    /^\[/ { inside = ($0 ~ /^\[reserve\]/); table = 1; next }
    !table && /^reserve *=/ { sub(/^reserve *= */, ""); text = $0 }
    inside && /^(cpus|mem) *=/ { sub(/ *#.*/, ""); text = text (text == "" ? "" : ",") $0 }
    END { sub(/ *#.*/, "", text); gsub(/[{}" \t]/, "", text); print text }' "$1"
}

# Sets slice_cpus (percent) and slice_mem (MiB): what the slice of all tasks may use, as the agent works it out for what it
# offers: what there is less the reserve. Empty where there is no limit.
size_slice() {
  slice_cpus=''
  slice_mem=''
  [ -e "$scratch/agent.toml" ] || return 0
  reserve=$(get_reserve "$scratch/agent.toml")
  [ -n "$reserve" ] || return 0
  total_mib=$(awk '$1 == "MemTotal:" { print int($2 / 1024) }' /proc/meminfo)
  total_millis=$(($(getconf _NPROCESSORS_ONLN) * 1000))
  reserve_mib=$(reserve_of "$reserve" mem || true)
  # The agent's own default: 512 MiB, or a quarter of a small node.
  [ -n "$reserve_mib" ] || reserve_mib=$((total_mib / 4 < 512 ? total_mib / 4 : 512))
  slice_mem=$((total_mib - reserve_mib))
  reserve_millis=$(reserve_of "$reserve" cpus || true)
  [ -z "$reserve_millis" ] || slice_cpus=$(((total_millis - reserve_millis) / 10))
}

check_reserve() {
  [ -n "$set_reserve" ] || return 0
  size_slice
  if [ "$slice_mem" -le 0 ] || [ "${slice_cpus:-1}" -le 0 ]; then
    report FAIL "--reserve $set_reserve leaves nothing of $((total_millis / 1000)) cpus and $total_mib MB for tasks" "reserve less"
  fi
}

# What somebody has written may be nothing that this version takes.
check_settings() {
  if [ "$node_source" = brought ] && [ -z "$node_version" ]; then return 0; fi
  for daemon in $DAEMONS; do
    if has_role "$daemon" && has_work "$daemon" && [ -e "$SETTINGS/$daemon.toml" ]; then
      run_kaon config check "$daemon" --config "$scratch/$daemon.toml" >"$scratch/words" 2>&1 ||
        report FAIL "$SETTINGS/$daemon.toml: $(sed "1s|^.*$scratch/$daemon.toml||; 1s/^[: ]*//; 1q" "$scratch/words")" "repair it and try again"
    fi
  done
}

lay_reserve() {
  # Of an image nobody knows yet what it will run on.
  if [ "$image" -eq 1 ]; then return 0; fi
  size_slice
  [ -n "$slice_mem" ] || return 0
  {
    say "# Made by Kaon's install.sh from the reserve in $SETTINGS/agent.toml: what all tasks may use together."
    say "[Slice]"
    say "MemoryMax=${slice_mem}M"
    [ -z "$slice_cpus" ] || say "CPUQuota=$slice_cpus%"
  } >"$scratch/reserve.conf"
  put_file "$scratch/reserve.conf" "$UNITS/kaon.slice.d/50-reserve.conf" 644
}

# The link is last: from then on, the new version is what starts.
lay_command() {
  cat >"$scratch/kaon" <<END
#!/bin/sh
# Made by Kaon's install.sh.
exec $node_path $LIB/current/dist/kaon.js "\$@"
END
  put_file "$scratch/kaon" "$COMMAND" 755
  put_link "$version_name" "$LIB/current"
  if [ "$current" != "$version_name" ]; then restart=$DAEMONS; fi
}

# What the version before had and this one has not, and versions before the one before.
remove_obsolete() {
  while read -r kind name; do
    case $kind in
      file | link | tree) ;;
      *) continue ;;
    esac
    grep -qxF "$kind $name" "$scratch/wanted" || rm -rf "$root$name"
  done <"$scratch/old"
}

# --- doing it ------------------------------------------------------------------------------------------------------

# lock_node: two runs at a time would undo each other. The folder itself is locked, so that no file is left.
lock_node() {
  exec 9<"$root/"
  flock -n 9 || fail "$EXIT_UNAVAILABLE" "another install.sh is running here; wait for its end"
}

ask() {
  if [ "$assume_yes" -eq 1 ]; then return 0; fi
  # Standard input may be this script, from a pipe.
  (: </dev/tty) 2>/dev/null ||
    fail "$EXIT_UNAVAILABLE" "there is no terminal to ask on; to go on say --yes, to only look --dry-run"
  printf '%s [y/N] ' "$1" >/dev/tty
  read -r answer </dev/tty || answer=''
  case $answer in
    y | Y | yes) ;;
    *)
      say "nothing was changed"
      exit 0
      ;;
  esac
}

install_here() {
  lock_node
  scratch=$(mktemp -d)
  : >"$scratch/wanted"
  : >"$scratch/conflicts"
  : >"$scratch/plan"
  take_over
  read_join
  find_package
  find_node
  find_redis
  name_version
  take_password
  find_cluster_key
  find_local_tokens
  lay_out 1
  # Roles are words of ours: splitting is what is wanted.
  # shellcheck disable=SC2086
  say "Kaon $package_version: $(list_words $roles)"
  run_checks
  if [ "$dry_run" -eq 0 ]; then refuse_failures; fi
  if [ "$changes" -eq 0 ] && is_finished; then
    say "nothing to do: it is installed as it should be"
    return 0
  fi
  say "to do:"
  cat "$scratch/plan"
  say_services
  if [ "$dry_run" -eq 1 ]; then
    refuse_failures
    return 0
  fi
  ask "go on?"
  phase=changing
  bring_packages
  write_manifest "$scratch/wanted" "$scratch/old"
  lay_out 0
  remove_obsolete
  label_files
  run_services
  # A service that does not start is tried again by the next run.
  if [ -z "$failed" ]; then say "finished $version_name" >>"$scratch/wanted"; fi
  write_manifest "$scratch/wanted"
  phase=finished
  say_end
}

# Puts what is installed already into $old, and into a file for those that read it by lines.
read_manifest() {
  : >"$scratch/old"
  if [ -e "$root$MANIFEST" ]; then cp "$root$MANIFEST" "$scratch/old"; fi
  old=$(cat "$scratch/old")
}

# What is installed already: its roles stay, and its manifest says what is ours.
take_over() {
  read_manifest
  # Settings that are there were made by an installation, or by hand for an open cluster.
  had_master=0
  if [ -e "$root$SETTINGS/master.toml" ]; then had_master=1; fi
  asked=$roles
  roles=''
  for role in redis master agent bullmq; do
    case " $asked " in
      *" $role "*) roles="$roles $role" ;;
      *) if listed role "$role"; then roles="$roles $role"; fi ;;
    esac
  done
}

# A password is no setting: it goes into a file that root alone can read.
take_password() {
  case $set_redis in
    unix://*) return 0 ;;
    *://*:*@*) ;;
    *) return 0 ;;
  esac
  credentials=${set_redis#*://}
  credentials=${credentials%%@*}
  password=${credentials#*:}
  case $password in
    *%*) return 0 ;;
  esac
  (umask 077 && printf '%s\n' "$password" >"$scratch/redis-password")
  login=${credentials%%:*}
  set_redis=${set_redis%%://*}://${login:+$login@}${set_redis#*@}
}

# Manifests are replaced as a whole. Several are merged: a run that is killed has written down what it was about to make.
write_manifest() {
  mkdir -p "$root$(dirname "$MANIFEST")"
  # By sed, which fails if there is no room and not, as grep does, if there is nothing to write.
  cat "$@" | sed '/^finished/d' >"$scratch/manifest"
  if [ "$phase" = changing ] && [ $# -eq 1 ]; then sed -n '/^finished/p' "$1" >>"$scratch/manifest"; fi
  LC_ALL=C sort -u "$scratch/manifest" >"$scratch/manifest.sorted"
  replace_file "$scratch/manifest.sorted" "$MANIFEST" 644
}

bring_packages() {
  if [ "$redis_is" = package ]; then
    say "installing $redis_package ..."
    [ -n "$manager" ] || fail "$EXIT_UNAVAILABLE" "$redis_package is needed and cannot be installed here; install it by hand"
    list_packages >"$scratch/packages"
    install_packages "$manager" "$redis_package"
    # What has come along with it goes with it, too.
    list_packages | LC_ALL=C comm -13 "$scratch/packages" - | grep -vxF "$redis_package" |
      sed 's/^/dependency /' >>"$scratch/wanted"
  fi
  if [ "$node_source" = brought ] && [ -z "$node_version" ] && [ "$image" -eq 0 ]; then
    fetch_node
    [ "$redis_is" = package ] || check_redis
    [ "$failures" -eq 0 ] || fail "$EXIT_UNAVAILABLE" "Redis cannot be used"
  fi
}

label_files() {
  if [ "$image" -eq 0 ] && has selinuxenabled && selinuxenabled && has restorecon; then
    quietly restorecon -RF "$LIB" "$COMMAND" "$SETTINGS" "$STATE" "$UNITS"
  fi
}

# Says which services will be started and restarted.
say_services() {
  if [ "$image" -eq 1 ] || [ "$start" -eq 0 ]; then return 0; fi
  for role in $roles; do
    if [ "$role" = redis ]; then
      case $redis_is:$restart in
        package:* | settings:*redis*) printf '  %-8s%s\n' start "$redis_service" ;;
      esac
    elif ! has_work "$role"; then
      continue
    elif is_new "$role"; then
      printf '  %-8s%s\n' start "kaon-$role.service"
    elif is_restarted "$role"; then
      printf '  %-8s%s\n' restart "kaon-$role.service, if it runs (tasks go on)"
    fi
  done
}

# One that was installed before without queues is new when it has some.
is_new() {
  ! listed role "$1" || ! is_finished || ! listed link "$UNITS/multi-user.target.wants/kaon-$1.service"
}

is_restarted() {
  case " $restart " in
    *" $1 "*) return 0 ;;
    *) return 1 ;;
  esac
}

run_services() {
  failed=''
  if [ "$image" -eq 1 ]; then return 0; fi
  quietly systemctl daemon-reload
  if [ "$start" -eq 0 ]; then return 0; fi
  if [ "$redis_is" = package ] || is_restarted redis; then
    quietly systemctl enable "$redis_service"
    quietly systemctl restart "$redis_service"
  fi
  make_tokens
  for daemon in $DAEMONS; do
    if ! has_role "$daemon" || ! has_work "$daemon"; then continue; fi
    if is_new "$daemon"; then
      systemctl restart "kaon-$daemon.service" >/dev/null 2>&1 || failed="$failed kaon-$daemon.service"
    elif is_restarted "$daemon" && systemctl -q is-active "kaon-$daemon.service"; then
      systemctl restart "kaon-$daemon.service" >/dev/null 2>&1 || go_back "kaon-$daemon.service"
      systemctl -q is-active "kaon-$daemon.service" || go_back "kaon-$daemon.service"
    fi
  done
}

# A daemon that ran and does not with the new version: the version before is installed again, by its own script.
go_back() {
  say "$1 does not run with $version_name:"
  journalctl -q -u "$1" -n 5 -o cat 2>/dev/null | sed 's/^/    /'
  if [ -z "$current" ] || [ "$current" = "$version_name" ]; then
    fail 1 "$1 does not start; see journalctl -u $1"
  fi
  say "going back to $current ..."
  exec 9<&-
  phase=finished
  # Roles are words of ours: splitting is what is wanted.
  # shellcheck disable=SC2086
  sh "$LIB/$current/install.sh" --yes --from "$LIB/$current" $roles >"$scratch/words" 2>&1 ||
    cat "$scratch/words" >&2
  fail 1 "$version_name is not installed, $current is again"
}

say_end() {
  if [ "$image" -eq 1 ]; then
    say "done: Kaon $package_version is in $root/; its services start when it boots"
    if [ -n "$set_reserve" ]; then
      say "  limits of $UNITS/kaon.slice follow from the reserve when install.sh agent runs there"
    fi
  elif [ "$start" -eq 0 ]; then
    say "done: Kaon $package_version is installed, and nothing was started (--no-start)"
  else
    say "done: Kaon $package_version is installed"
    for daemon in $DAEMONS; do
      if has_role "$daemon"; then printf '  %-14s%s\n' "kaon-$daemon" "$(state_of "$daemon")"; fi
    done
  fi
  if [ -e "$scratch/cluster-key" ]; then
    say "This cluster is secured: who wants something of it needs a token. All tokens come from"
    say "$CREDENTIALS/master/cluster-key: keep a copy; other masters need the same"
    say "(--cluster-key FILE); who has it may do anything."
  fi
  if [ -n "$failed" ]; then
    for unit in $failed; do
      say "$unit does not start:"
      journalctl -q -u "$unit" -n 3 -o cat 2>/dev/null | sed 's/^/    /'
    done
    fail 1 "not everything runs; see above, then systemctl start$failed"
  fi
  if [ "$image" -eq 0 ] && [ -e "$scratch/cluster-key" ]; then
    say "next, a token for yourself:"
    say "  kaon ${set_redis:+--redis $set_redis }${set_cluster:+--cluster $set_cluster }token create me --kind admin \\"
    say "    --cluster-key-file $CREDENTIALS/master/cluster-key >~/.kaon-token"
    say "  export KAON_TOKEN_FILE=~/.kaon-token"
    say "  kaon ${set_redis:+--redis $set_redis }${set_cluster:+--cluster $set_cluster }status"
  elif [ "$image" -eq 0 ]; then
    say "next: kaon ${set_redis:+--redis $set_redis }${set_cluster:+--cluster $set_cluster }status"
  fi
}

state_of() {
  if has_work "$1"; then
    systemctl is-active "kaon-$1.service" || true
  else
    say "has no queues: name them in $SETTINGS/bullmq.toml, then systemctl enable --now kaon-bullmq"
  fi
}

# --- taking it away ------------------------------------------------------------------------------------------------

uninstall_here() {
  lock_node
  scratch=$(mktemp -d)
  read_manifest
  # Without the manifest there can be no more than the folders for it, from a run that was killed just then.
  if ! grep -q '^\(file\|tree\) ' "$scratch/old" && { [ "$purge" -eq 0 ] || [ ! -d "$root$STATE" ]; }; then
    say "nothing to do: Kaon is not installed here"
    return 0
  fi
  [ "$image" -eq 1 ] || [ "$dry_run" -eq 1 ] || [ "$(id -u)" -eq 0 ] ||
    fail "$EXIT_UNAVAILABLE" "only root can remove it; run it again with sudo"
  say_removal
  if [ "$dry_run" -eq 1 ]; then return 0; fi
  ask "remove it?"
  phase=changing
  stop_services
  remove_files
  if [ "$purge" -eq 1 ]; then remove_kept; fi
  remove_folders
  leave_manifest
  [ "$image" -eq 1 ] || systemctl daemon-reload
  [ "$image" -eq 1 ] || systemctl reset-failed 'kaon-*' 2>/dev/null || true
  phase=finished
  say "done: Kaon is removed"
}

count_tasks() {
  if [ "$image" -eq 1 ]; then
    say 0
    return 0
  fi
  systemctl list-units --plain --no-legend --type=service --state=active,activating,deactivating 'kaon-*' 2>/dev/null |
    awk '$1 !~ /^kaon-(master|agent|bullmq|keeper-.*|fence-.*)\.service$/ { count++ } END { print count + 0 }'
}

say_removal() {
  say "to do:"
  tasks=$(count_tasks)
  if [ "$tasks" -gt 0 ]; then
    printf '  %-8s%s\n' stop "$tasks $(plural "$tasks" task) of this node; the cluster may start the same elsewhere"
  fi
  for daemon in $DAEMONS; do
    if listed role "$daemon"; then printf '  %-8s%s\n' remove "kaon-$daemon.service"; fi
  done
  printf '  %-8s%s\n' remove "$LIB, $COMMAND, manual pages and completion"
  if [ "$purge" -eq 1 ]; then
    printf '  %-8s%s\n' remove "$SETTINGS and $STATE, with settings, secrets and what tasks have written"
    sed -n 's/^user //p' "$scratch/old" | while read -r user; do
      if user_exists "$user"; then printf '  %-8s%s\n' remove "user $user"; fi
    done
    sed -n 's/^package //p' "$scratch/old" | while read -r name; do
      printf '  %-8s%s\n' remove "package $name, with all that is in that Redis"
    done
  else
    printf '  %-8s%s\n' keep "$SETTINGS, $STATE, users$(sed -n 's/^package \(.*\)/, the package \1/p' "$scratch/old") (--purge removes them)"
  fi
}

# The agent first, or it would tell its tasks' ends and start others.
stop_services() {
  if [ "$image" -eq 1 ]; then return 0; fi
  for daemon in bullmq agent master; do
    if [ -e "$UNITS/kaon-$daemon.service" ]; then quietly systemctl stop "kaon-$daemon.service"; fi
  done
  if [ "$tasks" -gt 0 ]; then say "stopping $tasks $(plural "$tasks" task) ..."; fi
  systemctl stop kaon.slice 2>/dev/null || true
}

remove_files() {
  grep -E '^(file|link|tree) ' "$scratch/old" >"$scratch/files" || true
  while read -r kind name; do
    rm -rf "$root$name" "$root$name.kaon-new" "$root$name.kaon-old"
  done <"$scratch/files"
}

# What only --purge takes: settings, state, users, the package of Redis.
remove_kept() {
  grep '^kept ' "$scratch/old" >"$scratch/files" || true
  if grep -q '^package ' "$scratch/old" && [ "$image" -eq 0 ]; then remove_packages; fi
  while read -r kind name; do rm -f "$root$name"; done <"$scratch/files"
  rm -rf "$root$SETTINGS" "$root$STATE"
  [ "$image" -eq 1 ] || rm -rf /run/kaon
  sed -n 's/^user //p' "$scratch/old" >"$scratch/users"
  while read -r user; do remove_user "$user"; done <"$scratch/users"
}

# Those that something else has come to need stay.
remove_packages() {
  packages=$(sed -n 's/^package //p' "$scratch/old")
  dependencies=$(sed -n 's/^dependency //p' "$scratch/old")
  # Names of packages have no blanks: splitting is what is wanted.
  # shellcheck disable=SC2086
  case $(package_manager) in
    apt-get)
      printf '%s\n' $packages $dependencies >"$scratch/packages"
      others=$(apt-get -qq --simulate purge $packages $dependencies 2>/dev/null |
        awk '$1 == "Purg" || $1 == "Remv" { print $2 }' | grep -vxF -f "$scratch/packages") || true
      if [ -n "$others" ]; then
        say "packages that came with Redis stay:" $others "need them"
        dependencies=''
      fi
      quietly env DEBIAN_FRONTEND=noninteractive apt-get -qq -y purge $packages $dependencies
      ;;
    # dnf takes what nothing needs any more by itself.
    dnf) quietly dnf -q -y remove $packages ;;
  esac
}

remove_user() {
  if [ "$image" -eq 0 ]; then
    if getent passwd "$1" >/dev/null; then quietly userdel "$1"; fi
    return 0
  fi
  for accounts in passwd shadow group gshadow; do
    [ ! -e "$root/etc/$accounts" ] || sed -i "/^$1:/d" "$root/etc/$accounts"
  done
}

# Deepest first; one that has something else in it stays.
remove_folders() {
  sed -n 's/^dir //p' "$scratch/old" | LC_ALL=C sort -r >"$scratch/files"
  while read -r name; do
    case $name/ in
      "$SETTINGS"/* | "$STATE"/*) [ "$purge" -eq 1 ] || continue ;;
    esac
    rmdir "$root$name" 2>/dev/null || true
  done <"$scratch/files"
  for name in "$root$UNITS"/kaon*; do
    if [ -e "$name" ]; then say "left, because it is not from here: $name"; fi
  done
}

# What is kept is written down, for a later installation or --purge.
leave_manifest() {
  if [ "$purge" -eq 1 ]; then return 0; fi
  sed -n -E '/^(config|template|kept|user|package|dependency|dir) /p' "$scratch/old" >"$scratch/wanted"
  : >"$scratch/left"
  while read -r kind name; do
    case $kind in
      dir) [ -d "$root$name" ] || continue ;;
    esac
    say "$kind $name" >>"$scratch/left"
  done <"$scratch/wanted"
  replace_file "$scratch/left" "$MANIFEST" 644
}

# -------------------------------------------------------------------------------------------------------------------

main() {
  parse_arguments "$@"
  # It speaks with the cluster's key; whose token is in the environment, and whether its file is there, is nothing to it.
  unset KAON_TOKEN KAON_TOKEN_FILE
  # The package is looked for beside this file; a script that comes by a pipe has none.
  here=''
  if [ -f "$0" ]; then here=$(cd "$(dirname "$0")" && pwd -P); fi
  # A user's PATH on Debian has no sbin folders, but some of what we look for is there.
  PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin
  trap cleanup EXIT
  # Without these, dash would die of the signal and leave the policy behind.
  trap 'exit 130' INT
  trap 'exit 143' TERM
  trap 'exit 129' HUP
  case $action:$roles in
    uninstall:*) uninstall_here ;;
    'install: dev')
      cd "$here"
      # It takes steps of its own, and each says what becomes of it.
      phase=finished
      install_dev
      ;;
    *) install_here ;;
  esac
}

main "$@"

#!/bin/sh
# The machine's end of test/vm/machine.ts: runs the scripts that come through a port of virtio-serial, one at a time.
#
# A line in: ID SECONDS SCRIPT. A line out: ID STATUS .STDOUT .STDERR, and STATUS 124 after those seconds. Scripts and outputs
# are in base64; the full stops keep an empty one from vanishing. The first line out after each boot is `ready BOOT-ID`.

set -eu

port=/dev/virtio-ports/kaon
scratch=/run/vm-guest
mkdir -p "$scratch"
until [ -e "$port" ]; do sleep 0.1; done
exec 3<>"$port"

echo "ready $(cat /proc/sys/kernel/random/boot_id)" >&3
while read -r id seconds script <&3; do
  echo "$script" | base64 -d >"$scratch/script"
  status=0
  timeout --kill-after=5 "$seconds" sh "$scratch/script" </dev/null >"$scratch/stdout" 2>"$scratch/stderr" 3>&- || status=$?
  echo "$id $status .$(base64 -w 0 "$scratch/stdout") .$(base64 -w 0 "$scratch/stderr")" >&3
done

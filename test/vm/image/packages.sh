#!/bin/sh
# Called by mmdebstrap with the folder of the new system: puts redis-server, and what it needs and is not there yet,
# into a folder that apt-get can install from without a network.

set -eu

root=$1
folder=$root/srv/packages
mkdir -p "$folder"
rm -f "$root"/var/cache/apt/archives/*.deb
APT_CONFIG=$MMDEBSTRAP_APT_CONFIG apt-get -qq -y --no-install-recommends --download-only install redis-server >/dev/null
mv "$root"/var/cache/apt/archives/*.deb "$folder"
cd "$folder"
for file in *.deb; do
  dpkg-deb --field "$file"
  printf 'Filename: ./%s\nSize: %s\nSHA256: %s\n\n' "$file" "$(stat -c %s "$file")" "$(sha256sum "$file" | cut -d ' ' -f 1)"
done >Packages

#!/usr/bin/env bash
# Unpacks the bundle beside this file; needs no network:
#
#   bash unpack.sh FOLDER [--pth] [--python PYTHON]
#
# FOLDER is new or empty. PYTHON is the one that has torch, python3 if not given. With --pth its
# site-packages get a line that names FOLDER: what the machine has then goes before the bundle.
# Without it, set the variables that are printed.
set -euo pipefail

refuse() {
  printf 'unpack: %s\n  found: %s\n  expected: %s\n' "$@" >&2
  exit 2
}

here=$(cd "$(dirname "$0")" && pwd)
usage='FOLDER [--pth] [--python PYTHON]'
folder='' pth='' python=python3
while [ $# -gt 0 ]; do
  case $1 in
    --pth) pth=yes && shift ;;
    --python)
      [ $# -ge 2 ] || refuse 'an option has no value' "$1" "$usage"
      python=$2 && shift 2
      ;;
    -*) refuse 'no such option' "$1" "$usage" ;;
    *)
      [ -z "$folder" ] || refuse 'more than one FOLDER' "$folder and $1" "$usage"
      folder=$1 && shift
      ;;
  esac
done
[ -n "$folder" ] || refuse 'FOLDER is missing' nothing "$usage"
if [ -e "$folder" ] && { [ ! -d "$folder" ] || [ -n "$(ls -A "$folder")" ]; }; then
  refuse 'FOLDER is there already' "$folder" 'a new or an empty folder'
fi
given=$python
python=$(command -v "$given") || refuse 'no such Python' "$given" 'the one that has torch'
# Absolute, but through no link: a virtual environment is known by its path.
python=$(cd "$(dirname "$python")" && pwd)/$(basename "$python")
found=$("$python" -c 'import platform, sys; print("%d.%d" % sys.version_info[:2], platform.machine())')
[ "$found" = '@PYTHON@ x86_64' ] || refuse 'the bundle is for another Python' "$found" '@PYTHON@ x86_64'

if ! (cd "$here" && sha256sum --check --quiet SHA256SUMS) >&2; then
  refuse 'a file of the bundle is missing or damaged' "$here" 'all files that SHA256SUMS names'
fi

mkdir -p "$(dirname "$folder")"
new=$(mktemp -d "$(dirname "$folder")/.raylab-XXXXXX")
trap 'rm -rf "$new"' EXIT
cat "$here"/raylab.tar.xz.* | "$python" -c '
import sys, tarfile
with tarfile.open(fileobj=sys.stdin.buffer, mode="r|xz") as archive:
    archive.extractall(sys.argv[1], filter="data")
' "$new"
for script in "$new"/site-packages/bin/*; do
  ! head -n 1 "$script" | grep -q '^#!python$' || sed -i "1s|.*|#!$python|" "$script"
done
chmod 755 "$new"
[ ! -d "$folder" ] || rmdir "$folder"
mv "$new" "$folder"
site=$(cd "$folder" && pwd)/site-packages

"$python" "$here/bundle_check.py" "$site" || echo 'unpack: see above what the machine lacks' >&2
if [ -n "$pth" ]; then
  place=$("$python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
  echo "$site" >"$place/raylab-bundle.pth"
  echo "wrote $place/raylab-bundle.pth"
else
  echo "export PYTHONPATH=$site\${PYTHONPATH:+:\$PYTHONPATH}"
fi
echo "export PATH=$site/bin:\$PATH"

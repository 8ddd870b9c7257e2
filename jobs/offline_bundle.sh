#!/usr/bin/env bash
# All that a GPU machine without a network lacks for raylab, from wheels:
#
#   jobs/offline_bundle.sh OUT [--python 3.12] [--have FILE] [--cuda 13.0] [--glibc 2.34] [--part-mib 64]
#
# The machine is Linux on x86-64 with glibc 2.34 or later, and has the packages of FILE, a list of
# NAME==VERSION (`pip list --format=freeze`); without it, those of jobs/offline_bundle/have.txt.
# OUT then holds an archive in parts of at most --part-mib MiB, their SHA-256 sums, a list of what is
# in it, and unpack.sh, which works without a network. Versions are those of constraints.txt, and for
# what that does not name the newest ones that fit. pip downloads from where it is configured to.
set -euo pipefail

root=$(cd "$(dirname "$0")/.." && pwd)
here=$root/jobs/offline_bundle

refuse() {
  printf 'offline_bundle: %s\n  found: %s\n  expected: %s\n' "$@" >&2
  exit 2
}

usage='OUT [--python 3.12] [--have FILE] [--cuda 13.0] [--glibc 2.34] [--part-mib 64]'
out='' version=3.12 have=$here/have.txt cuda=13.0 glibc=2.34 part=64
while [ $# -gt 0 ]; do
  case $1 in
    --python | --have | --cuda | --glibc | --part-mib)
      [ $# -ge 2 ] || refuse 'an option has no value' "$1" "$usage"
      case $1 in
        --python) version=$2 ;;
        --have) have=$2 ;;
        --cuda) cuda=$2 ;;
        --glibc) glibc=$2 ;;
        --part-mib) part=$2 ;;
      esac
      shift 2
      ;;
    -*) refuse 'no such option' "$1" "$usage" ;;
    *)
      [ -z "$out" ] || refuse 'more than one OUT' "$out and $1" "$usage"
      out=$1
      shift
      ;;
  esac
done
[ -n "$out" ] || refuse 'OUT is missing' nothing "$usage"
[[ $version =~ ^3\.[0-9]+$ ]] || refuse 'no version of Python' "--python $version" 'such as 3.12'
[[ $cuda =~ ^[0-9]+\.[0-9]$ ]] || refuse 'no version of CUDA' "--cuda $cuda" 'such as 13.0'
[[ $glibc =~ ^2\.[0-9]+$ ]] || refuse 'no version of glibc' "--glibc $glibc" 'such as 2.34'
[[ $part =~ ^[1-9][0-9]*$ ]] || refuse 'no size of a part' "--part-mib $part" 'MiB, such as 64'
if [ -e "$out" ] && { [ ! -d "$out" ] || [ -n "$(ls -A "$out")" ]; }; then
  refuse 'OUT is there already' "$out" 'a new or an empty folder'
fi

# pip evaluates markers for the Python that runs it: the machine's version, where there is one.
python=python3
! "python$version" -c '' 2>/dev/null || python=python$version

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
# dill, by which datasets names its tables, pickles whole modules that lie in no `site-packages`.
site=$work/folder/site-packages
mkdir -p "$work"/{stubs,source,wheels,made} "$site"
export LC_ALL=C PIP_DISABLE_PIP_VERSION_CHECK=1 SOURCE_DATE_EPOCH=315532800

"$python" "$here/prepare.py" stubs "$have" "$root/constraints.txt" "$work/stubs" >"$work/pins"

platforms=(--platform manylinux1_x86_64 --platform manylinux2010_x86_64 --platform manylinux2014_x86_64)
for minor in $(seq 5 "${glibc#2.}"); do platforms+=(--platform "manylinux_2_${minor}_x86_64"); done
target=(--only-binary=:all: --implementation cp --python-version "$version" "${platforms[@]}")

echo "raylab itself"
cp -r "$root"/{pyproject.toml,README.md,LICENSE,raylab} "$work/source"
"$python" -m pip wheel --quiet --no-deps --wheel-dir "$work/wheels" "$work/source"

echo "what the machine lacks (a minute)"
"$python" -m pip download --quiet --find-links "$work/stubs" --constraint "$work/pins" \
  --dest "$work/wheels" "${target[@]}" "$work"/wheels/raylab-*.whl
rm -f "$work"/wheels/*+machine-*.whl
"$python" -m pip install --quiet --no-index --no-deps --no-compile --no-warn-conflicts \
  --target "$site" "${target[@]}" "$work"/wheels/*.whl

{
  "$python" "$here/prepare.py" trim "$site" "$here/left_out.txt" "$cuda"
  echo "packages, for Python $version and CUDA $cuda:"
  (cd "$work/wheels" && ls | sed -E 's/^([^-]+)-([^-]+)-.*/  \1==\2/')
} >"$work/made/contents.txt"
grep -v '^  [a-z].*==' "$work/made/contents.txt"
"$python" "$here/bundle_check.py" "$site" --have "$have" --python "$version"

echo "packing (some minutes)"
tar --directory "$work/folder" --sort=name --mtime=@315532800 --owner=0 --group=0 --numeric-owner \
  --mode=u+rwX,go=rX --format=gnu --create site-packages |
  xz --x86 --lzma2=preset=9 --threads=2 --block-size=134217728 --stdout |
  split --bytes="${part}MiB" --numeric-suffixes --suffix-length=3 - "$work/made/raylab.tar.xz."
cp "$here/bundle_check.py" "$work/made"
sed "s/@PYTHON@/$version/" "$here/unpack.sh" >"$work/made/unpack.sh"
(cd "$work/made" && sha256sum ./* >"$work/sums" && mv "$work/sums" SHA256SUMS)

mkdir -p "$out"
mv "$work"/made/* "$out"
echo "$out:"
(cd "$out" && wc --bytes ./* | sed 's/^/  /')
echo "there: bash unpack.sh FOLDER"

#!/bin/bash
# datasets 5.2.0 with dill 0.4.0: `Dataset.from_list` fails if the packages were installed by `pip
# install --target` into a folder of any other name than `site-packages`.
#
# A good guess: packages work from every folder that PYTHONPATH names; `pip install --target` is the
# usual way to bring them to a machine without a network, or to the nodes of a cluster.
# What happens: a data set is given a fingerprint with dill, which pickles a module by reference only
# where its path says that it is an installed one (dill/_dill.py, `_is_builtin_module`: below the prefix
# of Python, or with `site-packages` in it). Any other module is taken for the user's own and is
# pickled by content: of pyarrow 26.0.1 this ends in an error about a type that it holds.
# What helps: name the folder FOLDER/site-packages.
#
# Seen on 2026-11-30 with Python 3.11:
#   in packages: PicklingError: Can't pickle <class 'MonthDayNano'>: it's not found as
#   builtins.MonthDayNano
#   in site-packages: {'a': 1}
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
python="$folder/venv/bin/python"
"$python" -m pip install --quiet --target "$folder/packages" \
    "datasets==5.2.0" "dill==0.4.0" "pyarrow==26.0.1"
cat > "$folder/tried.py" <<'PYTHON'
import datasets

try:
    found = str(datasets.Dataset.from_list([{"a": 1}])[0])
except Exception as error:
    found = f"{type(error).__name__}: {error}"
print(found)
PYTHON
export HF_DATASETS_DISABLE_PROGRESS_BARS=1
first=$(PYTHONPATH="$folder/packages" "$python" -W ignore "$folder/tried.py" | tail -n 1)
mkdir "$folder/other"
mv "$folder/packages" "$folder/other/site-packages"
second=$(PYTHONPATH="$folder/other/site-packages" "$python" -W ignore "$folder/tried.py" | tail -n 1)
echo "in packages: $first"
echo "in site-packages: $second"
case "$first" in
    *PicklingError*MonthDayNano*) ;;
    *) echo "the behaviour has changed"; exit 1 ;;
esac
test "$second" = "{'a': 1}"

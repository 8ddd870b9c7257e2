"""Whether a bundle has all that its packages need, on the machine that it is for.

    python bundle_check.py SITE                              on that machine
    python bundle_check.py SITE --have FILE --python 3.12    elsewhere: FILE lists its packages

Model: from raylab on, each package of the folder SITE names what it needs; that must be in SITE or
on the machine, in a version that fits. Needs of the machine's own packages are not followed.
Invariant: nothing is written. The exit status is 1 if something is missing or does not fit.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Mapping
from importlib.metadata import Distribution, distributions
from pathlib import Path
from typing import Any

try:
    from packaging.markers import default_environment
    from packaging.requirements import Requirement
except ImportError:
    from pip._vendor.packaging.markers import default_environment  # type: ignore[no-redef]
    from pip._vendor.packaging.requirements import Requirement  # type: ignore[no-redef]

_LINE = re.compile(r"([A-Za-z0-9][A-Za-z0-9._-]*)==([^\s;]+)")
_LINUX = {
    "os_name": "posix",
    "sys_platform": "linux",
    "platform_system": "Linux",
    "platform_machine": "x86_64",
    "implementation_name": "cpython",
    "platform_python_implementation": "CPython",
}


def normalised(name: str) -> str:
    """The one spelling of a package's name."""
    return re.sub(r"[-_.]+", "-", name).lower()


def read_have(file: Path) -> dict[str, str]:
    """The versions of a machine's packages by normalised name, of a list `NAME==VERSION`.

    Exits with status 2 if the file cannot be read, or has another line.
    """
    found = {}
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise SystemExit(refused(f"the list of packages cannot be read: {error}")) from None
    for number, line in enumerate(lines, 1):
        text = line.partition("#")[0].strip()
        match = _LINE.fullmatch(text)
        if match:
            found[normalised(match[1])] = match[2]
        elif text:
            where = f"{file}, line {number}"
            todo = "make the list with `pip list --format=freeze` on the machine"
            raise SystemExit(
                refused(f"{where}\n  found: {text}\n  expected: NAME==VERSION\n  to do: {todo}")
            )
    return found


def refused(problem: str) -> int:
    """Print what is wrong with the input; the exit status."""
    print(f"offline_bundle: {problem}", file=sys.stderr)
    return 2


def bundled(site: Path) -> dict[str, Distribution]:
    """The packages below `site` by normalised name."""
    return {normalised(d.metadata["Name"]): d for d in distributions(path=[str(site)])}


def problems(
    bundle: Mapping[str, Distribution], machine: Mapping[str, str], python: str | None = None
) -> list[str]:
    """What the packages of `bundle` need and do not find, for the Python that runs or `python`."""
    environment: dict[str, Any] = {**default_environment(), **_LINUX}
    if python:
        environment |= {"python_version": python, "python_full_version": f"{python}.0"}
    found, seen = [], set()
    waiting: list[tuple[str, str]] = [("raylab", "")]
    while waiting:
        name, extra = waiting.pop()
        if (name, extra) in seen or name not in bundle:
            continue
        seen.add((name, extra))
        for line in bundle[name].requires or ():
            need = Requirement(line)
            if need.marker and not need.marker.evaluate({**environment, "extra": extra}):
                continue
            key = normalised(need.name)
            version = bundle[key].version if key in bundle else machine.get(key)
            if version is None:
                found.append(f"{name} needs {need.name}, which is missing")
            elif not need.specifier.contains(version.partition("+")[0], prereleases=True):
                found.append(f"{name} needs {need.name}{need.specifier}, there is {version}")
            waiting += [(key, ""), *((key, each) for each in need.extras)]
    return sorted(set(found))


def main() -> int:
    """Print the problems; the exit status."""
    parser = argparse.ArgumentParser()
    parser.add_argument("site", type=Path)
    parser.add_argument("--have", type=Path)
    parser.add_argument("--python")
    options = parser.parse_args()
    bundle = bundled(options.site)
    if options.have:
        machine = read_have(options.have)
    else:
        there = [d for d in distributions() if Path(str(d.locate_file(""))) != options.site]
        machine = {normalised(d.metadata["Name"]): d.version for d in there if d.metadata["Name"]}
    found = problems(bundle, machine, options.python)
    for problem in found:
        print(f"offline_bundle: {problem}", file=sys.stderr)
    if twice := sorted(set(bundle) & set(machine)):
        print(f"in the bundle and on the machine: {', '.join(twice)}")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())

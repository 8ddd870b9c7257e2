"""Steps of jobs/offline_bundle.sh that are more than a command.

    python prepare.py stubs HAVE CONSTRAINTS DIRECTORY    prints constraints
    python prepare.py trim SITE LEFT_OUT CUDA             prints what was left out, and the sizes

Model: for each package that the machine has, `stubs` makes an empty wheel of the machine's version
(as `VERSION+machine`, so that no index has it) and pins it; pip then resolves raylab's needs
against that machine, and downloads nothing of it. `trim` deletes what raylab does not use, and
what would differ from one run to the next.
Invariant: both leave the same files for the same input.
"""

from __future__ import annotations

import re
import shutil
import sys
from pathlib import Path
from zipfile import ZipFile

from bundle_check import normalised, read_have, refused

_WHEEL = "Wheel-Version: 1.0\nGenerator: raylab\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
_OF_THE_RUN = ("RECORD", "INSTALLER", "REQUESTED", "direct_url.json")
_LARGEST = 15


def stubs(have: Path, constraints: Path, directory: Path) -> None:
    """Make empty wheels of the packages in `have`; print a line of constraints for each package."""
    machine = read_have(have)
    for name, version in machine.items():
        pinned = f"{version.partition('+')[0]}+machine"
        stem = f"{name.replace('-', '_')}-{pinned}"
        with ZipFile(directory / f"{stem}-py3-none-any.whl", "w") as wheel:
            about = f"Metadata-Version: 2.1\nName: {name}\nVersion: {pinned}\n"
            wheel.writestr(f"{stem}.dist-info/METADATA", about)
            wheel.writestr(f"{stem}.dist-info/WHEEL", _WHEEL)
            wheel.writestr(f"{stem}.dist-info/RECORD", "")
        print(f"{name}=={pinned}")
    for line in constraints.read_text(encoding="utf-8").splitlines():
        name = line.partition("==")[0]
        if "==" in line and normalised(name) not in machine:
            print(line)


def trim(site: Path, left_out: Path, cuda: str) -> int:
    """Delete what is not needed below `site`; print it and the sizes; return the exit status."""
    libraries = sorted(site.glob("bitsandbytes/libbitsandbytes_*.so"))
    kept = {f"libbitsandbytes_{kind}.so" for kind in ("cpu", f"cuda{cuda.replace('.', '')}")}
    there = {library.name for library in libraries}
    if libraries and not kept <= there:
        known = (re.fullmatch(r"libbitsandbytes_cuda(\d+)(\d)\.so", name) for name in there)
        versions = sorted(f"{match[1]}.{match[2]}" for match in known if match)
        return refused(
            f"bitsandbytes has no library for this CUDA\n  found: --cuda {cuda}\n"
            f"  expected: one of {', '.join(versions)}"
        )
    lines = (line.strip() for line in left_out.read_text(encoding="utf-8").splitlines())
    patterns = [line for line in lines if line and not line.startswith("#")]
    before = _size(site)
    for pattern in patterns:
        _delete(pattern, sorted(site.glob(pattern)))
    _delete(
        f"bitsandbytes for other than CUDA {cuda}", [x for x in libraries if x.name not in kept]
    )
    for name in _OF_THE_RUN:
        for file in site.glob(f"*.dist-info/{name}"):
            file.unlink()
    for script in sorted(site.glob("bin/*")):
        _name_no_interpreter(script)
    print(f"folder: {_mb(_size(site))}, before: {_mb(before)}; the largest:")
    sizes = {path.name: _size(path) for path in site.iterdir()}
    for name in sorted(sizes, key=lambda each: (-sizes[each], each))[:_LARGEST]:
        print(f"  {_mb(sizes[name])}  {name}")
    return 0


def _delete(what: str, paths: list[Path]) -> None:
    total = sum(map(_size, paths))
    for path in paths:
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()
    if paths:
        print(f"left out: {_mb(total)}  {what}")


def _size(path: Path) -> int:
    files = [path] if path.is_file() else path.rglob("*")
    return sum(file.stat().st_size for file in files if file.is_file())


def _mb(size: int) -> str:
    return f"{size / 1e6:6.1f} MB"


def _name_no_interpreter(script: Path) -> None:
    """unpack.sh writes the first line again, with the Python of the machine."""
    first, _, rest = script.read_bytes().partition(b"\n")
    if first.startswith(b"#!") and b"python" in first:
        script.write_bytes(b"#!python\n" + rest)


def main(step: str, *paths: str) -> int:
    """One step; the exit status."""
    if step == "stubs":
        have, constraints, directory = map(Path, paths)
        stubs(have, constraints, directory)
        return 0
    site, left_out, cuda = paths
    return trim(Path(site), Path(left_out), cuda)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))

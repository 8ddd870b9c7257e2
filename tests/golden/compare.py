"""Compare two recordings of record.py: python tests/golden/compare.py OLD NEW.

Every difference is one line: the part, the key, the old value, the new value and its relative size.
The exit status is 0 where nothing differs, 1 where something does, and 2 where a folder lacks a
recording.

--ulp N and --relative X allow floats to differ by so much. Such differences are counted by name at
the end, with the largest size, and do not count for the exit status. One ulp is the distance of
two neighbouring float64 numbers. Values that raylab computes in float32 are written as float64:
two neighbours among them are 2^29 ulp apart, so give --relative 1.2e-7 for these.
"""

from __future__ import annotations

import argparse
import json
import math
import struct
import sys
from collections import defaultdict
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ABOUT = "about"
LONGEST = 160
"""The most characters of a value that are shown."""


@dataclass(frozen=True)
class Difference:
    """One difference between two recordings."""

    place: tuple[str, ...]
    """The part, then the keys that lead to the value."""
    words: str
    relative: float | None = None
    """|old - new| over the larger magnitude, of two finite floats."""
    ulps: int | None = None
    """How many float64 numbers lie between two finite floats, plus one."""

    def __str__(self) -> str:
        return f"{' / '.join(self.place)}: {self.words}"

    def within(self, ulps: int, relative: float) -> bool:
        """Whether both values are floats that differ by no more than one of the two bounds."""
        if self.ulps is None or self.relative is None:
            return False
        return self.ulps <= ulps or self.relative <= relative


def find_differences(
    old: Any, new: Any, place: tuple[str, ...], ignored: Collection[str] = ()
) -> Iterator[Difference]:
    """Every difference of two JSON values, bit for bit; 0.0 and -0.0 differ, and so do 1 and 1.0.

    ignored: keys whose values are not compared.
    """
    if isinstance(old, dict) and isinstance(new, dict):
        for key in old | new:
            if key in ignored:
                continue
            if key not in new:
                yield Difference((*place, key), f"is missing; it was {_shown(old[key])}")
            elif key not in old:
                yield Difference((*place, key), f"is new: {_shown(new[key])}")
            else:
                yield from find_differences(old[key], new[key], (*place, key), ignored)
    elif isinstance(old, list) and isinstance(new, list):
        yield from _in_lists(old, new, place, ignored)
    elif type(old) is not type(new) or repr(old) != repr(new):
        yield _changed(old, new, place)


def _in_lists(
    old: list, new: list, place: tuple[str, ...], ignored: Collection[str]
) -> Iterator[Difference]:
    """Differences of two lists, entry by entry; of names (text), those that came and went."""
    if all(isinstance(item, str) for item in old + new):
        gone, come = sorted(set(old) - set(new)), sorted(set(new) - set(old))
        yield from (Difference(place, f"lacks {_shown(item)}") for item in gone)
        yield from (Difference(place, f"has the new entry {_shown(item)}") for item in come)
        if not gone and not come and old != new:
            yield Difference(place, "has the same entries in another order or number")
        return
    if len(old) != len(new):
        yield Difference(place, f"had {len(old)} entries and has {len(new)}")
    for number, (before, after) in enumerate(zip(old, new, strict=False)):
        name = f"{number} {before['name']}" if isinstance(before, dict) and "name" in before else ""
        yield from find_differences(before, after, (*place, name or str(number)), ignored)


def _changed(old: Any, new: Any, place: tuple[str, ...]) -> Difference:
    words = f"was {_shown(old)} and is {_shown(new)}"
    if not (isinstance(old, float) and isinstance(new, float)):
        return Difference(place, words)
    if not (math.isfinite(old) and math.isfinite(new)):
        return Difference(place, words)
    relative = abs(old - new) / max(abs(old), abs(new)) if old != new else 0.0
    ulps = abs(_rank(old) - _rank(new)) or 1  # 0.0 and -0.0 have one rank
    return Difference(place, f"{words} (relative {relative:.2g}, {ulps} ulp)", relative, ulps)


def _rank(value: float) -> int:
    """The place of a float64 in the order of all of them; 0.0 is at 0."""
    (bits,) = struct.unpack("<q", struct.pack("<d", value))
    return bits if bits >= 0 else -(bits & 0x7FFF_FFFF_FFFF_FFFF)


def _shown(value: Any) -> str:
    if isinstance(value, dict):
        return f"{len(value)} values"
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}... ({len(text)} characters)"


def read_recording(folder: Path) -> dict[str, Any]:
    """The documents of a recording by part."""
    files = sorted(folder.glob("*.json"))
    return {file.stem: json.loads(file.read_text(encoding="utf-8")) for file in files}


def summary(found: Sequence[Difference], title: str) -> list[str]:
    """How many floats differ under each name, and by how much at most."""
    groups = defaultdict(list)
    for one in found:
        if one.ulps is not None:
            name = next(word for word in reversed(one.place) if not word.isdigit())
            groups[one.place[0], name].append(one)
    lines = [
        f"  {part}, {name}: {len(group)} values, at most {max(one.ulps for one in group)} ulp, "
        f"relative {max(one.relative for one in group):.2g}"
        for (part, name), group in sorted(groups.items())
    ]
    return [title, *lines] if lines else []


def _arguments(words: Sequence[str] | None) -> argparse.Namespace:
    formatter = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=formatter)
    parser.add_argument("old", type=Path, metavar="OLD")
    parser.add_argument("new", type=Path, metavar="NEW")
    parser.add_argument("--only", nargs="+", metavar="PART", help="compare these parts alone")
    parser.add_argument("--ulp", type=int, default=0, metavar="N")
    parser.add_argument("--relative", type=float, default=-1.0, metavar="X")
    parser.add_argument(
        "--ignore", nargs="+", default=[], metavar="KEY", help="leave out all values of this name"
    )
    return parser.parse_args(words)


def main(words: Sequence[str] | None = None) -> int:
    """Print the differences; the exit status."""
    asked = _arguments(words)
    old, new = read_recording(asked.old), read_recording(asked.new)
    for folder, recording in ((asked.old, old), (asked.new, new)):
        missing = sorted({ABOUT, *(asked.only or ())} - set(recording))
        if missing:
            print(f"{folder} has no {missing[0]}.json: record it with record.py", file=sys.stderr)
            return 2
    machines = list(find_differences(old.pop(ABOUT), new.pop(ABOUT), (ABOUT,), ("code", "commit")))
    for one in machines:
        print(f"note: the recordings were made on different machines or libraries. {one}")
    parts = asked.only or sorted(old | new)
    chosen = [{part: made[part] for part in parts if part in made} for made in (old, new)]
    found = list(find_differences(*chosen, (), asked.ignore))
    small = [one for one in found if one.within(asked.ulp, asked.relative)]
    large = [one for one in found if not one.within(asked.ulp, asked.relative)]
    print("\n".join(map(str, large)), end="\n" if large else "")
    lines = summary(small, "floats that differ within the bounds given:")
    lines += summary(large, "floats that differ beyond the bounds given:")
    print("\n".join(lines), end="\n" if lines else "")
    within = f", and {len(small)} within the bounds given" if small else ""
    print(f"{', '.join(parts)}: {len(large) or 'no'} differences{within}")
    return 1 if large else 0


if __name__ == "__main__":
    sys.exit(main())

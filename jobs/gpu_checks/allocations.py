"""An oracle for memory: every allocation that torch's CPU allocator makes, counted at its peak."""

from __future__ import annotations

import gc
from collections.abc import Callable
from typing import Any

from torch._C._profiler import _EventType
from torch.profiler import ProfilerActivity, profile


def peak_of(work: Callable[[], Any]) -> tuple[Any, int]:
    """(what `work` gives, the most bytes that it held at once of what it allocated itself)."""
    gc.collect()
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        result = work()
    waiting = list(profiler.profiler.kineto_results.experimental_event_tree())
    events = []
    while waiting:
        event = waiting.pop()
        waiting += event.children
        if event.tag == _EventType.Allocation:
            events.append((event.start_time_ns, event.typed[1].ptr, event.typed[1].alloc_size))
    live: dict[int, int] = {}
    total = top = 0
    for _, place, size in sorted(events, key=lambda event: event[0]):
        # What was there before may be freed meanwhile: that is not counted.
        total += size if size > 0 else -live.pop(place, 0)
        if size > 0:
            live[place] = size
        top = max(top, total)
    return result, top

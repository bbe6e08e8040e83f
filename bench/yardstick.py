"""A fixed piece of pure Python, by which costs of another machine or another hour can be compared.

NEVER CHANGE IT: every bound that was measured in yardsticks would lose its meaning. It does, over and over, what a
pipeline in Python does: makes small objects, keys and texts, looks them up in dictionaries of tens of thousands, sums,
sorts, and lets them go. Its result is fixed, too, so that a part that was left out would be seen.

Run as a process of its own, it prints the CPU seconds that it took, start-up not counted. Cycles are not collected
meanwhile, as in a worker.
"""

import gc
import sys
import time

RESULT = 2_254_141_205
_ROUNDS = 12
_ROWS = 40_000
_MASK = 0xFFFFFFFF


def yardstick() -> int:
    """One to two seconds on a machine of 2025."""
    state, digest = 1, 0
    held: dict[str, tuple[int, str, list[int]]] = {}
    for turn in range(_ROUNDS):
        fresh = []
        for number in range(_ROWS):
            state = (state * 1_103_515_245 + 12_345) & 0x7FFFFFFF
            key = f"row-{state % 60_000:09}"
            before = held.get(key)
            counts = [number & 7, turn, state & 0xFF] if before is None else [*before[2][1:], state & 0xFF]
            row = (state, key[4:], counts)
            held[key] = row
            fresh.append(row)
        by_tail: dict[str, int] = {}
        for value, name, counts in fresh:
            by_tail[name[-3:]] = by_tail.get(name[-3:], 0) + sum(counts) + (value >> 16)
        text = ",".join(f"{name}:{total}" for name, total in sorted(by_tail.items()))
        for byte in text.encode():
            digest = (digest * 31 + byte) & _MASK
        if len(held) > 50_000:
            held = {key: row for key, row in held.items() if row[0] & 3}
    return digest


def main() -> None:
    gc.disable()
    began = time.process_time()
    result = yardstick()
    took = time.process_time() - began
    if result != RESULT:
        raise SystemExit(f"the yardstick has changed: it gave {result}")
    sys.stdout.write(f"{took:.6f}\n")


if __name__ == "__main__":
    main()

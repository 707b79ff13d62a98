# SPDX-License-Identifier: MIT OR Apache-2.0
"""The placements, written a second time from their rules and not from the Rust code.

Reads cases, one JSON object a line: placement, members [[identity, weight]], keys (hex), orders (for each key the members in
the order in which to try them). Answers with the first difference, or with the number of cases that agree.
"""

import bisect
import json
import sys

import xxhash

MASK = (1 << 64) - 1
ORDINARY, VNODES, SLOTS = 100, 512, 65537


def xxh3(data):
    return xxhash.xxh3_64_intdigest(data)


def mix(z):
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & MASK
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & MASK
    return z ^ (z >> 31)


SCORE_SALT = int.from_bytes(b"zonal-h1", "big")


def ring(members):
    points = []
    for number, (identity, weight) in enumerate(members):
        seed = xxh3(identity.encode())
        count = max((2 * VNODES * weight + ORDINARY) // (2 * ORDINARY), 1 if weight else 0)
        for j in range(1, count + 1):
            points.append((mix((seed + j * 0x9E3779B97F4A7C15) & MASK), identity.encode(), j, number))
    points.sort()
    return [point[0] for point in points], [point[3] for point in points]


def envoy(members):
    total = float(sum(weight for _, weight in members))
    hosts = sorted((identity, number, weight / total) for number, (identity, weight) in enumerate(members) if weight)
    least = min([1.0] + [weight for _, _, weight in hosts])
    scale = min(-(-(least * 1024.0) // 1.0) / least, 262144.0)
    current = target = 0.0
    points = []
    for order, (identity, number, weight) in enumerate(hosts):
        target += scale * weight
        i = 0
        while current < target:
            points.append((xxhash.xxh64_intdigest(f"{identity}_{i}".encode()), order, number))
            i += 1
            current += 1.0
    points.sort()
    return [point[0] for point in points], [point[2] for point in points]


def around(points, key, count):
    positions, owners = points
    start = bisect.bisect_left(positions, key)
    order = []
    for owner in owners[start:] + owners[:start]:
        if owner not in order:
            order.append(owner)
            if len(order) == count:
                break
    return order


def log2_table():
    table = []
    for step in range(1024):
        x, log = (1 << 62) + (step << 52), 0
        for _ in range(48):
            x = (x * x) >> 62
            log <<= 1
            if x >> 63:
                x >>= 1
                log |= 1
        table.append(log)
    return table + [1 << 48]


LOG2 = log2_table()


def negative_log2(x):
    if x == MASK:
        return 0
    x += 1
    zeros = 64 - x.bit_length()
    fraction = ((x << zeros) << 1) & MASK
    step, rest = fraction >> 54, ((fraction << 10) & MASK) >> 40
    log = LOG2[step] + (((LOG2[step + 1] - LOG2[step]) * rest) >> 24)
    return ((zeros + 1) << 48) - log


def rendezvous(members, key):
    even = len({weight for _, weight in members}) == 1
    ranks = []
    for number, (identity, weight) in enumerate(members):
        if weight:
            score = mix(key ^ xxh3(identity.encode()) ^ SCORE_SALT)
            cost = 0 if even else (negative_log2(score) << 9) // weight
            ranks.append((cost, -score, number))
    return [number for _, _, number in sorted(ranks)]


def maglev(members):
    turns = []
    for number, (identity, weight) in enumerate(members):
        seed = xxh3(identity.encode())
        turns.append([number, (seed * SLOTS) >> 64, ((mix(seed ^ SCORE_SALT) * (SLOTS - 1)) >> 64) + 1, weight])
    return filled(turns)


def envoy_maglev(members):
    total = float(sum(weight for _, weight in members))
    turns = []
    for identity, number, weight in sorted((identity, number, weight) for number, (identity, weight) in enumerate(members)):
        offset, skip = (xxhash.xxh64_intdigest(identity.encode(), seed) for seed in (0, 1))
        turns.append([number, offset % SLOTS, skip % (SLOTS - 1) + 1, weight / total])
    return filled(turns)


def filled(turns):
    slots, free = [None] * SLOTS, SLOTS
    turns = [turn + [0, 0] for turn in turns]
    heaviest = max([turn[3] for turn in turns] + [0])
    turn = 0
    while heaviest and free:
        turn += 1
        for state in turns:
            number, offset, skip, weight, n, target = state
            if not weight or turn * weight < target:
                continue
            state[5] += heaviest
            while slots[(offset + skip * n) % SLOTS] is not None:
                n += 1
            slots[(offset + skip * n) % SLOTS] = number
            state[4] = n + 1
            free -= 1
            if not free:
                break
    return slots


def order(case):
    members = case["members"]
    count = sum(1 for _, weight in members if weight)
    placement = case["placement"]
    tables = {"ring/v1": ring, "ring/envoy": envoy, "maglev/v1": maglev, "maglev/envoy": envoy_maglev}
    table = tables.get(placement, lambda _: None)(members)
    for text in case["keys"]:
        key = xxhash.xxh64_intdigest(bytes.fromhex(text)) if placement.endswith("/envoy") else xxh3(bytes.fromhex(text))
        if placement == "rendezvous/v1":
            yield rendezvous(members, key)
        elif placement.startswith("maglev/"):
            start = (key * SLOTS) >> 64 if placement == "maglev/v1" else key % SLOTS
            yield list(dict.fromkeys(table[start:] + table[:start]))
        else:
            yield around(table, key, count)


def main():
    cases = [json.loads(line) for line in open(sys.argv[1], encoding="utf-8")]
    for case in cases:
        for key, ours, theirs in zip(case["keys"], order(case), case["orders"], strict=True):
            if ours != theirs:
                sys.exit(f"{case['placement']}, key {key}, members {case['members']}: {ours} here, {theirs} in Rust")
    print(f"{len(cases)} cases agree")


main()

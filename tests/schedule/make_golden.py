"""Writes golden.tsv: what two independent cron libraries answer for the same questions.

    pip install croniter==7.0.0 cronsim==2.8 tzdata==2026.6
    PYTHONTZPATH= python tests/schedule/make_golden.py > tests/schedule/golden.tsv

PYTHONTZPATH is emptied so that the zone data are those of the tzdata package, not of the machine.
One line: zone, expression, start, answer of croniter, answer of cronsim (`=` when it is the same, `!` when refused).
An answer is the next four instants in UTC. The test says which differences are allowed and why.
"""

import random
from datetime import datetime, timezone
from zoneinfo import ZoneInfo

from croniter import croniter
from cronsim import CronSim

COUNT = 4

# Half a day or an hour before a clock change, and plain days.
STARTS = [
    ("America/New_York", "2025-03-08T12:30"),
    ("America/New_York", "2025-11-01T12:30"),
    ("America/New_York", "2025-03-09T00:50"),
    ("America/New_York", "2025-11-02T00:50"),
    ("Europe/Lisbon", "2027-03-27T12:30"),
    ("Europe/Lisbon", "2026-10-24T12:30"),
    ("America/Sao_Paulo", "2018-11-03T12:30"),
    ("America/Sao_Paulo", "2018-02-17T12:30"),
    ("America/Sao_Paulo", "2026-12-31T12:30"),
    ("Africa/Cairo", "2025-04-24T12:30"),
    ("Africa/Cairo", "2025-10-30T12:30"),
    ("Australia/Lord_Howe", "2025-10-04T12:30"),
    ("Australia/Lord_Howe", "2025-04-05T12:30"),
    ("Asia/Kathmandu", "2028-02-28T12:30"),
    ("UTC", "2026-11-20T12:30"),
]

CHOSEN = [
    "* * * * *", "0 * * * *", "*/30 * * * *", "7 */2 * * *", "0 8 * * *", "0 8 * * 1-5", "0 8 * * MON-FRI",
    "0 2,14 * * *", "0 1,14 * * *", "30 1 * * *", "30 2 * * *", "15 0 * * *", "0 0 * * *", "59 23 * * *",
    "*/15 0-3 * * *", "0 9-17 * * 1-5", "0 0 1 * *", "0 0 L * *", "30 4 1,15 * 5", "0 0 13 * 5", "0 12 29 2 *",
    "0 0 31 * *", "0 0 * * 0", "0 0 * * 7", "0 0 * * 5#2", "0 0 1 1 *", "45 3 */5 * *", "0 0 */2 * 1", "5-10 1-2 * 3,11 0",
]


def field(low, high, dice):
    def value():
        return dice.randint(low, high)

    def item():
        kind = dice.random()
        first, last = sorted((value(), value()))
        if kind < 0.6 or first == last:
            return str(value())
        return f"{first}-{last}" if kind < 0.85 else f"{first}-{last}/{dice.randint(1, max(1, high // 3))}"

    kind = dice.random()
    if kind < 0.35:
        return "*"
    if kind < 0.5:
        return f"*/{dice.randint(2, high // 2)}"
    return ",".join(item() for _ in range(dice.choice([1, 1, 1, 2, 3])))


def expressions():
    dice = random.Random(1970)
    drawn = []
    while len(drawn) < 41:
        minute, hour = field(0, 59, dice), field(0, 23, dice)
        of_month, month = dice.choice(["*", "*", field(1, 28, dice)]), dice.choice(["*", "*", "*", field(1, 12, dice)])
        of_week = dice.choice(["*", "*", field(0, 6, dice)])
        drawn.append(f"{minute} {hour} {of_month} {month} {of_week}")
    return CHOSEN + drawn


def text(moments):
    return " ".join(moment.astimezone(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ") for moment in moments)


def by_croniter(expression, start):
    walk = croniter(expression, start)
    return text([walk.get_next(datetime) for _ in range(COUNT)])


def by_cronsim(expression, start):
    try:
        walk = CronSim(expression, start)
        return text([next(walk) for _ in range(COUNT)])
    except Exception:
        return "!"


def main():
    for expression in expressions():
        for zone, local in STARTS:
            start = datetime.fromisoformat(local).replace(tzinfo=ZoneInfo(zone))
            first, second = by_croniter(expression, start), by_cronsim(expression, start)
            moment = start.astimezone(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
            print(zone, expression, moment, first, "=" if first == second else second, sep="\t")


if __name__ == "__main__":
    main()

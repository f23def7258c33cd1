"""Alarms that hold at all times at once: bets against what should be true, group by group."""

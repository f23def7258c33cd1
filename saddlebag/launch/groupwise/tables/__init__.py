"""The tables of a groupwise recipe that stand for one thing each."""

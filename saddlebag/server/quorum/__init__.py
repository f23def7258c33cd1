"""Rounds that close at a quorum: what has come is merged by weights and age, by a log that replays to the same bits."""

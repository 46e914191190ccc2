"""Schedules: how groups of stages become loop nests for a target."""

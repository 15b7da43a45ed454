"""The parts of `drumbeat.cas`: records and their keys, observations, and the budget of one call."""

from __future__ import annotations

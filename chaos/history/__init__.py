"""Histories: what processes were told while the system was broken on purpose, checked offline against what may be."""

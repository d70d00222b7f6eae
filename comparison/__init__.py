"""The parts of compare.py: work, measurements, tables, charts, and the guard."""

"""What compare.py is made of: work, measurements, statistics, tables, charts, and the guard."""

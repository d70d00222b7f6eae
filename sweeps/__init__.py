"""The parts of sweep.py: its flags, the file that keeps the runs, the table and the charts."""

"""sweep.py's parts: its flags, the runs, the file that keeps them, the table and the pictures."""

"""What compare.py is made of: the work, the measurements of it, their statistics, and how they are shown."""

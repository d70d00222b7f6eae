"""Code that several commands use: flags, errors, files, child processes, pictures, charts."""

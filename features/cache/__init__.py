"""What makes a number current, and how it lies on the disk: keys, store, files."""

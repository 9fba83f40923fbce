"""Data sets in files of every kind: recognised, read, and written as another."""
